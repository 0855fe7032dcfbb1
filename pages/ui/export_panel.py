"""Preparing an export in the background, and what it found: proof, speed, files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from fpgm_core.data import HALVES
from fpgm_core.export import ARTEFACTS, Bundle, export_steps, zip_bundle
from fpgm_core.export.bundle import Progress
from pages.ui.jobs import Job, engine
from pages.ui.recover_panel import recovered
from pages.ui.sitting import Session, sitting

_JOB = "export_job"


def export_panel(here: Session) -> None:
    """The button, the progress, the result of the plan on screen."""
    if here.network.prune(here.look.plan).prunes_nothing:
        st.info("This plan prunes nothing: the compact network will be the dense one. Move a bar on Explore first.")
    trained = recovered(here)
    with_training = trained is not None and st.toggle("Export the trained weights from Recover", value=True)
    key = ("export", here.look.plan.key, here.look.rung, id(trained) if with_training else None)
    held = st.session_state.get(_JOB)
    job: Job[Progress | Bundle] | None = held[1] if held and held[0] == key else None
    st.button(
        "Prepare the export" if job is None or job.error else "Prepare again",
        key="prepare",
        type="primary",
        disabled=job is not None and not job.done,
        on_click=lambda: _begin(sitting(), key),
    )
    if job is None:
        st.caption(
            "The compact network is first proved equal to the masked one; then each file is written, read back, "
            "compared and measured on both halves of the test images. Nothing is offered that failed."
        )
        st.dataframe(pd.DataFrame({"what will be in it": [a.title for a in ARTEFACTS.values()]}), hide_index=True)
    elif not job.done:
        _progress(job, here.session)
    elif job.error:
        st.error(job.error)
    elif isinstance(job.latest, Bundle):
        _result(job.latest, here.look.plan.model)


def _begin(here: Session, key: tuple[object, ...]) -> None:
    network, look, trained = here.network, here.look, recovered(here)
    if trained is not None and key[-1] is not None:
        plan, weights, whole = trained.plan, trained.network, trained.whole
    else:
        plan, weights, whole = look.plan, None, None
    engine().cancel(f"{here.session}:export")  # one that has ended is not to be found again
    job = engine().run(
        f"{here.session}:export",
        key,
        lambda: export_steps(network, plan, look.rung, trained=weights, whole=whole),
    )
    st.session_state[_JOB] = (key, job)


def _progress(job: Job[Any], session: str) -> None:
    @st.fragment(run_every=0.5)
    def watch() -> None:
        if job.done:
            st.rerun()
        now = job.latest if isinstance(job.latest, Progress) else None  # or it has ended, and is about to say so
        st.progress(min(1.0, now.share) if now else 0.0, text=f"{now.doing} ..." if now else "waiting for its turn ...")

    watch()
    st.button("Cancel", key="cancel_export", on_click=lambda: _cancel(session))


def _cancel(session: str) -> None:
    engine().cancel(f"{session}:export")
    del st.session_state[_JOB]


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
        file_name=f"{model}-compact.zip",
        mime="application/zip",
        key="download_zip",
        type="primary",
        on_click="ignore",
    )
    st.subheader("Speed, dense and compact side by side", anchor=False)
    st.dataframe(_speed(manifest), hide_index=True)
    st.caption("Median of nine passes after warm-up, float32, channels_last, on this machine; peak memory of one pass.")
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
            **dict.fromkeys(HALVES, percent),
            **dict.fromkeys(("ms, 1 image", "ms, 64 images"), times),
        },
    )
    st.caption("Accuracy was measured after reloading the file, in float32; sealed is the half no choice has seen.")
    for left in manifest["skipped"]:
        st.info(f"Left out: {ARTEFACTS[left['name']].title}. {left['reason']}")
    with st.expander("One file at a time"):
        for name, content in bundle.files.items():
            st.download_button(f"{name} ({len(content):,} bytes)", content, name, key=f"get_{name}", on_click="ignore")


def _speed(manifest: Mapping[str, Any]) -> pd.DataFrame:
    rows = manifest["measured"]["latency"]
    return pd.DataFrame(
        {
            "images at once": [row["batch"] for row in rows],
            "dense, ms": [round(row["dense_ms"], 2) for row in rows],
            "compact, ms": [round(row["compact_ms"], 2) for row in rows],
            "times as fast": [round(row["speed_up"], 2) for row in rows],
            "dense, MiB": [round(row["dense_peak_bytes"] / 2**20, 1) for row in rows],
            "compact, MiB": [round(row["compact_peak_bytes"] / 2**20, 1) for row in rows],
            "where": [f"{row['device']}, {row['threads']} threads" for row in rows],
        }
    )


def _files(manifest: Mapping[str, Any]) -> pd.DataFrame:
    rows = []
    for entry in manifest["artefacts"]:
        found = entry.get("measured", {})
        rows += [
            {
                "file": file["file"],
                "what it is": entry["title"],
                "bytes": file["bytes"],
                "differs by": found.get("max_abs_difference"),
                "choose": found.get("choose", {}).get("accuracy"),
                "sealed": found.get("sealed", {}).get("accuracy"),
                "ms, 1 image": found.get("latency_ms", {}).get("1"),
                "ms, 64 images": found.get("latency_ms", {}).get("64"),
            }
            for file in entry["files"]
        ]
    return pd.DataFrame(rows)
