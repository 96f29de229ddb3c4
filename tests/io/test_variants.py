"""PLY files as other tools make them: which are read, and which are refused by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ffsplat.errors import SceneFileError
from ffsplat.io import read_ply
from ffsplat.io.layout import Layout
from tests.io.scenes import random_gaussians

N = 20
KINDS = {"float": "<f4", "float32": "<f4", "char": "i1", "uchar": "u1", "ushort": "<u2"}
KINDS |= {"int": "<i4", "uint": "<u4", "double": "<f8"}
Columns = list[tuple[str, str, np.ndarray]]


def standard(sh: int = 1, word: str = "float", normals: bool = True) -> Columns:
    """The columns of a file by the reference exporter."""
    gaussians = random_gaussians(N, sh)
    values = {name: np.zeros(N) for name in Layout(sh).names}
    values |= {axis: gaussians.means[:, i] for i, axis in enumerate("xyz")}
    values |= {f"f_dc_{i}": gaussians.sh[:, 0, i] for i in range(3)}
    values |= {f"rot_{i}": gaussians.quaternions_wxyz[:, i] for i in range(4)}
    kept = [name for name in values if normals or name not in ("nx", "ny", "nz")]
    return [(name, word, values[name]) for name in kept]


def extras(word: str, *names: str) -> Columns:
    return [(name, word, np.arange(N) % 100) for name in names]


def build(columns: Columns, head: str = "", tail: str = "", before: bytes = b"") -> bytes:
    """A file from columns; `head` stands before the vertex element, `tail` after it."""
    rows = np.zeros(N, [(name, KINDS[word]) for name, word, _ in columns])
    for name, _, values in columns:
        rows[name] = values
    properties = "".join(f"property {word} {name}\n" for name, word, _ in columns)
    lines = f"{head}element vertex {N}\n{properties}{tail}end_header\n"
    return f"ply\nformat binary_little_endian 1.0\n{lines}".encode() + before + rows.tobytes()


def long_comments(size: int) -> str:
    return f"comment {'x' * 92}\n" * (size // 100)


OTHER = "element codebook 2\nproperty float value\n"
READ: dict[str, Callable[[], bytes]] = {
    "sh 0": lambda: build(standard()),
    "sh 3": lambda: build(standard(16)),
    "no normals": lambda: build(standard(normals=False)),
    "ushort and uchar": lambda: build(standard() + extras("ushort", "a") + extras("uchar", "b")),
    "int": lambda: build(standard() + extras("int", "a")),
    "uint": lambda: build(standard() + extras("uint", "a")),
    "char": lambda: build(extras("char", "a") + standard()),
    "element after": lambda: build(standard(), tail=OTHER) + bytes(8),
    "element before": lambda: build(standard(), head=OTHER, before=bytes(8)),
    "empty element": lambda: build(standard(), tail="element a 0\nproperty float b\n"),
    "comments": lambda: build(standard(), head="comment one\n", tail="comment two\n"),
    "20 kB of comments": lambda: build(standard(), tail=long_comments(20_000)),
    "200 kB of comments": lambda: build(standard(), tail=long_comments(200_000)),
    "packed_ in a comment": lambda: build(standard(), head="comment packed_position\n"),
    "carriage returns": lambda: b"\r\n".join(build(standard()).split(b"\n", 21)),
    "aliases": lambda: build(standard(word="float32")),
    "double": lambda: build(standard(word="double")),
    "obj_info": lambda: build(standard(), head="obj_info made by hand\n"),
    "extras first": lambda: build(extras("float", "a", "b") + standard()),
    "64 extras": lambda: build(standard(4) + extras("float", *(f"e{i}" for i in range(64)))),
    "other codes": lambda: build(standard() + extras("float", *(f"obj_dc_{i}" for i in range(16)))),
    "colours": lambda: build(standard() + extras("uchar", "red", "green", "blue")),
    "reversed": lambda: build(standard(9)[::-1]),
}
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "list element": (
        lambda: build(standard(), tail="element face 1\nproperty list uchar int v\n") + bytes(5),
        "list property",
    ),
    "trailing bytes": (lambda: build(standard()) + b"\0", "1 bytes after its last row"),
    "truncated": (lambda: build(standard())[:-100], "truncated: 100 of its bytes"),
    "empty": (
        lambda: build(standard()).replace(b"vertex 20", b"vertex 0")[: -N * 68],
        "no Gaussians",
    ),
    "points": (lambda: build(standard()[:6]), "not a Gaussian splat"),
    "2 MB of comments": (lambda: build(standard(), tail=long_comments(2_000_000)), "end_header"),
}


@pytest.mark.parametrize("name", READ)
def test_read(tmp_path: Path, name: str):
    path = tmp_path / "a.ply"
    path.write_bytes(READ[name]())
    gaussians, expected = read_ply(path).gaussians, random_gaussians(N)
    assert np.array_equal(gaussians.means, expected.means)
    np.testing.assert_allclose(gaussians.quaternions_wxyz, expected.quaternions_wxyz, atol=1e-6)
    assert np.all(gaussians.opacities == 0.5)
    assert np.all(gaussians.scales == 1)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str):
    path = tmp_path / "a.ply"
    make, message = REFUSED[name]
    path.write_bytes(make())
    with pytest.raises(SceneFileError, match=message):
        read_ply(path)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_an_infinite_logit_is_an_opacity_of_0_or_1(tmp_path: Path, bad: float):
    """As LSM writes it: its opacities are a sigmoid's, which is 1 in float32 from 17 on."""
    logits = np.array([bad, -np.inf] + [0] * (N - 2))
    changed = [(n, word, logits if n == "opacity" else v) for n, word, v in standard()]
    (tmp_path / "a.ply").write_bytes(build(changed))
    if np.isnan(bad):
        with pytest.raises(SceneFileError, match="1 hold NaN or infinity"):
            read_ply(tmp_path / "a.ply")
    else:
        assert read_ply(tmp_path / "a.ply").gaussians.opacities[:3].tolist() == [1, 0, 0.5]
