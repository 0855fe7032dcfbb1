"""What is installed: every file that the library reads is named as its data."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_file_beside_the_code_is_package_data():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = {
        path for pattern in settings["package-data"]["fpgm_core"] for path in (ROOT / "fpgm_core").glob(pattern)
    }
    files = {
        path
        for path in (ROOT / "fpgm_core").rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and "__pycache__" not in path.parts
    }
    assert files, "there are weights and images at least"
    assert files <= packaged, sorted(str(path.relative_to(ROOT)) for path in files - packaged)
