"""The page Export: an export prepared in the background, and what was measured of it: proof, speed, files."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st

from fpgm_core import FpgmError, Network, Plan, PrunedNetwork
from fpgm_core.data import DATA, load_images, sample_images
from fpgm_core.export import ARTEFACTS, Bundle, ExportConfig, export_work, most_measured, zip_bundle
from fpgm_core.lesson import Words
from fpgm_core.recovery import get_recovery_method
from fpgm_core.runtime.progress import Work, within
from fpgm_core.timing import RUNTIMES, ms_told, speed_told
from pages.ui.components.telling import plain, without_places
from pages.ui.panels.quantised import quantised
from pages.ui.panels.sealed import sealed_report
from pages.ui.session.networks import network_key, why_unmeasured
from pages.ui.session.recovered import recovered_work
from pages.ui.session.session import Session
from pages.ui.session.widgets import callback

NUM_SAMPLES = 64  # images that the forms are compared on
CHOOSE = "choose"  # sealed is measured only where a report is asked for
_JOB = "export"
_RECOVERED = 0.1  # the share of the whole that recovering takes, roughly: for progress alone


def export_page(session: Session) -> None:
    """What is exported, the button, the result of the plan on screen; and its report on the sealed half."""
    network, plan, method, words = session.network, session.state.plan, session.state.method, session.words
    pruned = network.prune(plan)
    if pruned.prunes_nothing:
        st.info(words("export.nothing"))
    if (why := why_unmeasured(network)) is not None:
        st.warning(words("export.unmeasured", why=words.phrase(why)))
    st.markdown(_subject(session))
    aligned = pruned.can_align and _asked_aligned(pruned, words)
    key = ("export", *network_key(network), plan.key, method, aligned)
    job = session.jobs.get(_JOB, key)
    st.button(
        words("export.prepare" if job is None or job.error else "export.again"),
        key="prepare",
        type="primary",
        disabled=job is not None and not job.done,
        on_click=callback(lambda session: _begin(session, key, aligned)),
    )
    if job is None or not job.done:
        st.caption(words("export.about"))
        contents = [words.of(artefact) for artefact in ARTEFACTS.values()]
        st.dataframe(pd.DataFrame({words("export.contents"): contents}), hide_index=True)
    elif job.error:
        st.error(plain(words.phrase(job.error)))
    elif job.result is not None:
        _result(job.result, plan.model, words)
    quantised(session, aligned=aligned)
    sealed_report(session)


def _subject(session: Session) -> str:
    """What Export takes, before it runs: the plan's network on the rung of the bar."""
    record, plan = get_recovery_method(session.state.method), session.state.plan
    cost, dense = session.network.cost(plan), session.network.dense_cost
    words, measured = session.words, session.measured(session.state.method)
    said = words(
        "export.takes",
        network=plain(session.network.title),
        cut=1 - cost.macs / dense.macs,
        rung=words.of(record),
        what=words.of(record, "summary"),
    )
    return said if measured is None else f"{said} {words('export.measured', accuracy=measured.accuracy.value)}"


def _asked_aligned(pruned: PrunedNetwork, words: Words) -> bool:
    """Whether the aligned compact network is what a person wants, and what that costs beside the plan."""
    held, plan, dense = pruned.compact_cost(aligned=True), pruned.cost, pruned.network.dense_cost
    asked = st.checkbox(
        words("export.aligned"), key="aligned", help=words("export.aligned_help"), persist_state="session"
    )
    st.caption(
        words(
            "export.aligned_cost",
            macs=held.macs,
            params=held.params,
            cut=1 - held.macs / dense.macs,
            plan_macs=plan.macs,
            plan_params=plan.params,
        )
    )
    return asked


def _begin(session: Session, key: Hashable, aligned: bool) -> None:
    network, plan, method = session.network, session.state.plan, session.state.method
    session.jobs.cancel(_JOB)  # one that has ended must not be found again
    doing = session.words("export.doing", network=network.title)
    session.jobs.start(_JOB, lambda: _recovered_work(network, plan, method, aligned), key=key, title=doing)


def _recovered_work(network: Network, plan: Plan, method: str, aligned: bool) -> Work[Bundle]:
    """Export a plan on its rung; as it is where there are no images that the rung could read."""
    can_read = network.trained and network.dataset in DATA
    if can_read or not get_recovery_method(method).needs_images:
        pruned = yield from within(recovered_work(network, plan, method), 0, _RECOVERED)
    else:
        pruned = network.prune(plan)
    return (yield from within(_exported_work(pruned, aligned), _RECOVERED))


def _exported_work(pruned: PrunedNetwork, aligned: bool) -> Work[Bundle]:
    network = pruned.network
    images, training = {}, None
    if why_unmeasured(network) is None:
        images = {CHOOSE: load_images(network.dataset, CHOOSE).at_most(most_measured(network))}
        with suppress(FpgmError):  # images of one's own without training images: what needs them is left out
            training = load_images(network.dataset, "train")
    samples = sample_images(network.dataset, network.input_shape, NUM_SAMPLES)
    config = ExportConfig(samples=samples, training=training, aligned=aligned)
    return (yield from export_work(pruned, images=images, config=config))


