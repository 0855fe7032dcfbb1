"""`serve`: the app for this machine alone, or, with --public, for whoever comes."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fpgm_core.cli.arguments import Command
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.limits import bytes_in, count_in
from fpgm_core.runtime.storage import home

_ROOT = Path(__file__).parents[2]
_PORT = 8501


@dataclass(frozen=True)
class Limit:
    """What visitors may take: an option, the variable it sets, what it is without one, and with --public."""

    option: str
    variable: str
    usual: str
    public: str
    help: str

    @property
    def is_bytes(self) -> bool:
        """Whether it is a number of bytes, not a count."""
        return self.variable.endswith("_BYTES")


LIMITS = (
    Limit("--works", "FPGM_WORKS", "4", "4", "long works (training, sweeps, exports) at once; others queue"),
    Limit("--session-works", "FPGM_SESSION_WORKS", "2", "1", "of them those of one visitor"),
    Limit("--waiting", "FPGM_WAITING_WORKS", "64", "64", "long works that may wait for their turn"),
    Limit("--epochs", "FPGM_EPOCHS", "100", "20", "epochs of a training"),
    Limit("--minutes", "FPGM_TRAINING_MINUTES", "", "10", "minutes that a training may take"),
    Limit("--memory", "FPGM_CACHE_BYTES", "2G", "2G", "memory for networks, images and what is remembered of them"),
    Limit("--kept", "FPGM_HOME_BYTES", "4G", "2G", "disk for kept results; the oldest go first"),
    Limit("--opened", "FPGM_OPENED_BYTES", "4G", "1G", "disk for checkpoints that visitors open"),
    Limit("--images", "FPGM_IMAGES_BYTES", "8G", "2G", "disk for decoded images"),
    Limit("--file", "FPGM_FILE_BYTES", "8G", "200M", "the largest file that is read"),
)
# What --public says of the server, and what it must not be told otherwise.
_PUBLIC_SETTINGS = {
    "server.headless": "true",
    "server.enableXsrfProtection": "true",
    "server.enableCORS": "true",
    "server.fileWatcherType": "none",
    "server.websocketPingInterval": "20",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "none",
    "logger.level": "info",
}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--public", action="store_true", help="strangers visit: the safe settings, and stricter limits")
    parser.add_argument("--address", help="where to listen: this machine alone (127.0.0.1) unless said otherwise")
    parser.add_argument("--port", type=int, default=_PORT, help=f"the port, default {_PORT}")
    parser.add_argument("--prefix", default="", help="the path that a proxy serves it at, /fpgm say")
    parser.add_argument(
        "--host", action="append", default=[], metavar="NAME", help="a name that browsers may ask for; repeat for more"
    )
    parser.add_argument(
        "--root", action="append", default=[], metavar="FOLDER",
        help="a folder of this machine whose images visitors may read; repeat for more",
    )  # fmt: skip
    for limit in LIMITS:
        shown = limit.usual or "none"
        parser.add_argument(
            limit.option, metavar="N", help=f"{limit.help}: default {shown}, with --public {limit.public}"
        )
    parser.add_argument("--dry-run", action="store_true", help="print what would be started, and end")


@dataclass(frozen=True)
class Serving:
    """What is started: Streamlit's settings (repeated where one has several values), and the program's variables."""

    settings: tuple[tuple[str, str], ...]
    variables: Mapping[str, str]

    @property
    def command(self) -> list[str]:
        """The command line."""
        options = [word for name, value in self.settings for word in (f"--{name}", value)]
        return [sys.executable, "-m", "streamlit", "run", "app.py", *options]


def serving_of(chosen: argparse.Namespace, environment: Mapping[str, str]) -> Serving:
    """What the arguments ask for. Raises FpgmError for what cannot be, and for what contradicts --public."""
    address = chosen.address or "127.0.0.1"
    if not 1 <= chosen.port <= 65535:
        raise FpgmError(f"port {chosen.port} is none; give one from 1 to 65535")
    settings = [("server.address", address), ("server.port", str(chosen.port))]
    settings += [("server.allowedHosts", _checked_host(host)) for host in chosen.host]
    if chosen.prefix:
        settings.append(("server.baseUrlPath", _checked_prefix(chosen.prefix)))
    roots = os.pathsep.join(_checked_root(folder, chosen.public) for folder in chosen.root)
    variables = {limit.variable: _value(limit, chosen, environment) for limit in LIMITS}
    if chosen.public:
        _check_public(chosen, environment)
        largest = str(max(1, _bytes_of(variables["FPGM_FILE_BYTES"]) >> 20))
        settings += [*_PUBLIC_SETTINGS.items(), ("server.maxUploadSize", largest)]
        variables |= {"FPGM_PUBLIC": "1", "FPGM_DATA_ROOTS": roots, "FPGM_LOG": environment.get("FPGM_LOG", "info")}
        return Serving(tuple(settings), {name: value for name, value in variables.items() if value or "ROOTS" in name})
    if not _is_this_machine(address):
        raise FpgmError(f"at {address} others reach the page; give --public and --host, or leave --address out")
    if roots:
        variables["FPGM_DATA_ROOTS"] = roots
    return Serving(tuple(settings), {name: value for name, value in variables.items() if value})


def _value(limit: Limit, chosen: argparse.Namespace, environment: Mapping[str, str]) -> str:
    """What a limit is: the option's, else the environment's, else --public's own; "" for the program's."""
    given = getattr(chosen, limit.option.removeprefix("--").replace("-", "_"))
    text = given or environment.get(limit.variable, "") or (limit.public if chosen.public else "")
    if text:  # read as the program will
        (bytes_in if limit.is_bytes else count_in)(text, f"{limit.option} ({limit.variable})")
    return str(text)


def _bytes_of(text: str) -> int:
    return bytes_in(text, "--file")


def _check_public(chosen: argparse.Namespace, environment: Mapping[str, str]) -> None:
    if not chosen.host:
        raise FpgmError("--public needs the names that browsers may ask for; give --host, one for each")
    if environment.get("FPGM_DATA_ROOTS"):
        raise FpgmError("FPGM_DATA_ROOTS would have visitors read this machine's folders; unset it, or give --root")
    for name, value in _PUBLIC_SETTINGS.items():
        variable = "STREAMLIT_" + re.sub("([A-Z])", r"_\1", name.replace(".", "_")).upper().replace("C_O_R_S", "CORS")
        said = environment.get(variable, value)
        if said.lower() != value:
            raise FpgmError(f"{variable}={said} contradicts --public, which needs {value}; unset it")
    if environment.get("STREAMLIT_SERVER_ENABLE_AGENT_API", "false").lower() != "false":
        raise FpgmError(
            "STREAMLIT_SERVER_ENABLE_AGENT_API contradicts --public: programs would drive the page; unset it"
        )


def _is_this_machine(address: str) -> bool:
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _checked_host(host: str) -> str:
    if not re.fullmatch(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.\-]*[A-Za-z0-9])?|\[?[0-9A-Fa-f:]+\]?", host):
        raise FpgmError(
            f"{host!r} is no name of a host; give one like fpgm.example.org, without a port, or *.example.org"
        )
    return host


def _checked_prefix(prefix: str) -> str:
    path = prefix.strip("/")
    if not re.fullmatch(r"[\w.\-]+(/[\w.\-]+)*", path, re.ASCII) or ".." in path:
        raise FpgmError(f"{prefix!r} is no path of an address; give one like /fpgm")
    return path


def _checked_root(folder: str, public: bool) -> str:
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise FpgmError(f"--root {folder} is no folder; give one with images in it")
    for place in (Path.home().resolve(), home().resolve(), _ROOT) if public else ():
        if place.is_relative_to(path):
            raise FpgmError(f"--root {folder} would have strangers read all of {place}; give a folder of images alone")
    return str(path)


def _run(chosen: argparse.Namespace) -> int:
    if not (_ROOT / "app.py").is_file():
        raise FpgmError("the app is not installed; install it from a clone: pip install -e '.[app]'")
    if importlib.util.find_spec("streamlit") is None:
        raise FpgmError("streamlit is not installed; pip install 'fpgm-explorer[app]'")
    serving = serving_of(chosen, os.environ)
    if chosen.json:
        print(json.dumps({"command": serving.command, "variables": dict(serving.variables)}))
    elif chosen.dry_run:
        print(
            "\n".join([*(f"{name}={value}" for name, value in serving.variables.items()), shlex.join(serving.command)])
        )
    if chosen.dry_run:
        return 0
    environment = {**os.environ, **serving.variables, "FPGM_HOME": str(home().resolve())}
    os.chdir(_ROOT)  # where Streamlit finds its file of settings
    if os.name == "posix":  # this process becomes the server: whoever stops one stops the other
        sys.stdout.flush()
        os.execve(sys.executable, serving.command, environment)
    return subprocess.call(serving.command, env=environment)


SERVE = Command("serve", "serve the app: to this machine, or with --public to whoever comes", _arguments, _run)
