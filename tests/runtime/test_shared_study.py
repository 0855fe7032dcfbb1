"""Points measured together: each once, whoever takes it; those of the killed go to others."""

import os
import subprocess
import sys
import textwrap
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from fpgm_core import FpgmError
from fpgm_core.runtime.shared import SharedStudy

pytest.importorskip("optuna")
TAKER = textwrap.dedent("""
    import os, sys, time
    from fpgm_core.runtime.shared import SharedStudy
    study = SharedStudy(sys.argv[2], sys.argv[3] or None, sign_of_life=1)
    study.offer([str(number) for number in range(12)])
    def square(point):
        print("took", point, flush=True)
        if sys.argv[1] == "hangs":
            time.sleep(1000)
        time.sleep(0.05)
        return {"square": int(point) ** 2, "by": os.getpid()}
    deadline = time.monotonic() + 60
    while len(study.results()) < 12 and time.monotonic() < deadline:
        if not study.take(square):
            time.sleep(0.2)
""")


def taker(how, *, name, url):
    return subprocess.Popen([sys.executable, "-c", TAKER, how, name, url], stdout=subprocess.PIPE, text=True)


def test_a_point_is_measured_once(own_home):
    study, seen = SharedStudy("lengths"), []
    study.offer(["a", "bb"])
    SharedStudy("lengths").offer(["bb", "ccc"])

    def length(point):
        seen.append(point)
        return {"length": len(point)}

    while SharedStudy("lengths").take(length):
        pass
    assert seen == ["a", "bb", "ccc"]
    assert study.results() == {point: {"length": len(point)} for point in seen}
    assert SharedStudy("another").results() == {}
    assert (own_home / "together.sqlite").exists()


def test_an_error_is_raised_and_the_point_waits_for_another():
    study = SharedStudy("lengths")
    study.offer(["a"])

    def fails(point):
        raise ImportError("no such module")

    with pytest.raises(ImportError, match="no such module"):
        study.take(fails)
    assert study.take(lambda point: {"length": 1})
    assert study.results() == {"a": {"length": 1}}


def test_those_who_begin_at_once_share_what_the_first_of_them_makes(tmp_path):
    start, url = threading.Barrier(8), f"sqlite:///{tmp_path / 'together.sqlite'}"

    def opened(number):
        start.wait()
        study = SharedStudy("all", url)
        study.offer([str(number)])
        return study

    with ThreadPoolExecutor(8) as pool:
        studies = list(pool.map(opened, range(8)))
    while studies[0].take(lambda point: {}):
        pass
    assert all(set(study.results()) == set("01234567") for study in studies)


@pytest.mark.parametrize("where", ["SQLite", "PostgreSQL"])
def test_two_processes_take_part_and_one_is_killed(where):
    url = "" if where == "SQLite" else os.environ.get("FPGM_TEST_POSTGRESQL")
    if url is None:
        pytest.skip("FPGM_TEST_POSTGRESQL names no data base: postgresql+psycopg://user:password@host/name")
    name = f"squares {uuid.uuid4()}"
    hangs = taker("hangs", name=name, url=url)
    with hangs:
        assert hangs.stdout.readline() == "took 0\n"
        others = [taker("works", name=name, url=url) for _ in range(2)]
        for other in others:
            other.stdout.readline()
        hangs.kill()
        for other in others:
            assert other.wait(timeout=90) == 0
            other.stdout.close()
    results = SharedStudy(name, url or None).results()
    assert {point: found["square"] for point, found in results.items()} == {str(n): n * n for n in range(12)}
    assert {found["by"] for found in results.values()} <= {other.pid for other in others}


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/file", "unknown://host/name"])
def test_a_data_base_that_cannot_be_used_is_refused(url):
    with pytest.raises(FpgmError, match="cannot be used"):
        SharedStudy("lengths", url)
