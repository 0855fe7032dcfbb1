"""The hostile tests drive pages as the pages' own tests do."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "app"))
