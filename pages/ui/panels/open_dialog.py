"""The Open dialog, the same from every page: a network by name, somebody's checkpoint, images, a plan."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import PurePath

import streamlit as st

from fpgm_core import FpgmError, Network, Plan
from fpgm_core.data import Preprocessing, read_size
from fpgm_core.lesson import Words
from fpgm_core.models import model_names, published_weights
from fpgm_core.runtime.files import read_file
from fpgm_core.runtime.progress import Work
from fpgm_core.timing.boards import is_board
from pages.ui.components.telling import plain, told
from pages.ui.session.jobs import Job, layout_worker, opening_worker
from pages.ui.session.language import tab_words
from pages.ui.session.links import current_session
from pages.ui.session.networks import own_file, view_of
from pages.ui.session.opened import live_names, recent_checkpoints, remember
from pages.ui.session.opening import (
    CHECKPOINTS,
    IMAGES,
    OpenedImages,
    below_roots,
    checkpoint_work,
    data_roots,
    folder_work,
    images_work,
    is_private,
    kept_work,
    network_work,
    ready_work,
)
from pages.ui.session.session import Session
from pages.ui.session.speed import take_board
from pages.ui.session.widgets import callback
from pages.ui.session.work_status import waiting

_JOB = "open"
_AT_HAND, _RANDOM = "", "random"  # weights: the best that are here, or none
_OPEN_ON = "open_dialog_on"  # the page on which the dialog is open


def open_button() -> None:
    """The button that opens the dialog, and the dialog while it is open: on this page, another one closes it."""
    words = tab_words()
    st.button(words("open.button"), key="open", on_click=_show)  # no help: its focus comes back, over the links
    if st.session_state.get(_OPEN_ON) == current_session().page:
        st.dialog(words("open.title"), width="large", on_dismiss=_hide)(_dialog)()
    else:
        _hide()  # who closes it and goes to another page at once is gone before Streamlit hears that it closed


def _show() -> None:
    st.session_state[_OPEN_ON] = current_session().page
    # While a person chooses, what opening asks for is read: torchvision, and UMAP, which compiles for its maps.
    current_session().jobs.start("umap", ready_work, key=("umap",), worker=layout_worker())


def _hide() -> None:
    st.session_state[_OPEN_ON] = None


def _dialog() -> None:
    session = current_session()
    words, job = session.words, session.jobs.get(_JOB)
    if job is not None and not job.done:
        _watch(job)
        return
    if job is not None:
        session.jobs.cancel(_JOB)  # looked at once
        if job.error:
            st.error(plain(words.phrase(job.error)))
        elif _finish(session, job.result):
            _hide()
            st.rerun()
    network, images = st.tabs([words("open.network_or_plan"), words("open.images")])
    with network:
        _choose_network(session)
    with images:
        _choose_images(session)


@st.fragment(run_every=0.4)
def _watch(job: Job[object]) -> None:
    if job.done:
        st.rerun()
    words = tab_words()
    what = words.phrase(job.progress.what) if job.progress else waiting(job, words)
    st.progress(job.share, text=f"{plain(what[:1].upper() + what[1:])} …")
    st.button(words("open.cancel"), key="cancel_open", on_click=callback(lambda session: session.jobs.cancel(_JOB)))


def _start(work: Callable[[], Work[object]], *key: object) -> None:
    current_session().jobs.start(_JOB, work, key=(_JOB, *key), worker=opening_worker())


def _finish(session: Session, result: Network | OpenedImages | None) -> bool:
    """Move to what was opened; whether that could be, else the dialog says why not."""
    state, plan = session.state, session.state.plan
    try:
        if isinstance(result, Network):
            remember(result)
            session.go(view_of(result, plan.criterion, plan.coupling))
        elif isinstance(result, OpenedImages):
            session.own_images(result.name)
            session.go(replace(state, data=result.name))
    except FpgmError as error:
        session.refuse(error)
    if session.message:
        st.error(plain(session.words.phrase(session.message)))
        session.message = None
        return False
    return True


def _choose_network(session: Session) -> None:
    words, names = session.words, _names()
    if is_private():
        _choose_recent(words)
    current = session.state.plan.model
    index = names.index(current) if current in names else 0
    model = st.selectbox(words("open.network"), names, index=index, key="open_model", help=words("open.network_help"))
    weights = st.selectbox(
        words("open.weights"),
        _weights_of(model),
        format_func=lambda name: {_AT_HAND: words("open.at_hand"), _RANDOM: words("open.random")}.get(name, name),
        key=f"open_weights:{model}",
    )
    chosen = weights or None
    st.button(words("open.this_network"), type="primary", key="open_network",
              on_click=lambda: _start(partial(network_work, model, chosen), model, chosen))  # fmt: skip
    file, shape = _choose_file(session, model, words)
    size = f" --input-size {'x'.join(map(str, shape[1:]))}" if shape else ""
    named = file or chosen
    _command_line(model, f"fpgm layers {model}" + (f" --weights {shlex.quote(named)}" if named else "") + size)


def _choose_recent(words: Words) -> None:
    """What was opened lately, on disk: opened again at once where it is chosen. For those whose machine it is."""
    recent = {kept.fingerprint: kept for kept in recent_checkpoints()}

    def open_again() -> None:
        kept = recent.get(st.session_state.open_recent)
        if kept is not None:
            _start(partial(kept_work, kept.model, kept.fingerprint), kept.fingerprint)

    if recent:
        st.selectbox(
            words("open.recent"),
            list(recent),
            index=None,
            format_func=lambda name: f"{recent[name].model} · {recent[name].weights.removeprefix('file ')}",
            placeholder=words("open.recent_shows"),
            key="open_recent",
            on_change=open_again,
        )


def _choose_file(session: Session, model: str, words: Words) -> tuple[str | None, tuple[int, int, int] | None]:
    """A checkpoint of the network above, dropped or by its path here, or a plan; its name, and what it reads."""
    file = st.file_uploader(
        words("open.file"), type=[*CHECKPOINTS, "json"], key="open_file", help=words("open.file_help")
    )
    here, beside = st.columns([3, 1])
    path = here.text_input(words("open.file_here"), key="open_path") if data_roots() else ""
    size = beside.text_input(
        words("open.size"), key="open_size", placeholder=words("open.size_shows"), help=words("open.size_help")
    )
    try:
        shape = (3, *read_size(size)) if size else None
    except FpgmError as error:
        st.error(plain(words.phrase(told(error))))
        return None, None
    if file is not None and st.button(words("open.the_file", file=plain(file.name)), key="open_the_file"):
        content = file.getvalue()
        if file.name.lower().endswith(".json"):
            open_json(session, file.name, content)
        else:
            _start(partial(checkpoint_work, model, file.name, content, shape), model, file.file_id, shape)
        st.rerun()
    if path and st.button(words("open.the_path"), key="open_the_path"):
        _open_path(session, model, path, shape)
    return (file.name if file else path) or None, shape


def _open_path(session: Session, model: str, text: str, shape: tuple[int, int, int] | None) -> None:
    """Open a checkpoint, or a plan, of this machine."""
    try:
        path = below_roots(text)
        if path.suffix.lower() == ".json":
            open_json(session, path.name, read_file(path))
        else:
            _start(partial(network_work, model, path, shape), model, str(path), path.stat().st_mtime_ns, shape)
    except FpgmError as error:
        st.error(plain(tab_words().phrase(told(error))))
        return
    st.rerun()


def open_json(session: Session, name: str, content: bytes) -> None:
    """Open a plan's file or another board's times; what does not fit is refused with the reason and changes nothing."""
    if is_board(content):
        if take_board(session, content, name):
            _hide()
        return
    try:
        plan = Plan.from_json(content)
    except FpgmError as error:
        session.message = f"{name}: {told(error)}"
        return
    open_plan(session, plan)
    _hide()


def open_plan(session: Session, plan: Plan) -> None:
    """Put a plan on the bars, with its network where another is on screen."""
    session.with_network(plan, lambda network: session.go(replace(session.state_of(network), plan=plan)))


def _choose_images(session: Session) -> None:
    network, words = session.network, session.words
    st.markdown(words("open.images_for", network=plain(network.title)))
    preprocessing = _preprocessing(network, words)
    file = st.file_uploader(words("open.your_images"), type=list(IMAGES), key="open_images")
    if file is not None and st.button(words("open.read", file=plain(file.name)), key="read_images", type="primary"):
        content = file.getvalue()
        _start(partial(images_work, network, file.name, content, preprocessing), file.file_id, network.identity)
        st.rerun()
    prepared = [f"--preprocess {preprocessing.text}"] if network.preprocessing is None and preprocessing else []
    where = file.name if file else "FOLDER"
    if data_roots():
        path = st.text_input(words("open.folder"), key="open_folder", placeholder=words("open.folder_shows"))
        if path and st.button(words("open.read_folder"), key="read_folder"):
            _read_folder(network, path, preprocessing)
        where = path or where
    if session.state.data and st.button(words("open.own_images"), key="own_images_back"):
        session.change(data="")
        _hide()
        st.rerun()
    _command_line(network.name, " ".join(["fpgm evaluate", _named(network), "--data", shlex.quote(where), *prepared]))


def _read_folder(network: Network, text: str, preprocessing: Preprocessing | None) -> None:
    try:
        path = below_roots(text)
    except FpgmError as error:
        st.error(plain(tab_words().phrase(told(error))))
        return
    title = PurePath(path).name
    _start(partial(folder_work, network, path, title, preprocessing), str(path), network.identity)
    st.rerun()


def _preprocessing(network: Network, words: Words) -> Preprocessing | None:
    """What is done to pictures: what the weights want; asked for where nobody said, None until it is said."""
    known = network.preprocessing
    if known is not None:
        height, width = known.crop or network.input_shape[1:]
        mean, std = ("/".join(f"{value:.3g}" for value in values) for values in (known.mean, known.std))
        st.caption(words("open.prepared", height=height, width=width, mean=mean, std=std))
        return known
    try:
        usual = Preprocessing.usual(network.input_shape)
        text = st.text_input(
            words("open.preparing"),
            usual.text,
            key=f"open_preprocess:{network.identity}",
            help=words("open.preparing_help"),
        )
        return usual.changed(text)
    except FpgmError as error:
        st.error(plain(words.phrase(told(error))))
        return None


def _named(network: Network) -> str:
    """The network as the command line calls it: by name, and with its weights where those are a person's own."""
    file = own_file(network)
    if file is None:
        return network.name
    size = "x".join(map(str, network.input_shape[1:]))
    return f"{network.name} --weights {shlex.quote(file)} --input-size {size}"


def _names() -> list[str]:
    """Every network by name: of this process, this project's, torchvision's, and timm's where it is installed."""
    return [*live_names(), *model_names()]


def _weights_of(model: str) -> list[str]:
    """What weights may be asked for: to download any is for those whose machine it is."""
    if model in live_names():
        return [_AT_HAND]
    return [_AT_HAND, *(published_weights(model) if is_private() else ()), _RANDOM]


def _command_line(model: str, text: str) -> None:
    """What does the same there; a live network is in this process alone."""
    if model in live_names():
        return
    st.caption(tab_words()("open.command"))
    st.code(text, language="bash", wrap_lines=True)
