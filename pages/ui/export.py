"""The page Export: an export prepared in the background, and what was measured of it: proof, speed, files."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from fpgm_core import Network, Plan, PrunedNetwork
from fpgm_core.data import DATA, load_images, sample_images
from fpgm_core.export import ARTEFACTS, Bundle, ExportConfig, export_work, most_measured, zip_bundle
from fpgm_core.recovery import RecoveryContext, get_recovery_method
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.progress import Work, within
from fpgm_core.timing import RUNTIMES, speed_told
from pages.ui.components.telling import plain, without_places
from pages.ui.panels.sealed import sealed_report
from pages.ui.session.networks import network_key, why_unmeasured
from pages.ui.session.recovered import recovered_networks, trained_networks
from pages.ui.session.session import Session, callback

NUM_SAMPLES = 64  # images that the forms are compared on
CHOOSE = "choose"  # sealed is measured only where a report is asked for
TOP5 = "choose, top-5"
_JOB = "export"
_RECOVERED = 0.1  # the share of the whole that recovering takes, roughly: for progress alone


def export_page(session: Session) -> None:
    """What is exported, the button, the result of the plan on screen; and its report on the sealed half."""
    network, plan, method = session.network, session.state.plan, session.state.method
    if network.prune(plan).prunes_nothing:
        st.info("This plan prunes nothing: the compact network will be the dense one. Move a bar on Explore first.")
    if (why := why_unmeasured(network)) is not None:
        st.warning(f"{why}. Its files can be written, proved equal and timed all the same.")
    key = ("export", *network_key(network), plan.key, method)
    job = session.jobs.get(_JOB, key)
    st.markdown(_subject(session))
    st.button(
        "Prepare the export" if job is None or job.error else "Prepare again",
        key="prepare",
        type="primary",
        disabled=job is not None and not job.done,
        on_click=callback(lambda session: _begin(session, key)),
    )
    if job is None or not job.done:
        st.caption(
            "First the compact network is proved equal to the masked one; then each file is written, read back, "
            "compared, and measured on the choose half. Nothing that failed is offered."
        )
        st.dataframe(pd.DataFrame({"what will be in it": [a.title for a in ARTEFACTS.values()]}), hide_index=True)
    elif job.error:
        st.error(plain(job.error))
    elif job.result is not None:
        _result(job.result, plan.model)
    sealed_report(session)


def _subject(session: Session) -> str:
    """What Export takes, before it runs: the plan's network on the rung of the bar."""
    record, plan = get_recovery_method(session.state.method), session.state.plan
    cost, dense = session.network.cost(plan), session.network.dense_cost
    said = f"Takes **{session.network.title}**, {1 - cost.macs / dense.macs:.1%} of its MACs cut, on the rung "
    said += f"**{record.title}**: {record.summary}"
    measured = session.measured(session.state.method)
    return said if measured is None else f"{said} {measured.accuracy.value:.2%} on choose."


def _begin(session: Session, key: Hashable) -> None:
    network, plan, method = session.network, session.state.plan, session.state.method
    session.jobs.cancel(_JOB)  # one that has ended must not be found again
    doing = f"exporting {network.title}"
    session.jobs.start(_JOB, lambda: _recovered_work(network, plan, method), key=key, title=doing)


def _recovered_work(network: Network, plan: Plan, method: str) -> Work[Bundle]:
    """Export a plan on its rung: as it was trained, or measured on Explore; else recovered now."""
    trained = trained_networks().get(network, plan, method)
    pruned = trained.pruned if trained else recovered_networks().get(network, plan, method)
    if pruned is not None:
        return (yield from _exported_work(pruned))
    pruned, record = network.prune(plan), get_recovery_method(method)
    can_read = network.trained and network.dataset in DATA
    if not pruned.prunes_nothing and (can_read or not record.needs_images):
        training = load_images(network.dataset, "train") if record.needs_images else None
        recovery = record.work(pruned, training, RecoveryContext(choose_device("auto")))
        pruned = yield from within(recovery, 0, _RECOVERED)
    return (yield from within(_exported_work(pruned), _RECOVERED))


def _exported_work(pruned: PrunedNetwork) -> Work[Bundle]:
    network = pruned.network
    images = {}
    if why_unmeasured(network) is None:
        images = {CHOOSE: load_images(network.dataset, CHOOSE).at_most(most_measured(network))}
    samples = sample_images(network.dataset, network.input_shape, NUM_SAMPLES)
    return (yield from export_work(pruned, images=images, config=ExportConfig(samples=samples)))


