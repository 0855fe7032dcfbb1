"""UMAP itself, fitted in this process or in one of its own, which this file is when it is run as a script.

The first fit in a process compiles for a quarter of a minute, and keeps every other thread of it waiting meanwhile.
Nothing of fpgm_core is imported here, so that the process of its own is up as soon as UMAP is.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

IDLE = 600.0  # seconds without a question after which the process ends, and what it holds is given back
Reduced = tuple[np.ndarray, np.ndarray]


def reduce(settings: Mapping[str, Any], fitted: np.ndarray, placed: np.ndarray) -> Reduced:
    """Fit UMAP with `settings` to the rows of `fitted` (N, D), then place those of `placed` (M, D): (N, 2), (M, 2)."""
    with warnings.catch_warnings():
        # umap warns at import that TensorFlow is missing; nothing here needs it.
        warnings.simplefilter("ignore", ImportWarning)
        from umap import UMAP
    with warnings.catch_warnings():
        # Few points make a disconnected graph; the badge says what that does to the picture.
        warnings.simplefilter("ignore", UserWarning)
        reducer = UMAP(**settings)
        return reducer.fit_transform(fitted), reducer.transform(placed)


class UmapProcess:
    """A process that reduces for this one: begun when it is first asked, and anew where it has ended.

    It ends after `idle` seconds without a question, and with the process that began it. One question at a time; others
    wait for it.
    """

    def __init__(self, idle: float = IDLE) -> None:
        self._idle, self._lock = idle, threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def reduce(self, settings: Mapping[str, Any], fitted: np.ndarray, placed: np.ndarray) -> Reduced:
        """As `reduce`, of which it raises the errors. Raises EOFError where the process ends over the question."""
        question = (dict(settings), fitted, placed)
        with self._lock:
            try:
                answer = self._ask(question)
            except (EOFError, BrokenPipeError):  # it had ended: it was idle, or somebody ended it
                self.close()
                answer = self._ask(question)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ask(self, question: object) -> Any:
        if self._process is None:
            # -P: a script's folder comes first in what it imports from, and has names that other packages use.
            command = [sys.executable, "-P", __file__, str(self._idle)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._end = weakref.finalize(self, _end, self._process)
            self._end.atexit = False  # it ends by itself, and who waits for it sees nothing go wrong
        questions, answers = self._process.stdin, self._process.stdout
        assert questions is not None
        assert answers is not None
        pickle.dump(question, questions)  # between processes of one program: no file of anybody's is ever unpickled
        questions.flush()
        return pickle.load(answers)

    def close(self) -> None:
        """End the process; the next question begins another."""
        if self._process is not None:
            self._end()
            self._process = None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):  # what was not yet written
            pipe.close()  # type: ignore[union-attr]


def _serve(questions: BinaryIO, answers: BinaryIO, idle: float) -> None:
    """Answer questions, and end at once where nobody is there to ask any more."""
    waiting = queue.SimpleQueue[tuple[Any, ...]]()
    threading.Thread(target=_work, args=(waiting, answers, idle), daemon=True).start()
    with contextlib.suppress(EOFError):
        while True:
            waiting.put(pickle.load(questions))
    os._exit(0)


def _work(waiting: queue.SimpleQueue[tuple[Any, ...]], answers: BinaryIO, idle: float) -> None:
    """Answer what waits. The process ends where nothing has come for so many seconds, or by what else goes wrong."""
    try:
        while True:
            question = waiting.get(timeout=idle)
            try:
                answer: object = reduce(*question)
            except Exception as error:  # of any kind: it is the asker's
                answer = error
            pickle.dump(answer, answers)
            answers.flush()
    finally:
        os._exit(0)


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(5)  # what a hand moves comes first
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends whoever began this, too
    own = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    _serve(sys.stdin.buffer, own, float(sys.argv[1]))
