"""The C library's heap: memory that one batch frees is there for the next.

As it comes, glibc gives large blocks back to the kernel when they are freed, and the kernel clears every page of
the next one: about a fifth of the time of training on a CPU.
"""

from __future__ import annotations

import ctypes

# From glibc's malloc.h. The largest threshold it takes is 32 MiB; what is freed beyond half a GiB does go back.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_SETTINGS = {_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 512 << 20, _ARENA_MAX: 1}


def keep_freed_memory() -> bool:
    """Keep freed memory for this process, in one heap that all threads share; False where the C library is another.

    For programs to call at their start: it concerns the whole process.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc; TypeError is Windows' way
        return False
    taken = [
        mallopt(setting, value) for setting, value in _SETTINGS.items()
    ]  # each is asked for, whatever came of others
    return all(taken)
