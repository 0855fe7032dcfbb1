"""Limits: in bytes, that whoever starts the program sets by its environment; and in seconds, for somebody's code."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fpgm_core.errors import FpgmError

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def configured_bytes(variable: str, default: int) -> int:
    """The bytes that an environment variable allows: "500000000", "512M" or "2G" (powers of 1024); else `default`.

    Raises FpgmError for anything else.
    """
    text = os.environ.get(variable, "").strip().upper()
    if not text:
        return default
    match = re.fullmatch(r"([0-9]{1,18})([KMGT]?)B?", text)
    if match is None:
        raise FpgmError(f"{variable}={text[:40]!r} is no number of bytes; give one like 500000000, 512M or 2G")
    return int(match[1]) << _UNITS[match[2]]


@contextmanager
def time_limit(seconds: float, error: type[Exception]) -> Iterator[None]:
    """Raise `error` in what runs inside for longer than so many seconds, wherever it is by then.

    For Python code of somebody else's, which may loop for ever: a call into C ends by itself first.
    """
    thread, lock, over = threading.get_ident(), threading.Lock(), False

    def stop() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            over = True
