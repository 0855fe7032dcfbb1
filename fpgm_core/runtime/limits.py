"""Limits in bytes that whoever starts the program sets by its environment."""

from __future__ import annotations

import os
import re

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
