"""Many browsers on one server: `python tests/load.py --browsers 30 --seconds 180`; its start: `--start`.

`--opens resnet50 vgg16 densenet121` says what a process holds with networks opened in turn.

Every browser here is what a server sees of one: a websocket, Streamlit's own messages, the widget states that Chromium
sends. Nothing is drawn, so the server's cores are the server's but for what reading the messages takes. Each opens
the page and then moves one bar after another: a drag of some steps, each sent when the one before was answered,
then rest, then a look at the result. Every count of MACs that is shown is compared with the library's own for the
rates that this browser sent, when all is over: a result of another session, or of an older move, would be found.

All come at once; what is said of the time `once_open` is of moves that began when everybody had the page. The browsers
take of the same cores: `browsers_cores` says how much.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from memory import held_after_opening
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

from fpgm_core import Network
from pages.ui.session.view_state import ViewState, encode

STEPS, PATIENCE = 5, (4.0, 8.0)  # steps of a drag; seconds to wait for the exact figure
EQUALISER = "fpgm_equaliser"
_CARD = re.compile(r'class="label">([A-Za-z]+)')
_STATE = re.compile(r'class="state"[^>]*>([^<]*)<')
_MACS = re.compile(r'class="more">([\d,]+)')


@dataclass
class Observations:
    """What all browsers saw together: waits for pages, drag steps, first and exact figures, and what was wrong."""

    opened: list[Wait] = field(default_factory=list)
    drags: list[Wait] = field(default_factory=list)
    firsts: list[Wait] = field(default_factory=list)
    exacts: list[Wait] = field(default_factory=list)
    moves: int = 0
    wrong: list[str] = field(default_factory=list)
    shown: list[tuple[dict[str, float], str]] = field(default_factory=list)  # rates, and the card of MACs for them
    figures: dict[str, set[str]] = field(default_factory=dict)  # rates -> every exact card shown for them
    cores: float = 0.0  # that the browsers took

    def check(self, network: Network) -> None:
        """What was shown of every plan is what the library counts, and equal plans had equal figures."""
        for rates, card in self.shown:
            shown, true = _MACS.search(card), network.cost(network.plan(rates)).macs
            if shown is None or int(shown[1].replace(",", "")) != true:
                self.wrong.append(f"{card} where {true:,} are right")
        self.wrong += [f"one plan, several figures: {cards}" for cards in self.figures.values() if len(cards) > 1]

    def summary(self) -> dict[str, object]:
        """Counts, medians and 95th percentiles of seconds: of all the time, and once all had opened the page."""
        all_open = max((wait.since + wait.seconds for wait in self.opened), default=0.0)
        names = ("opened", "drags", "firsts", "exacts")
        told = {name: _told(getattr(self, name)) for name in names}
        later = {name: _told([wait for wait in getattr(self, name) if wait.since >= all_open]) for name in names[1:]}
        first = {"moves": self.moves, "wrong": len(self.wrong), "browsers_cores": round(self.cores, 2)}
        return {**first, **told, "once_open": later}


class Wait(NamedTuple):
    """How long something took, and when it began."""

    since: float
    seconds: float

    @classmethod
    def from_start(cls, since: float) -> Wait:
        """What began then and ends now."""
        return cls(since, time.monotonic() - since)


def _told(waits: list[Wait]) -> dict[str, float]:
    values = sorted(wait.seconds for wait in waits)
    if not values:
        return {"count": 0}
    p95 = values[min(len(values) - 1, int(0.95 * len(values)))]
    return {"count": len(values), "median": round(statistics.median(values), 3), "p95": round(p95, 3)}


class Browser:
    """One tab: what it was sent, and how it answers."""

    def __init__(
        self, address: str, network: Network, observed: Observations, seed: int, patience: tuple[float, float]
    ) -> None:
        self._query = f"s={encode(ViewState(network.plan(0.4), network.layers[-1].name))}"
        self._address = address.replace("http", "ws") + "/_stcore/stream"
        self._network, self._observed, self._random, self._patience = network, observed, random.Random(seed), patience
        self._page = self._fragment = self._widget = ""
        self._data: dict[str, object] = {}
        self._state: dict[str, object] = {}
        self._cards: dict[str, str] = {}
        self._news = asyncio.Event()
        self._known: dict[str, ForwardMsg] = {}
        self._socket: ClientConnection | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def live(self, until: float) -> None:
        """Open the page and move bars until that time."""
        start = time.monotonic()
        async with connect(self._address, subprotocols=["streamlit"], max_size=None) as channel:  # type: ignore[list-item]
            self._socket = channel
            reading = asyncio.create_task(self._read())
            await self._send(None)
            await self._seen(lambda: bool(self._data) and "MACs" in self._cards, 120)
            self._observed.opened.append(Wait.from_start(start))
            try:
                while time.monotonic() < until:
                    await self._move()
                    await asyncio.sleep(self._random.uniform(0.5, 1.5))
            finally:
                reading.cancel()
                if self._ticking:
                    self._ticking.cancel()

    async def opens(self, since: float) -> dict[str, float]:
        """Open the page that visitors see first: seconds from `since` to its bars, a first and the exact accuracy."""
        self._query, found = "", dict[str, float]()
        there = {
            "bars": lambda: bool(self._data) and "MACs" in self._cards,
            "first": lambda: self._accuracy() == "exact" or "," in self._accuracy(),
            "exact": lambda: self._accuracy() == "exact",
        }
        async with connect(self._address, subprotocols=["streamlit"], max_size=None) as channel:  # type: ignore[list-item]
            self._socket, reading = channel, asyncio.create_task(self._read())
            await self._send(None)
            for name, condition in there.items():
                if not await self._seen(condition, 120):
                    raise TimeoutError(f"no {name} within two minutes")
                found[name] = round(time.monotonic() - since, 2)
            reading.cancel()
        return found

    async def _move(self) -> None:
        units = self._data["units"]
        assert isinstance(units, list)
        rates = {unit["name"]: unit["rate"] for unit in units}
        name, goal = self._random.choice(list(rates)), self._random.randrange(0, 16) / 20
        before = rates[name]
        for step in range(1, STEPS + 1):
            rates = {**rates, name: round(before + (goal - before) * step / STEPS, 2)}
            start = time.monotonic()
            await self._say(rates, name, "drag")
            self._observed.drags.append(Wait.from_start(start))
            self._observed.shown.append((rates, self._cards["MACs"]))
            await asyncio.sleep(0.05)
        start = time.monotonic()
        await self._say(rates, name, "rest")
        self._observed.shown.append((rates, self._cards["MACs"]))
        self._observed.moves += 1
        if await self._seen(lambda: self._accuracy() == "exact" or "," in self._accuracy(), 60):
            self._observed.firsts.append(Wait.from_start(start))
        if await self._seen(lambda: self._accuracy() == "exact", self._random.uniform(*self._patience)):
            self._observed.exacts.append(Wait.from_start(start))
            self._observed.figures.setdefault(json.dumps(rates), set()).add(self._cards["Accuracy"])

    def _accuracy(self) -> str:
        """How far the measurement is: with a comma once there is a figure."""
        state = _STATE.search(self._cards.get("Accuracy", ""))
        return state[1] if state else ""

    async def _say(self, rates: dict[str, float], name: str, phase: str) -> None:
        """Send the bars, and wait until the page answers them."""
        seq = int(time.time() * 1000)
        self._state["move"] = {"seq": seq, "rev": self._data["rev"], "phase": phase, "chosen": name, "rates": rates}
        self._cards.pop("MACs")
        await self._send(self._fragment)
        if not await self._seen(lambda: self._data["echo"] == seq and "MACs" in self._cards, 60):  # type: ignore[comparison-overlap]
            raise TimeoutError("a move was not answered within a minute")

    async def _seen(self, condition: object, seconds: float) -> bool:
        """Whether a condition came true within so many seconds."""
        deadline = time.monotonic() + seconds
        while not condition():  # type: ignore[operator]
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                return False
        return True

    async def _send(self, fragment: str | None) -> None:
        message = BackMsg()
        message.rerun_script.query_string = self._query
        if fragment is not None:
            message.rerun_script.fragment_id, message.rerun_script.page_script_hash = fragment, self._page
            state = message.rerun_script.widget_states.widgets.add()
            state.id, state.json_value = self._widget, json.dumps(self._state)
        assert self._socket is not None
        await self._socket.send(message.SerializeToString())

    async def _read(self) -> None:
        assert self._socket is not None
        async for data in self._socket:
            message = ForwardMsg()
            message.ParseFromString(data)  # type: ignore[arg-type]
            if message.WhichOneof("type") == "ref_hash":
                message = self._known[message.ref_hash]
            elif message.metadata.cacheable:
                self._known[message.hash] = message
            self._take(message)
            self._news.set()

    def _take(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self._page = message.new_session.page_script_hash
        if kind != "delta":
            return
        element = message.delta.new_element
        if element.WhichOneof("type") == "html" and (card := _CARD.search(element.html.body)):
            self._cards[card[1]] = element.html.body
        is_bars = element.WhichOneof("type") == "bidi_component" and element.bidi_component.component_name == EQUALISER
        if is_bars:
            self._fragment, self._widget = message.delta.fragment_id, element.bidi_component.id
            data = json.loads(element.bidi_component.json)
            if data != self._data:  # equal data is no news to a component
                self._data = data
                self._tick(int(data["poll"]))

    def _tick(self, poll: int) -> None:
        """Ask again after so many milliseconds, as the bars do."""
        if self._ticking:
            self._ticking.cancel()
        self._ticking = asyncio.create_task(self._ask(poll / 1000)) if poll else None

    async def _ask(self, pause: float) -> None:
        while True:
            await asyncio.sleep(pause)
            self._state["tick"] = int(time.time() * 1000)
            await self._send(self._fragment)
            pause = 5.0  # an answer comes first, unless it was lost


async def load(
    address: str,
    browsers: int,
    seconds: float,
    patience: tuple[float, float] = PATIENCE,
    model: str = "resnet20",
    first_seed: int = 0,
) -> Observations:
    """So many browsers at once for so long. Two of each pair move the same bars: equal plans are asked for twice."""
    observed, network = Observations(), Network.load(model)
    begun, taken = time.monotonic(), time.process_time()
    until = begun + seconds
    ended = await asyncio.gather(
        *(Browser(address, network, observed, first_seed + i // 2, patience).live(until) for i in range(browsers)),
        return_exceptions=True,
    )
    observed.wrong += [f"a browser gave up: {error!r}" for error in ended if isinstance(error, BaseException)]
    observed.cores = (time.process_time() - taken) / (time.monotonic() - begun)
    observed.check(network)
    return observed


@contextmanager
def serving(
    home: str | None = None, out: IO[str] | int = subprocess.DEVNULL, app: str | Path = "app.py"
) -> Iterator[str]:
    """A server of an app on a free port, with its own FPGM_HOME and output if given: its address, once it answers.

    Raises ChildProcessError at the end where the server has ended before. Where anything is raised, its output tells
    what each of its threads did.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, begun = f"http://127.0.0.1:{port}", time.monotonic()
    command = [sys.executable, "-m", "streamlit", "run", str(app), "--server.port", str(port)]
    environment = os.environ | ({"FPGM_HOME": home} if home else {}) | {"PYTHONFAULTHANDLER": "1"}
    root = Path(__file__).parents[1]
    server = subprocess.Popen(command, cwd=root, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
                break
            except OSError:
                if server.poll() is not None or time.monotonic() - begun > 60:
                    raise
                time.sleep(0.02)
        yield address
        if server.poll() is not None:
            raise ChildProcessError(f"the server has ended before its time, with {server.returncode}")
    except BaseException:
        server.send_signal(signal.SIGABRT)
        raise
    finally:
        server.terminate()
        server.wait(30)


def start(pause: float) -> dict[str, float]:
    """Start a server: seconds from the command until it answers, and until one visitor has bars and accuracies.

    The visitor's page is asked for `pause` seconds after the server answers: a browser reads Streamlit's own scripts
    first. None is drawn session.
    """
    network, begun = Network.load("resnet20"), time.monotonic()
    with serving() as address:
        up = round(time.monotonic() - begun, 2)
        time.sleep(pause)
        return {"up": up, **asyncio.run(Browser(address, network, Observations(), 0, PATIENCE).opens(begun))}


def server_megabytes(pid: int) -> dict[str, int]:
    """What the server's processes hold now, and each held at most; RssFile is what the system reads again from files.

    All together: pages counted twice are those of libraries' files that two processes share.
    """
    held = dict[str, int]()
    for process in (pid, *children(pid)):
        status = Path(f"/proc/{process}/status").read_text()
        for key, size in re.findall(r"(VmRSS|RssAnon|RssFile|VmHWM):\s+(\d+)", status):
            held[key] = held.get(key, 0) + int(size) // 1024
    return held


def children(pid: int) -> list[int]:
    """The processes that a process began and that go on."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(path.parent.name))
    return found


def main() -> None:
    """Run it against a server that is up, or start one, and print what was seen."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--address", default="http://localhost:8501")
    parser.add_argument("--browsers", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--pid", type=int, help="the server's process, to read its memory")
    parser.add_argument("--rest", type=float, default=60, help="seconds after the last has gone, to read it again")
    parser.add_argument("--opens", nargs="+", metavar="NAME", help="what a process holds with networks opened in turn")
    parser.add_argument("--start", type=float, metavar="SECONDS", help="time a start, a visitor coming so much later")
    given = parser.parse_args()
    if given.start is not None:
        print(json.dumps(start(given.start)))
        return
    if given.opens:
        print(json.dumps({"in turn": held_after_opening(*given.opens)}))
        return
    urllib.request.urlopen(f"{given.address}/_stcore/health", timeout=5)
    observed = asyncio.run(load(given.address, given.browsers, given.seconds))
    summary = observed.summary()
    if given.pid:
        summary["server_mb"] = server_megabytes(given.pid)
        time.sleep(given.rest)
        summary[f"server_mb_{given.rest:.0f}_s_later"] = server_megabytes(given.pid)
    print(json.dumps(summary, indent=1))
    for line in observed.wrong[:10]:
        print(line)


if __name__ == "__main__":
    main()
