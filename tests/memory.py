"""What a server's process holds: networks opened in turn on Explore, then nobody there. `python tests/memory.py NAMES`.

A process of its own, for memory that was once held shapes what is held later.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent


def held_after_opening(*names: str) -> dict[str, int]:
    """Megabytes that a fresh process holds with each network open, one after another, and at rest: "rest".

    Each once its measurement is over, and what that freed was given back.
    """
    with tempfile.TemporaryDirectory() as home:
        places = os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS / "app")))
        environment = os.environ | {"FPGM_HOME": home, "PYTHONPATH": places, "FPGM_REST_BYTES": "1"}
        command = [sys.executable, str(Path(__file__)), *names]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def _main() -> None:
    from driving import opened, session_of, until  # type: ignore[import-not-found]

    from fpgm_core.runtime.memory import resident_bytes
    from pages.ui.session.housekeeping import GRACE, IDLE, REST, house, idleness
    from pages.ui.session.jobs import workers
    from pages.ui.session.networks import open_network, view_of

    def is_idle() -> bool:
        return not any(worker.under_way for worker in workers())

    app, found = opened(), {}
    session = session_of(app)
    for name in sys.argv[1:]:
        session.go(view_of(open_network(name)))
        app.run()
        assert until(app, is_idle, 300)
        idleness().tick(0.0, is_busy=True)
        idleness().tick(IDLE, is_busy=False)
        found[name] = (resident_bytes() or 0) >> 20
    del app, session
    for seconds, is_open in ((0.0, True), (1.0, False), (1.0 + GRACE, False), (2.0 + REST, False)):
        house().tick(lambda name, is_open=is_open: is_open, seconds)  # the tab goes, and stays away
    print(json.dumps(found | {"rest": (resident_bytes() or 0) >> 20}))


if __name__ == "__main__":
    _main()
