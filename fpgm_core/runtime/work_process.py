"""A process that does work for this one, step by step; this file is what it runs.

Two interpreters: a page that is drawn here and a network that is measured there do not wait for each other, as threads
of one process do after every operation.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, BinaryIO, TypeVar

from fpgm_core.runtime.memory import keep_freed_memory, return_freed_memory
from fpgm_core.runtime.progress import Work

T = TypeVar("T")
_REST = 5.0  # seconds without a question after which freed memory goes back
_NICENESS = 10  # what people look at comes first
_MOST_STARTS = 3  # of processes that end before they are ready; then none is begun any more
_PROGRESS, _RESULT, _LOST = "progress", "result", "lost"


class WorkLost(Exception):
    """The process ended before the work did, or the work failed there, as its log says: do it here."""


class WorkProcess:
    """A process for work that any process can do: `function` by its place in a module, with arguments that pickle.

    One step at a time, whoever's. It ends with the process that began it. It imports `modules` before it is ready;
    `environment` is added to this process's.
    """

    def __init__(self, *modules: str, environment: Mapping[str, str] | None = None) -> None:
        self._modules, self._environment = modules, dict(environment or {})
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: subprocess.Popen[bytes] | None = None  # the process, once it answers
        self._starts = 0
        self._numbers = itertools.count()
        self._dropped: deque[int] = deque()  # works that nobody goes on with: told of with the next step

    def start(self, function: Callable[..., Work[Any]] | None = None, *arguments: Any) -> None:
        """Begin the process where there is none; it is ready some seconds later.

        With `function` once it has done that work, as a first exercise of which nobody hears: what it needs is read.
        """
        with self._lock:
            if self._process is not None or self._starts >= _MOST_STARTS:
                return
            self._starts += 1
            command = [sys.executable, "-P", "-c", f"from {__name__} import serve; serve(*{self._modules})"]
            environment = os.environ | self._environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            self._process, self._end = process, weakref.finalize(self, _end, process)
            if hasattr(os, "setpriority"):
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        first = None if function is None else (function, arguments)
        threading.Thread(target=self._await, args=(process, first), daemon=True).start()

    def _await(self, process: subprocess.Popen[bytes], first: object) -> None:
        """Note that the process is ready; where it ends before that, that there is none."""
        number = next(self._numbers)
        try:
            _read(process)
            kind = _RESULT if first is None else _PROGRESS
            while kind == _PROGRESS:
                _write(process, ([], number, first))
                (kind, _), first = _read(process), None
        except WorkLost:
            self._close(process)
            return
        with self._lock:
            if process is self._process:
                self._ready, self._starts = process, 0

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked."""
        return self._ready is not None

    @property
    def pid(self) -> int | None:
        """The process's number; None where there is none."""
        process = self._process
        return None if process is None else process.pid

    def work(self, function: Callable[..., Work[T]], *arguments: Any) -> Work[T]:
        """`function(*arguments)`, done there. Raises WorkLost where no process is ready, or the work is lost there."""
        process, number = self._ready, next(self._numbers)
        if process is None:
            raise WorkLost
        kind, value = self._ask(process, number, (function, arguments))
        try:
            while kind == _PROGRESS:
                yield value
                kind, value = self._ask(process, number)
        finally:
            if kind == _PROGRESS:
                self._dropped.append(number)
        if kind == _LOST:
            raise WorkLost(value)
        result: T = value
        return result

    def _ask(self, process: subprocess.Popen[bytes], number: int, begin: object = None) -> tuple[str, Any]:
        """Have a work do its next step, the first of what it is to `begin` with: what came of it."""
        with self._lock:
            if process is not self._ready:
                raise WorkLost
            dropped = [self._dropped.popleft() for _ in range(len(self._dropped))]
            try:
                _write(process, (dropped, number, begin))
                answer: tuple[str, Any] = _read(process)
            except BaseException:  # whoever is broken off leaves an answer behind that is nobody's
                self._close(process)
                raise
            return answer

    def close(self) -> None:
        """End the process; `start` begins another."""
        with self._lock:
            if self._process is not None:
                self._close(self._process)

    def _close(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            if process is self._process:
                self._end()
                self._process = self._ready = None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError, ValueError):  # what was not yet written
            pipe.close()  # type: ignore[union-attr]


def _write(process: subprocess.Popen[bytes], question: object) -> None:
    assert process.stdin is not None
    message = pickle.dumps(question)
    try:
        process.stdin.write(message)
        process.stdin.flush()
    except (OSError, ValueError) as error:
        raise WorkLost from error


def _read(process: subprocess.Popen[bytes]) -> Any:
    assert process.stdout is not None
    try:
        return pickle.load(process.stdout)  # between processes of one program: no file of anybody's is unpickled
    except (OSError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise WorkLost from error


def serve(*modules: str) -> None:
    """Do what the process that began this one asks for, once the modules are imported, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends both
    keep_freed_memory()
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    asked = threading.Event()
    threading.Thread(target=_tidy, args=(asked,), daemon=True).start()
    for module in modules:
        import_module(module)
    answers.write(pickle.dumps(None))
    answers.flush()
    with contextlib.suppress(EOFError, BrokenPipeError):  # whoever asks has ended
        _answer(questions, answers, asked)
    os._exit(0)  # threads that still compute are not waited for


def _answer(questions: BinaryIO, answers: BinaryIO, asked: threading.Event) -> None:
    works: dict[int, Work[Any]] = {}
    while True:
        dropped, number, begin = pickle.load(questions)
        asked.set()
        for other in dropped:
            if (ended := works.pop(other, None)) is not None:
                ended.close()
        try:
            kind, message = _step(works, number, begin)
        except Exception as error:  # of any kind: whoever asks has it again, where people are told of it
            traceback.print_exc()
            kind, message = _LOST, pickle.dumps((_LOST, repr(error)))
        if kind != _PROGRESS:
            works.pop(number, None)
        answers.write(message)
        answers.flush()


def _step(
    works: dict[int, Work[Any]], number: int, begin: tuple[Callable[..., Work[Any]], Any] | None
) -> tuple[str, bytes]:
    """Do a work's next step: what came of it, and the answer that says so."""
    if begin is not None:
        function, arguments = begin
        works[number] = function(*arguments)
    try:
        answer = (_PROGRESS, next(works[number]))
    except StopIteration as end:
        answer = (_RESULT, end.value)
    return answer[0], pickle.dumps(answer)


def _tidy(asked: threading.Event) -> None:
    """Give freed memory back whenever nothing was asked for a while."""
    while asked.wait():
        while asked.is_set():
            asked.clear()
            asked.wait(_REST)
        gc.collect()
        return_freed_memory()
