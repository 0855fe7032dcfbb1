"""Time the networks in this folder on this machine: needs Python 3.9, onnxruntime and numpy, and nothing else.

    python probe.py [--threads N] [--out board.json]

Stopped, it goes on where it was. Take the file that it writes back to where the folder came from.
"""

# `fpgm probe --export` copies this file, as probe.py, beside turns.py: it imports nothing of the library it lies in.

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
AT_ONCE = 12  # points that take turns with one dense layer
KIND = "fpgm probe result"


def main() -> int:
    """Time all that is not in the result file yet, and write it after every layer."""
    parser = argparse.ArgumentParser(description="Time the networks in this folder on this machine.")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="(default all cores: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "board.json", help="(default board.json, here)")
    chosen = parser.parse_args()
    try:
        runtime = importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        print("onnxruntime is not installed; pip install onnxruntime numpy", file=sys.stderr)
        return 2
    board = Board(runtime, chosen.threads)
    result = board.begun(chosen.out)
    tasks = board.work["tasks"]
    for number, task in enumerate(tasks):
        if str(number) in result["times"]:
            continue
        print(f"{number + 1} of {len(tasks)}: {task['told']}", file=sys.stderr)
        result["times"][str(number)] = board.timed(task)
        write(chosen.out, result)
    busy = sum(bool(one["busy"]) for one in result["times"].values())
    print(f"{chosen.out}: {len(tasks)} timed, {busy} of them while the machine was busy", file=sys.stderr)
    return 0


def write(path: Path, result: dict[str, Any]) -> None:
    """Write the result with its checksum, whole or not at all."""
    body = {name: value for name, value in result.items() if name != "sha256"}
    body["sha256"] = checksum(body)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(json.dumps(body, indent=1), encoding="utf-8")
    os.replace(unfinished, path)


def checksum(body: dict[str, Any]) -> str:
    """The SHA-256 of a result without its checksum."""
    rest = {name: value for name, value in body.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


class Board:
    """This machine, with the folder's work."""

    def __init__(self, runtime: Any, threads: int) -> None:
        self.turns = importlib.import_module("turns")
        self.runtime, self.threads = runtime, threads
        text = (HERE / "work.json").read_bytes()
        self.work = json.loads(text)
        self.digest = hashlib.sha256(text).hexdigest()
        self.pieces = np.load(HERE / "pieces.npz")

    def begun(self, path: Path) -> dict[str, Any]:
        """The result so far: what is in the file, where that is of this work on this machine."""
        identity = {
            "runtime": "onnxruntime", "version": self.runtime.__version__, "processor": self.turns.processor(),
            "device": "cpu", "threads": self.threads, "batch": self.work["batch"],
        }  # fmt: skip
        fresh = {"kind": KIND, "format": 1, "work": self.digest, "model": self.work["model"], "identity": identity}
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept.get("sha256") == checksum(kept) and all(kept.get(name) == fresh[name] for name in fresh):
                return dict(kept)
        return {**fresh, "written": time.time(), "times": {}}

    def timed(self, task: dict[str, Any]) -> dict[str, Any]:
        """Median milliseconds of every piece of a task, with their intervals; the first takes turns with all others."""
        first, *others = task["pieces"]
        groups = [others[at : at + AT_ONCE] for at in range(0, len(others), AT_ONCE)] or [[]]
        own, ratios, busy = [], [], False
        for group in groups:
            passes = {str(piece["name"]): self.loaded(piece) for piece in (first, *group)}
            seconds, conditions = self.in_turns(passes, task)
            own.append(seconds[first["name"]])
            ratios += [self.turns.median_of(seconds[first["name"]] / seconds[piece["name"]]) for piece in group]
            busy |= conditions.busy
        middle = float(np.median([np.median(one) for one in own])) * 1000
        _, low, high = self.turns.median_of(own[0] * 1000)
        ms = [[middle, min(low, middle), max(high, middle)]]
        ms += [[middle / value, middle / most, middle / least] for value, least, most in ratios]
        return {"ms": ms, "busy": bool(busy)}

    def in_turns(self, passes: dict[str, Any], task: dict[str, Any]) -> Any:
        """One run of the timing engine, driven to its end."""
        limits = self.turns.Limits(task["runs"], task["width"], task["seconds"])
        work = self.turns.in_turns(
            passes, limits, own_thread=self.threads == 1, hold=lambda: self.turns.held_cores(self.threads)
        )
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value

    def loaded(self, piece: dict[str, Any]) -> Any:
        """One pass of a piece over random images."""
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        content = self.pieces[piece["name"]].tobytes()
        session = self.runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        images = np.random.default_rng(0).standard_normal(piece["images"], dtype=np.float32)
        fed = {session.get_inputs()[0].name: images}
        return lambda: session.run(None, fed)


if __name__ == "__main__":
    sys.exit(main())
