"""Before the first browser: the server has read what the first page needs, and was not kept from answering by it."""

import subprocess
import sys
from pathlib import Path

SERVING = """
import asyncio, gc, sys, threading
import app

async def serve():
    async with app.preload(app.app):
        begun = "torch" in sys.modules and "pages.ui.explore" in sys.modules
        await asyncio.to_thread(lambda: [t.join() for t in threading.enumerate() if t.name == "preload"])
        print(begun, "torch" in sys.modules, "pages.ui.explore" in sys.modules)

print("torch" in sys.modules)
asyncio.run(serve())
print(gc.isenabled(), gc.get_freeze_count() > 100_000)
"""
FAILING = """
import gc
from pages.ui.preload import read_modules
try:
    read_modules("no_such_module")
except ImportError as error:
    print(error, gc.isenabled())
"""


def told(code):
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split("\n")[:-1]


def test_the_first_pages_modules_are_read_beside_the_server():
    before, serving, after = told(SERVING)
    assert before == "False"  # the server is up before torch is
    assert serving == "False True True"  # and does not wait for it
    assert after == "True True"


def test_a_module_that_is_missing_leaves_the_collector_on():
    assert told(FAILING) == ["No module named 'no_such_module' True"]
