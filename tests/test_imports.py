"""One direction of imports, and a light `import fpgm_core`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fpgm_core

ROOT = Path(fpgm_core.__file__).parent
HEAVY = (
    "streamlit", "plotly", "umap", "numba", "torchvision", "timm", "torch_pruning", "scipy", "sklearn", "pandas",
    "matplotlib", "onnx", "onnxruntime", "onnxscript", "openvino",
)  # fmt: skip
# Every room reads those of lower rank, and none of its own or a higher one.
RANK = {
    "errors": -1, "runtime": 0, "models": 1, "data": 1, "graph": 2, "calibration": 3, "criteria": 4, "pruning": 5,
    "inference": 6, "training": 7, "recovery": 8, "evaluation": 9, "timing": 10, "allocation": 11, "export": 12,
    "bench": 12, "explore": 12, "figures": 13, "architectures": 13, "lesson": 14, "cli": 15, "": 15, "__main__": 16,
}  # fmt: skip
FILES = sorted(ROOT.rglob("*.py"))


def room(parts):
    """The room of a dotted path below fpgm_core; "" for the package itself."""
    return parts[0] if parts and parts[0] in RANK else ""


def imports(path):
    """Every module a file imports, dotted, those inside functions too."""
    package = ("fpgm_core", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *([node.module] if node.module else [])))
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def own_room(path):
    relative = path.relative_to(ROOT)
    return room((relative.parts[0],) if len(relative.parts) > 1 else (relative.stem,))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path):
    here = own_room(path)
    for name in imports(path):
        top, *rest = name.split(".")
        if top != "fpgm_core":
            continue
        there = room(rest)
        assert there == here or RANK[there] < RANK[here], f"{here or 'fpgm_core'} imports {name}"


def test_every_room_has_its_place():
    folders = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    modules = {path.stem for path in ROOT.glob("*.py")} - {"__init__"}
    assert folders | modules <= set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_plotly_in_figures_only_and_streamlit_nowhere(path):
    tops = {name.split(".")[0] for name in imports(path)}
    assert not {"streamlit", "pages"} & tops
    assert "plotly" not in tops or own_room(path) == "figures"


def test_the_walk_sees_imports_of_every_form(tmp_path):
    file = ROOT / "pruning" / "somewhere.py"
    lines = ("import a.b as c", "from d import e", "from . import f", "from ..g import h", "def x():\n    import i")
    expected = {"a.b", "d.e", "fpgm_core.pruning.f", "fpgm_core.g.h", "i"}

    class Written(type(file)):
        def read_text(self, **_):
            return "\n".join(lines)

    assert set(imports(Written(file))) == expected


@pytest.mark.parametrize("module", ["fpgm_core", "fpgm_core.__main__", "fpgm_core.export"])
def test_importing_is_light(module):
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_loading_pruning_and_measuring_a_bundled_network_is_light_too():
    late = [*HEAVY, "sympy", "torch._dynamo"]  # the latter two are the meta device's, two seconds to import
    code = (
        "import sys, fpgm_core, fpgm_core.data; net = fpgm_core.Network.load('mobilenetv2_cifar'); net.layers;"
        "pruned = net.prune(0.4); pruned.cost; images = fpgm_core.data.load_images('cifar10', 'choose').first(1);"
        "fpgm_core.evaluate(pruned, images);"
        f"print(*[name for name in {late!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
