"""Limits: bytes and counts that whoever starts the program sets by its environment; seconds for what takes long."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fpgm_core.errors import FpgmError

MOST = 1_000_000  # of whatever is counted, unless said otherwise
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def configured_bytes(variable: str, default: int) -> int:
    """The bytes that an environment variable allows, see `bytes_in`; else `default`."""
    text = os.environ.get(variable, "").strip()
    return bytes_in(text, variable) if text else default


def bytes_in(text: str, what: str) -> int:
    """The number of bytes in a text: "500000000", "512M" or "2G" (powers of 1024); `what` is what it was given for.

    Raises FpgmError for anything else.
    """
    match = re.fullmatch(r"([0-9]{1,18})([KMGT]?)B?", text.strip().upper())
    if match is None:
        raise FpgmError(f"{what}={text.upper()[:40]!r} is no number of bytes; give one like 500000000, 512M or 2G")
    return int(match[1]) << _UNITS[match[2]]


def configured_count(variable: str, default: int, *, most: int = MOST) -> int:
    """The number that an environment variable sets, see `count_in`; else `default`."""
    text = os.environ.get(variable, "").strip()
    return count_in(text, variable, most=most) if text else default


def count_in(text: str, what: str, *, most: int = MOST) -> int:
    """The whole number from 1 to `most` in a text; `what` is what it was given for.

    Raises FpgmError for anything else.
    """
    if not re.fullmatch("[0-9]{1,9}", text.strip()) or not 1 <= int(text) <= most:
        raise FpgmError(f"{what}={text[:40]!r} is no whole number from 1 to {most:,}; give one")
    return int(text)


class Breakable:
    """What one thread runs and another may break off, wherever it is by then.

    For Python code that may take long, or loop for ever: a call into C ends by itself first.
    """

    def __init__(self, error: type[BaseException]) -> None:
        self._error = error
        self._lock, self._thread, self._broken = threading.Lock(), 0, False

    @contextmanager
    def running(self) -> Iterator[None]:
        """What runs inside may be broken off: `error` is raised in it."""
        with self._lock:
            self._thread, self._broken = threading.get_ident(), False
        try:
            yield
        finally:
            with self._lock:
                self._thread = 0
                if self._broken:
                    _take_back()

    def break_off(self, *, in_imports: bool = True) -> bool:
        """Raise the error in what runs now, once; whether that could be, where imports are to come to their end."""
        with self._lock:
            if self._thread and not self._broken:
                if not in_imports and _is_importing(self._thread):
                    return False
                self._broken = True
                _raise_in(self._thread, self._error)
            return True


def _is_importing(thread: int) -> bool:
    """Whether a thread imports a module: one that is broken off there may never import again in this process."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _raise_in(thread: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


class _TakenBack(BaseException):
    """Raised in the place of an error that may still be on its way, and caught at once."""


def _take_back() -> None:
    """Let no error that was sent to this thread arrive any more.

    Not by sending none, which Python has for that: it leaves the interpreter looking for one for ever after, at every
    call and loop, and a traced function never gets past its first instruction. Again and again, for what arrives in a
    finaliser is lost.
    """
    try:
        while True:
            _raise_in(threading.get_ident(), _TakenBack)
    except _TakenBack:
        pass


@contextmanager
def time_limit(seconds: float, error: type[Exception]) -> Iterator[None]:
    """Raise `error` in what runs inside for longer than so many seconds; see `Breakable`."""
    breakable = Breakable(error)
    timer = threading.Timer(seconds, breakable.break_off)
    timer.daemon = True
    timer.start()
    try:
        with breakable.running():
            yield
    finally:
        timer.cancel()
