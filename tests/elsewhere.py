"""Work that another process is asked for by its name here."""

import os
from pathlib import Path

from fpgm_core.runtime.progress import Progress


def counting_work(most):
    for done in range(most):
        yield Progress(done, most, partial=os.getpid())
    return most


def failing_work():
    yield Progress(0.5)
    raise ValueError("no result")


def unspeakable_work():
    yield Progress(0.5)
    return lambda: None


def dying_work():
    yield Progress(0.5)
    os._exit(3)


def leaving_work(path):
    """Writes a file once nobody goes on with it."""
    try:
        while True:
            yield Progress(0.5)
    finally:
        Path(path).write_text("left")


def telling_work(variable):
    print("what a library prints")
    yield Progress(0.5)
    return os.environ.get(variable)


def writing_work(path):
    yield Progress(0.5)
    Path(path).write_text("written")
