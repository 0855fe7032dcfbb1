"""What is installed: every file that the library reads, the program, and each extra only where it is asked for."""

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DISTRIBUTIONS = packages_distributions()
EXTRAS = PROJECT["project"]["optional-dependencies"]


def distribution(requirement):
    """The name of a requirement such as "numpy>=1.26"."""
    return requirement.split(">")[0].split("[")[0].lower()


def imported(path):
    """The distributions that a file imports, those inside functions too; `require` is no import."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        else:
            continue
        for top in {name.split(".")[0] for name in names} - {"fpgm_core", "pages"} - set(sys.stdlib_module_names):
            yield from (name.lower() for name in DISTRIBUTIONS.get(top, [top])[:1])


def test_every_file_beside_the_code_is_package_data():
    packaged = {
        path
        for pattern in PROJECT["tool"]["setuptools"]["package-data"]["fpgm_core"]
        for path in (ROOT / "fpgm_core").glob(pattern)
    }
    files = {
        path
        for path in (ROOT / "fpgm_core").rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and "__pycache__" not in path.parts
    }
    assert ROOT / "fpgm_core" / "py.typed" in files
    assert files <= packaged, sorted(str(path.relative_to(ROOT)) for path in files - packaged)


def test_the_library_imports_what_it_depends_on_and_no_more():
    """What a file of the library imports comes with the base; plotly with `figures`, whose room asks for it."""
    base = {distribution(requirement) for requirement in PROJECT["project"]["dependencies"]}
    optional = {
        "plotly": "fpgm_core/figures/",
        "tensorboard": "fpgm_core/cli/training.py",
        "umap-learn": "fpgm_core/criteria/",
    }
    asked = set()
    for path in (ROOT / "fpgm_core").rglob("*.py"):
        names = set(imported(path))
        asked |= names
        place = path.relative_to(ROOT).as_posix()
        beyond = {name for name in names - base if not place.startswith(optional.get(name, "nowhere"))}
        assert not beyond, f"{place} imports {beyond}; see fpgm_core.runtime.extras.require"
    by_name = {"torchvision"}  # fpgm_core.runtime.torchvision_import
    assert base - by_name <= asked, f"nothing imports {base - asked - by_name}"


def test_the_app_finds_what_it_imports_and_tests_find_everything():
    app = {distribution(requirement) for extra in ("app", "export", "figures") for requirement in EXTRAS[extra]}
    base = {distribution(requirement) for requirement in PROJECT["project"]["dependencies"]}
    for path in (ROOT / "app.py", *(ROOT / "pages").rglob("*.py")):
        assert set(imported(path)) <= app | base, path
    assert {"fpgm-explorer[export,figures]"} <= set(EXTRAS["app"])
    assert {"fpgm-explorer[app]"} <= set(EXTRAS["test"])


def test_everything_that_is_required_is_pinned():
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    required = {
        distribution(requirement)
        for requirements in (PROJECT["project"]["dependencies"], *EXTRAS.values())
        for requirement in requirements
    }
    assert required - {"fpgm-explorer"} <= pinned


def run_without(packages, code):
    """A fresh interpreter in which the packages are not installed."""
    finder = (
        "import importlib.abc, sys\n"
        "class Missing(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {packages!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name.partition('.')[0])\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    return subprocess.run([sys.executable, "-c", finder + code], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("plotly", "figures", "import fpgm_core.figures"),
        ("umap", "figures", "from fpgm_core.criteria.projections import umap; umap(torch.randn(12, 3))"),
        ("timm", "timm", "from fpgm_core.models import load_model; load_model('timm/resnet18')"),
        *(
            (package, "export", "from fpgm_core.timing import as_onnx; as_onnx(torch.nn.ReLU(), (3, 8, 8))")
            for package in ("onnx", "onnxscript", "onnxruntime")
        ),
    ],
)
def test_a_missing_extra_is_named_in_one_line(package, extra, use):
    done = run_without(
        (package,),
        f"import torch\nfrom fpgm_core import FpgmError\ntry:\n    {use}\nexcept FpgmError as error:\n    print(error)",
    )
    assert done.stdout == f"{package} is not installed; pip install 'fpgm-explorer[{extra}]'\n", done.stderr


def test_on_the_command_line_it_is_exit_status_2(tmp_path):
    arguments = ["lesson", "resnet20", "--out", str(tmp_path / "lesson.html")]
    done = run_without(("plotly",), f"from fpgm_core.__main__ import main\nsys.exit(main({arguments!r}))")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fpgm_core: plotly is not installed; pip install 'fpgm-explorer[figures]'\n"


def test_the_base_needs_no_extra():
    extras = ("streamlit", "pandas", "plotly", "umap", "numba", "sklearn", "onnx", "onnxscript", "onnxruntime")
    done = run_without(
        extras,
        "import runpy\n"  # as `python -m fpgm_core` does
        "sys.argv[1:] = ['layers', 'resnet20', '--rate', '0.4']\n"
        "runpy.run_module('fpgm_core', run_name='__main__')",
    )
    assert done.returncode == 0, done.stderr
    assert "layer3.2.conv2" in done.stdout


@pytest.mark.parametrize(("called", "name"), [("/somewhere/bin/fpgm", "fpgm"), ("__main__.py", "python -m fpgm_core")])
def test_help_names_the_program_as_it_was_called(monkeypatch, capsys, called, name):
    from fpgm_core.__main__ import main

    monkeypatch.setattr(sys, "argv", [called])
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out.startswith(f"usage: {name} ")


def test_the_program_is_the_command_line():
    assert PROJECT["project"]["scripts"] == {"fpgm": "fpgm_core.__main__:main"}
