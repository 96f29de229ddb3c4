"""Who may import whom, and what stays unloaded until it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ORDER = [
    "errors", "types", "compiled", "medians", "device", "weights",
    "geometry", "alignment", "exif", "decode", "images", "config", "prediction", "geometric",
    "codes", "codebook", "color_names", "clip", "embeddings", "text",
    "nn", "model", "refine", "remembered", "captured", "one_pass",
    "voxels", "instances", "semantics", "consistency", "pruning", "fusion", "merge",
    "hits", "grouping", "query", "render", "io", "evaluation", "formats",
    "zoo", "hub", "chunks", "edit", "stream", "predictor", "page", "view", "api", "cli", "__main__",
]  # fmt: skip
"""Modules of ffsplat; each imports only those to its left, and the version from the root."""

CONVENIENCE = {
    ("io", "formats"),
    ("types", "embeddings"),
    ("types", "io"),
    ("types", "query"),
    ("types", "render"),
    ("weights", "io"),
}
"""Methods of Scene that call the layers above; they import inside the method. And the conversion of
foreign weights, which writes a file and is loaded when it is first used; and scenes in any format,
since the PLY is only the first of them."""

HEAVY = ("torch", "timm", "open_clip", "lightning", "numba", "huggingface_hub", "gsplat")


def modules() -> list[tuple[str, Path]]:
    package = ROOT / "ffsplat"
    files = sorted(package.rglob("*.py"))
    return [(file.relative_to(package).parts[0].removesuffix(".py"), file) for file in files]


def imported(file: Path, package: str) -> set[str]:
    """Submodules of a package that a file imports anywhere, function bodies included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            if node.module == package:
                found |= {alias.name for alias in node.names}
            elif node.module and node.module.startswith(package + "."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
            found |= {part[1] for part in parts if part[0] == package and len(part) > 1}
    return found


def test_every_module_has_its_place():
    assert {name for name, _ in modules()} - {"__init__"} <= set(ORDER)
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize(("module", "file"), modules(), ids=lambda value: str(value)[-40:])
def test_imports_point_one_way(module, file):
    if module == "__init__":
        return
    allowed = {*ORDER[: ORDER.index(module) + 1], "__version__"}
    above = {
        name for name in imported(file, "ffsplat") - allowed if (module, name) not in CONVENIENCE
    }
    assert not above, f"{file.relative_to(ROOT)} imports {above} from above itself"


def test_convenience_imports_stand_inside_methods():
    tree = ast.parse((ROOT / "ffsplat" / "types.py").read_text())
    top = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert not {module for module in top if module and module.startswith("ffsplat")}


@pytest.mark.parametrize("folder", ["ffsplat", "data", "train"])
def test_folders_import_only_those_before_them(folder):
    later = {"ffsplat": ("data", "train", "tests"), "data": ("train", "tests"), "train": ("tests",)}
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            roots = {name.split(".")[0] for name in names}
            assert not roots & set(later[folder]), f"{file.relative_to(ROOT)} imports {roots}"


@pytest.mark.parametrize(
    "statement",
    [
        "import ffsplat",
        "import ffsplat; ffsplat.Scene; ffsplat.load_scene; ffsplat.FFSplatError",
        "import ffsplat.io",
        "import ffsplat.query",
        "import ffsplat.codes, ffsplat.codebook, ffsplat.text",
        "import ffsplat.images",
        "import ffsplat.cli",
    ],
)
def test_light_modules_load_nothing_heavy(statement):
    check = f"import sys; {statement}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_importing_the_package_loads_not_even_numpy():
    check = "import sys, ffsplat; print('numpy' in sys.modules, 'PIL' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False False\n"
