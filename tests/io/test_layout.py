from collections import Counter

import numpy as np
import pytest

from ffsplat.errors import SceneFileError
from ffsplat.io.header import Element, open_regular, read_header
from ffsplat.io.layout import (
    BLOCK_ROWS,
    Layout,
    RowChecks,
    blocks,
    columns,
    describe_faults,
    layout_of,
    spans,
)

STANDARD = (
    "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
)


def element(names: str) -> Element:
    return Element("vertex", 1, tuple((name, "float") for name in names.split()))


def test_names_are_those_of_the_3dgs_file():
    assert " ".join(Layout(1).names) == STANDARD
    assert len(Layout(16).names) == 62
    extra = "cb_id_0 cb_id_1 cb_w_0 cb_w_1 cb_instance"
    assert " ".join(Layout(1, 2, True).names) == f"{STANDARD} {extra}"
    assert " ".join(Layout(1, 2, True, True).names) == f"{STANDARD} {extra} cb_opacity"
    assert " ".join(Layout(1, meaning=True).names) == f"{STANDARD} cb_opacity"


@pytest.mark.parametrize(
    "layout",
    [Layout(1), Layout(4, 1), Layout(9, 0, True), Layout(16, 4, True), Layout(4, 2, False, True)],
)
def test_layout_is_found_again_in_any_order_and_without_normals(layout):
    names = " ".join([*reversed(layout.needed), "label", "nx_extra"])
    assert layout_of(element(names), "a.ply") == layout


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("x y z red green blue", "is not a Gaussian splat: it has no f_dc_0 f_dc_1"),
        (STANDARD.replace("opacity ", ""), "it has no opacity$"),
        (f"{STANDARD} f_rest_0", "1 f_rest properties"),
        (STANDARD + "".join(f" f_rest_{i}" for i in range(72)), "72 f_rest properties"),
        (STANDARD + "".join(f" f_rest_{i + 1}" for i in range(9)), "it has no f_rest_0"),
        (f"{STANDARD} cb_id_0", "1 cb_id and 0 cb_w"),
        (f"{STANDARD} cb_id_0 cb_w_1", "it has no cb_w_0"),
        (STANDARD + "".join(f" cb_id_{i} cb_w_{i}" for i in range(17)), "17 cb_id"),
    ],
)
def test_other_files_are_refused(names, message):
    with pytest.raises(SceneFileError, match=message):
        layout_of(element(names), "a.ply")


def test_columns_side_by_side_are_a_slice():
    vertex = element("a b c d")
    assert columns(vertex, ("b", "c")) == slice(1, 3)
    assert columns(vertex, ("c", "b")) == [2, 1]
    assert columns(vertex, ("d",)) == slice(3, 4)


@pytest.mark.parametrize("count", [0, 1, 65_536, 65_537, 1_000_000])
def test_spans_hold_every_row_once(count):
    rows = [row for span in spans(count) for row in (span.start, span.stop)]
    assert rows == sorted(rows)
    assert sum(span.stop - span.start for span in spans(count)) == count


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("middle", ["f4", "u1"])
def test_blocks_are_the_rows_as_float32(tmp_path, order, middle):
    words = {"f4": "float", "u1": "uchar"}
    table = np.zeros(2 * BLOCK_ROWS + 3, [("x", order + "f4"), ("m", middle), ("y", order + "f4")])
    table["x"], table["m"] = np.arange(len(table)), np.arange(len(table)) % 256
    kind = {"<": "little", ">": "big"}[order]
    head = (
        f"ply\nformat binary_{kind}_endian 1.0\nelement vertex {len(table)}\n"
        f"property float x\nproperty {words[middle]} m\nproperty float y\nend_header\n"
    )
    if middle == "f4":
        table = table.astype([(name, order + "f4") for name in "xmy"])
    (tmp_path / "a.ply").write_bytes(head.encode() + table.tobytes())
    with open_regular(tmp_path / "a.ply") as file:
        header = read_header(file, "a.ply")
    span = slice(5, len(table))
    seen = [(place, block.copy()) for place, block in blocks(tmp_path / "a.ply", header, span)]
    assert [place.start for place, _ in seen] == [5, 5 + BLOCK_ROWS, 5 + 2 * BLOCK_ROWS][
        : len(seen)
    ]
    rows = np.concatenate([block for _, block in seen])
    assert np.array_equal(rows, np.stack([table[name] for name in "xmy"], axis=1)[5:])


def test_file_that_shrinks_while_it_is_read(tmp_path):
    head = b"ply\nformat binary_little_endian 1.0\nelement vertex 3\nproperty float x\nend_header\n"
    (tmp_path / "a.ply").write_bytes(head + bytes(11))
    with open_regular(tmp_path / "a.ply") as file:
        header = read_header(file, "a.ply")
    with pytest.raises(SceneFileError, match="shorter"):
        list(blocks(tmp_path / "a.ply", header, slice(0, 3)))


GOOD_ROW = {"rot_0": 1, "cb_id_0": 4, "cb_id_1": -1, "cb_w_0": 1, "cb_instance": -1}
LAYOUT = Layout(1, 2, True)


def faults_of(**changes: float) -> Counter[str]:
    """Phrases for three rows, of which the middle one is changed."""
    vertex = element(" ".join(LAYOUT.names))
    rows = np.zeros((3, len(LAYOUT.names)), np.float32)
    for name, value in GOOD_ROW.items():
        rows[:, LAYOUT.names.index(name)] = value
    for name, value in changes.items():
        rows[1, LAYOUT.names.index(name)] = value
    found = RowChecks(vertex, LAYOUT, rows=5).count(rows)
    return Counter({fault.phrase: number for fault, number in found.items()})


def test_good_rows_have_no_fault():
    assert not faults_of()
    assert not faults_of(cb_id_1=0, cb_w_0=0.5, cb_w_1=0.5005, cb_instance=2**24 - 1)


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"x": np.nan}, "hold NaN or infinity"),
        ({"scale_2": -np.inf}, "hold NaN or infinity"),
        ({"rot_0": 0}, "have a zero quaternion"),
        ({"cb_id_0": 2.5}, "have a fractional codebook ID"),
        ({"cb_id_0": -2}, r"have a codebook ID outside -1..4"),
        ({"cb_id_0": 5}, r"have a codebook ID outside -1..4"),
        ({"cb_w_1": -0.1, "cb_id_1": 0}, "have a negative code weight"),
        ({"cb_w_0": 1.01}, "have code weights that sum to more than 1"),
        ({"cb_id_0": -1}, "have a weight on no codebook ID"),
        ({"cb_instance": 0.5}, "have a bad instance"),
        ({"cb_instance": -2}, "have a bad instance"),
        ({"cb_instance": 2**24}, "have a bad instance"),
    ],
)
def test_each_fault_is_counted(changes, phrase):
    assert faults_of(**changes) == {phrase: 1}


def test_nan_where_nobody_looks_is_no_fault():
    vertex = element(f"{STANDARD} label")
    row = np.ones((1, 18), np.float32)
    row[0, -1] = np.nan
    assert not RowChecks(vertex, Layout(1)).count(row)


def test_faults_as_one_phrase():
    vertex = element(STANDARD)
    rows = np.full((2, 17), np.nan, np.float32)
    rows[1] = 0
    found = RowChecks(vertex, Layout(1)).count(rows)
    assert describe_faults(found) == "1 hold NaN or infinity; 1 have a zero quaternion"