def _result(bundle: Bundle, model: str) -> None:
    proof, manifest = bundle.proof, bundle.manifest
    st.success(
        f"Equal: masked and compact differ by at most {proof.max_abs_difference:.2g} where logits reach "
        f"{proof.logit_scale:.3g}, on {proof.images} images; pruning itself moved them by "
        f"{proof.masked_dense_difference:.3g}. {proof.counted_macs:,} MACs and {proof.counted_params:,} parameters, "
        "counted from the plan and again in the network."
    )
    st.download_button(
        "Download everything (zip)",
        zip_bundle(bundle),
        file_name=f"{model.replace('/', '-')}-compact.zip",
        mime="application/zip",
        key="download_zip",
        type="primary",
        on_click="ignore",
    )
    st.subheader("Speed, dense and compact side by side", anchor=False)
    st.dataframe(_speed(manifest), hide_index=True)
    st.caption(
        "Medians with 95% intervals of dense and compact in turns, after warm-up, float32, on this machine; spread: "
        "between the quartiles, dense and compact. A ratio whose interval includes 1 is no speed-up. Peak memory of "
        "one pass, in PyTorch."
    )
    for row in manifest["measured"]["untimed"]:
        st.caption(f"{RUNTIMES[row['runtime']].title}: not timed here, {row['reason']}.")
    st.subheader("Files, each reloaded and measured", anchor=False)
    percent = st.column_config.NumberColumn(format="percent")
    times = st.column_config.NumberColumn(format="%.2f")
    st.dataframe(
        _files(manifest),
        hide_index=True,
        placeholder="",
        column_config={
            "bytes": st.column_config.NumberColumn(format="localized"),
            "differs by": st.column_config.NumberColumn(format="scientific"),
            CHOOSE: percent,
            TOP5: percent,
            **dict.fromkeys(("ms, 1 image", "ms, 64 images"), times),
        },
    )
    images = next((entry["measured"][CHOOSE]["images"] for entry in manifest["artefacts"] if _is_measured(entry)), None)
    if images is not None:
        st.caption(
            f"Accuracy is measured after reloading the file, in float32, on {images:,} images of the half that choices "
            "read."
        )
    for skipped in manifest["skipped"]:
        st.info(f"Left out: {ARTEFACTS[skipped['name']].title}. {plain(without_places(skipped['reason']))}")
    with st.expander("One file at a time"):
        for name, content in bundle.files.items():
            st.download_button(f"{name} ({len(content):,} bytes)", content, name, key=f"get_{name}", on_click="ignore")


def _is_measured(artefact: Mapping[str, Any]) -> bool:
    return CHOOSE in artefact.get("measured", {})


def _speed(manifest: Mapping[str, Any]) -> pd.DataFrame:
    """A row for every runtime and batch: what dense and compact take, and what may be said of the two."""
    rows = manifest["measured"]["latency"]

    def within(row: Mapping[str, Any], form: str) -> str:
        return f"{row[f'{form}_ms']:.3g} [{row[f'{form}_ms_low']:.3g}, {row[f'{form}_ms_high']:.3g}]"

    def mebibytes(form: str) -> list[float | None]:
        peaks = [row[f"{form}_peak_bytes"] for row in rows]
        return [None if peak is None else round(peak / 2**20, 1) for peak in peaks]

    return pd.DataFrame(
        {
            "runtime": [RUNTIMES[row["runtime"]].title for row in rows],
            "images at once": [row["batch"] for row in rows],
            "dense, ms": [within(row, "dense") for row in rows],
            "compact, ms": [within(row, "compact") for row in rows],
            "times as fast": [speed_told(row) for row in rows],
            "dense, MiB": mebibytes("dense"),
            "compact, MiB": mebibytes("compact"),
            "where": [f"{row['device']}, {row['threads']} threads" for row in rows],
            "spread": [f"{row['dense_spread']:.0%}, {row['compact_spread']:.0%}" for row in rows],
            "machine": ["busy" if row["busy"] else "quiet" for row in rows],
        }
    )


def _files(manifest: Mapping[str, Any]) -> pd.DataFrame:
    rows = []
    has_top5 = any(_is_measured(entry) and "top5" in entry["measured"][CHOOSE] for entry in manifest["artefacts"])
    for entry in manifest["artefacts"]:
        measured = entry.get("measured", {})
        rows += [
            {
                "file": file["file"],
                "what it is": entry["title"],
                "bytes": file["bytes"],
                "differs by": measured.get("max_abs_difference"),
                CHOOSE: measured.get(CHOOSE, {}).get("accuracy"),
                **({TOP5: measured.get(CHOOSE, {}).get("top5")} if has_top5 else {}),
                "ms, 1 image": measured.get("latency_ms", {}).get("1"),
                "ms, 64 images": measured.get("latency_ms", {}).get("64"),
            }
            for file in entry["files"]
        ]
    return pd.DataFrame(rows)