def _result(bundle: Bundle, model: str, words: Words) -> None:
    proof, manifest = bundle.proof, bundle.manifest
    st.success(
        words(
            "export.proof",
            difference=proof.max_abs_difference,
            scale=proof.logit_scale,
            images=proof.images,
            moved=proof.masked_dense_difference,
            macs=proof.counted_macs,
            params=proof.counted_params,
        )
    )
    if manifest.get("aligned"):
        st.caption(words("export.aligned_held", macs=manifest["macs"], params=manifest["params"]))
    st.download_button(
        words("export.zip"),
        zip_bundle(bundle),
        file_name=f"{model.replace('/', '-')}-compact.zip",
        mime="application/zip",
        key="download_zip",
        type="primary",
        on_click="ignore",
    )
    st.subheader(words("export.speed"), anchor=False)
    st.dataframe(_speed(manifest, words), hide_index=True, placeholder="")
    st.caption(words("export.speed_caption"))
    for row in manifest["measured"]["untimed"]:
        st.caption(
            words("export.untimed", runtime=words.of(RUNTIMES[row["runtime"]]), reason=words.phrase(row["reason"]))
        )
    _file_list(bundle, words)


def _file_list(bundle: Bundle, words: Words) -> None:
    """The files with what was measured of each, what was left out, and a button for each."""
    manifest = bundle.manifest
    st.subheader(words("export.files"), anchor=False)
    st.dataframe(
        _files(manifest, words),
        hide_index=True,
        placeholder="",
        column_config={
            words(f"sheet.{name}"): st.column_config.NumberColumn(format=form)
            for name, form in (
                ("bytes", "localized"),
                ("differs", "scientific"),
                ("choose_short", "percent"),
                ("choose_top5", "percent"),
                ("ms_1", "%.2f"),
                ("ms_64", "%.2f"),
            )
        },
    )
    images = next((entry["measured"][CHOOSE]["images"] for entry in manifest["artefacts"] if _is_measured(entry)), None)
    if images is not None:
        st.caption(words("export.files_caption", images=images))
    for skipped in manifest["skipped"]:
        reason = plain(words.phrase(without_places(skipped["reason"])))
        st.info(words("export.left_out", what=words.of(ARTEFACTS[skipped["name"]]), reason=reason))
    with st.expander(words("export.one_by_one")):
        for name, content in bundle.files.items():
            label = words("export.one_file", file=name, bytes=len(content))
            st.download_button(label, content, name, key=f"get_{name}", on_click="ignore")


def _is_measured(artefact: Mapping[str, Any]) -> bool:
    return CHOOSE in artefact.get("measured", {})


def _speed(manifest: Mapping[str, Any], words: Words) -> pd.DataFrame:
    """A row for every runtime and batch: what dense and compact take, and what may be said of the two."""
    rows = manifest["measured"]["latency"]

    def within(row: Mapping[str, Any], form: str) -> str:
        return ms_told(*(row[f"{form}_ms{end}"] for end in ("", "_low", "_high")))

    def mebibytes(form: str) -> list[float | None]:
        peaks = [row[f"{form}_peak_bytes"] for row in rows]
        return [None if peak is None else round(peak / 2**20, 1) for peak in peaks]

    return pd.DataFrame(
        {
            words("sheet.runtime"): [words.of(RUNTIMES[row["runtime"]]) for row in rows],
            words("sheet.batch"): [row["batch"] for row in rows],
            words("sheet.dense_ms"): [within(row, "dense") for row in rows],
            words("sheet.compact_ms"): [within(row, "compact") for row in rows],
            words("sheet.faster"): [words.phrase(speed_told(row)) for row in rows],
            words("sheet.dense_mib"): mebibytes("dense"),
            words("sheet.compact_mib"): mebibytes("compact"),
            words("sheet.where"): [words("export.where", device=row["device"], threads=row["threads"]) for row in rows],
            words("sheet.spread"): [f"{row['dense_spread']:.0%}, {row['compact_spread']:.0%}" for row in rows],
            words("sheet.machine"): [words("export.busy" if row["busy"] else "export.quiet") for row in rows],
        }
    )


def _files(manifest: Mapping[str, Any], words: Words) -> pd.DataFrame:
    rows = []
    has_top5 = any(_is_measured(entry) and "top5" in entry["measured"][CHOOSE] for entry in manifest["artefacts"])
    for entry in manifest["artefacts"]:
        measured = entry.get("measured", {})
        rows += [
            {
                words("sheet.file"): file["file"],
                words("sheet.what_it_is"): words.of(ARTEFACTS[entry["name"]]),
                words("sheet.bytes"): file["bytes"],
                words("sheet.differs"): measured.get("max_abs_difference"),
                words("sheet.choose_short"): measured.get(CHOOSE, {}).get("accuracy"),
                **({words("sheet.choose_top5"): measured.get(CHOOSE, {}).get("top5")} if has_top5 else {}),
                words("sheet.ms_1"): measured.get("latency_ms", {}).get("1"),
                words("sheet.ms_64"): measured.get("latency_ms", {}).get("64"),
            }
            for file in entry["files"]
        ]
    return pd.DataFrame(rows)
