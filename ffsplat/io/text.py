"""Text files of strangers, read under limits: lines of words, JSON, numbers and matrices."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from ffsplat.errors import SceneFileError
from ffsplat.io.header import read_limited

MAX_TEXT_BYTES = 1 << 28

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""Turns OpenGL's camera axes (y up, z backward) to OpenCV's and back, applied on the right."""


def read_text(path: Path) -> str:
    """A text file of at most MAX_TEXT_BYTES; SceneFileError if it is anything else."""
    try:
        return read_limited(path, MAX_TEXT_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise SceneFileError(f"{path} is not text") from error


def read_json(path: Path) -> Any:
    """A JSON document; SceneFileError if it is none."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise SceneFileError(f"{path} is not JSON: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; SceneFileError if the file holds anything else."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise SceneFileError(f"{path} is not a JSON object")
    return content


def lines(path: Path) -> Iterator[list[str]]:
    """The words of every line that is neither empty nor a comment (#)."""
    for line in read_text(path).splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            yield words


def numbers(words: list[str], where: object) -> Float64[np.ndarray, " n"]:
    """Words as numbers, NaN and infinity included; SceneFileError names where they stand."""
    try:
        return np.array([float(word) for word in words], dtype=np.float64)
    except ValueError as error:
        raise SceneFileError(f"{where}: {error}") from error


def matrix(values: object, rows: int, columns: int, where: object) -> Float64[np.ndarray, "r c"]:
    """A matrix from nested or flat JSON numbers, or from a flat array; SceneFileError otherwise."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise SceneFileError(f"{where} is not a matrix") from error
    if array.size != rows * columns or array.ndim not in (1, 2):
        raise SceneFileError(f"{where} is not {rows} x {columns} numbers")
    return array.reshape(rows, columns)
