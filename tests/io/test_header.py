from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffsplat.errors import OutputError, SceneFileError
from ffsplat.io.header import (
    ESCAPED_WORDS,
    MAX_HEADER,
    comment_lines,
    escape,
    open_regular,
    printable,
    read_header,
    unescape,
)

GOOD = b"""ply
format binary_little_endian 1.0
comment made by hand
obj_info ignored
element stray 3
property uchar red
property double depth
element vertex 2
property float x
property int label
comment ffsplat.model tiny \\u0041
end_header
"""


def parse(content: bytes, tmp_path: Path):
    path = tmp_path / "a.ply"
    path.write_bytes(content)
    with open_regular(path) as file:
        return read_header(file, path.name)


def test_elements_offsets_and_notes(tmp_path):
    header = parse(GOOD + bytes(3 * 9 + 2 * 8), tmp_path)
    assert header.size == len(GOOD)
    assert header.vertex.properties == (("x", "float"), ("label", "int"))
    assert header.vertex.stride == 8
    assert header.vertex_offset == len(GOOD) + 3 * 9
    assert header.body_size == 3 * 9 + 2 * 8
    assert header.notes == {"model": "tiny \\u0041"}
    assert header.row_dtype().descr == [("x", "<f4"), ("label", "<i4")]
    header.check_size("a.ply")


def test_carriage_returns_are_read(tmp_path):
    header = parse(GOOD.replace(b"\n", b"\r\n"), tmp_path)
    assert header.size == len(GOOD) + GOOD.count(b"\n")
    assert header.vertex.count == 2


@pytest.mark.parametrize(
    ("extra", "message"), [(-1, "truncated"), (1, "1 bytes after its last row")]
)
def test_size_must_match(tmp_path, extra, message):
    header = parse(GOOD + bytes(3 * 9 + 2 * 8 + extra), tmp_path)
    with pytest.raises(SceneFileError, match=message):
        header.check_size("a.ply")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"ply\n", b"plx\n", "not a PLY"),
        (b"end_header", b"end_heade", "no end_header"),
        (b"binary_little_endian", b"ascii", "only binary"),
        (b"format binary_little_endian 1.0\n", b"", "no format"),
        (b"1.0", b"2.0", "line 'format"),
        (b"vertex 2", b"vertex -1", "count '-1'"),
        (b"vertex 2", b"vertex 1e9", "count '1e9'"),
        (b"vertex 2", b"vertex 99999999999999999999", "count"),
        (b"vertex 2", b"vertex \xb2", "count"),
        (b"vertex 2", b"vortex 2", "exactly one element named vertex"),
        (b"stray 3", b"vertex 3", "exactly one element named vertex"),
        (b"property float x", b"property list uchar int x", "list property"),
        (b"property float x", b"property half x", "type 'half'"),
        (b"property float x", b"property float label", "twice"),
        (b"property float x", b"property float", "line 'property float'"),
        (b"element stray 3", b"comment", "line 'property uchar red'"),
        (b"obj_info", b"\x1b[31m", r"\\x1b"),
        (b"property float x\n", b"".join(b"property char a%d\n" % i for i in range(5000)), "5001"),
        (b"comment made", b"comment " + bytes(MAX_HEADER), "no end_header in its first"),
    ],
)
def test_bad_headers_are_named(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(SceneFileError, match=message):
        parse(GOOD.replace(old, new, 1), tmp_path)


def test_only_regular_files_are_opened(tmp_path):
    for path in (tmp_path, tmp_path / "absent", Path("/dev/zero")):
        with pytest.raises(SceneFileError):
            open_regular(path)


@given(st.text(st.characters()), st.sampled_from(ESCAPED_WORDS), st.text(st.characters()))
def test_escape_is_exact_and_holds_no_structure(before, word, after):
    text = before + word + after
    escaped = escape(text, extra=" =")
    assert unescape(escaped) == text
    assert escaped.isascii()
    assert escaped.isprintable()
    assert not set(escaped) & set(" =")
    assert not any(word in escaped for word in ESCAPED_WORDS)


def test_foreign_comments_are_shown_as_they_are_but_harmless():
    assert printable('half a "string') == 'half a "string'
    assert printable("\\u001b[31mred\\ud800") == "\ufffd[31mred\ufffd"


def test_comment_lines_refuse_keys_that_are_no_words():
    assert comment_lines({"model": "a\nb"}) == ["comment ffsplat.model a\\nb"]
    with pytest.raises(OutputError, match="provenance key"):
        comment_lines({"two words": ""})
