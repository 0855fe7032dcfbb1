"""`fpgm serve`: what it starts, and what --public refuses."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from fpgm_core.cli.serve import LIMITS

ROOT = Path(__file__).parents[2]
PUBLIC = ("serve", "--public", "--host", "fpgm.example.org", "--json", "--dry-run")


def serving(run, *arguments):
    """The settings (a list where one has several values) and variables that would be served with."""
    status, out, err = run(*arguments)
    assert status == 0, err
    said = json.loads(out)
    words, settings = said["command"][5:], {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        settings.setdefault(name.removeprefix("--"), []).append(value)
    return settings, said["variables"]


def test_alone_it_serves_this_machine(run):
    settings, variables = serving(run, "serve", "--json", "--dry-run")
    assert settings["server.address"] == ["127.0.0.1"]
    assert "FPGM_PUBLIC" not in variables
    assert variables == {}


def test_public_sets_what_is_safe(run):
    settings, variables = serving(run, *PUBLIC, "--host", "*.example.org", "--prefix", "/class/fpgm/")
    assert settings["server.allowedHosts"] == ["fpgm.example.org", "*.example.org"]
    assert settings["server.baseUrlPath"] == ["class/fpgm"]
    assert settings["server.enableXsrfProtection"] == settings["server.enableCORS"] == ["true"]
    assert settings["client.showErrorDetails"] == ["none"]
    assert settings["server.maxUploadSize"] == ["200"]
    assert (variables["FPGM_PUBLIC"], variables["FPGM_DATA_ROOTS"]) == ("1", "")
    assert {limit.variable: variables[limit.variable] for limit in LIMITS} == {
        limit.variable: limit.public for limit in LIMITS
    }


def test_limits_are_the_options_then_the_environments_then_its_own(run, monkeypatch):
    monkeypatch.setenv("FPGM_WORKS", "9")
    monkeypatch.setenv("FPGM_EPOCHS", "7")
    settings, variables = serving(run, *PUBLIC, "--works", "2", "--file", "50M")
    assert (variables["FPGM_WORKS"], variables["FPGM_EPOCHS"], variables["FPGM_SESSION_WORKS"]) == ("2", "7", "1")
    assert settings["server.maxUploadSize"] == ["50"]


def test_folders_that_visitors_may_read(run, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    _, variables = serving(run, *PUBLIC, "--root", folder)
    assert variables["FPGM_DATA_ROOTS"] == str(folder.resolve())
    assert run(*PUBLIC, "--root", tmp_path)[0] == 2  # FPGM_HOME lies in it


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["serve", "--address", "0.0.0.0"], {}, "give --public"),
        (["serve", "--address", "example.org"], {}, "give --public"),
        (["serve", "--public"], {}, "needs the names"),
        ([*PUBLIC, "--host", "http://x"], {}, "no name of a host"),
        ([*PUBLIC, "--host", "x:80"], {}, "no name of a host"),
        ([*PUBLIC, "--prefix", "../up"], {}, "no path of an address"),
        ([*PUBLIC, "--prefix", "a b"], {}, "no path of an address"),
        ([*PUBLIC, "--root", "/"], {}, "would have strangers read"),
        ([*PUBLIC, "--root", "~"], {}, "would have strangers read"),
        ([*PUBLIC, "--root", "/no/such/folder"], {}, "is no folder"),
        ([*PUBLIC, "--works", "0"], {}, "no whole number"),
        ([*PUBLIC, "--memory", "much"], {}, "no number of bytes"),
        ([*PUBLIC, "--port", "70000"], {}, "port 70000"),
        (PUBLIC, {"FPGM_DATA_ROOTS": "/srv"}, "unset it, or give --root"),
        (PUBLIC, {"FPGM_WORKS": "many"}, "no whole number"),
        (PUBLIC, {"STREAMLIT_SERVER_ENABLE_CORS": "false"}, "contradicts --public"),
        (PUBLIC, {"STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION": "False"}, "contradicts --public"),
        (PUBLIC, {"STREAMLIT_CLIENT_SHOW_ERROR_DETAILS": "full"}, "contradicts --public"),
        (PUBLIC, {"STREAMLIT_SERVER_ENABLE_AGENT_API": "true"}, "contradicts --public"),
    ],
)
def test_what_cannot_be_or_contradicts_is_refused_in_one_line(run, monkeypatch, arguments, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def request(port, path, host):
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    with urllib.request.urlopen(asked, timeout=5) as answer:
        return answer.status, answer.read()


@pytest.mark.thorough
def test_a_public_server_answers_below_its_prefix_and_ends_when_it_is_told(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "fpgm_core",
        "serve",
        "--public",
        "--host",
        "fpgm.example.org",
        "--prefix",
        "/fpgm",
    ]
    environment = os.environ | {"FPGM_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen([*command, "--port", str(port)], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert request(port, "/fpgm/_stcore/health", "fpgm.example.org") == (200, b"ok")
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        status, page = request(port, "/fpgm/", "fpgm.example.org")
        assert status == 200
        assert b"<html" in page
    finally:
        server.terminate()
        assert server.wait(30) in (0, -15)
        server.stderr.close()
