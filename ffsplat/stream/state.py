"""The whole state of a mapper as one safetensors file: what a stream goes on from after a crash.

Arrays are named by what owns them ("map.", "keyframes.", "graph.", "correction.", "places.",
"way.", "model."); plain values are JSON in the file's metadata. Written whole or not at all.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from ffsplat.errors import CheckpointError
from ffsplat.io.atomic import atomic_output
from ffsplat.stream.atlas import Atlas
from ffsplat.stream.given import DRIFT
from ffsplat.stream.graph.graph import GraphFit, PoseGraph
from ffsplat.stream.keyframes import Keyframe
from ffsplat.stream.map import SplatMap
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.trajectory import Trajectory
from ffsplat.types import ViewSource

if TYPE_CHECKING:
    from ffsplat.stream.mapper import Mapper

VERSION = 5
KEY = "ffsplat"
PLAIN = ("anchored", "_last", "_lost")
"""Attributes of a mapper that are numbers, and are kept as they are."""
REVISITS = ("candidate", "pause", "closed")
"""The same of its revisits."""
FRAMES = ("latest", "doubtful")
"""Attributes of an atlas that are frames like keyframes, or None."""


def save_state(mapper: "Mapper", path: Path) -> Path:
    """Write all that a mapper knows; replaces the file. Raises OutputError."""
    arrays: dict[str, np.ndarray] = {}
    values: dict[str, Any] = {name: getattr(mapper, name) for name in PLAIN}
    values |= {
        "version": VERSION,
        "revisits": {name: getattr(mapper.revisits, name) for name in REVISITS},
        "settings": asdict(mapper.settings),
        "canvas": mapper.canvas.size,
        "model": dict(mapper.predictor.provenance),
    }
    if mapper.atlas is not None:
        arrays, more = _atlas_arrays(mapper.atlas)
        values |= more
    arrays |= _named("model", mapper.predictor.state())
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content = safetensors.numpy.save(whole, {KEY: json.dumps(values)})
    with atomic_output(path, overwrite=True, size=len(content)) as file:
        file.write(content)
    return path


def load_state(mapper: "Mapper", path: Path) -> None:
    """Make a new mapper the one that was saved; its settings must be the same.

    Its first delta tells the whole map: who followed the old one begins anew.

    Raises CheckpointError if the file is none, or of other settings or another model.
    """
    try:
        with safe_open(path, "np") as file:
            values = json.loads((file.metadata() or {})[KEY])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is no state of a stream: {error}") from error
    if values.get("version") != VERSION:
        raise CheckpointError(f"{path} has version {values.get('version')}, expected {VERSION}")
    if values["settings"] != asdict(mapper.settings):
        raise CheckpointError(
            f"{path} was written with other settings", "use the same ones, or another file"
        )
    if values["model"] != dict(mapper.predictor.provenance):
        raise CheckpointError(
            f"{path} was written with another model ({values['model'].get('model', 'unknown')})",
            "use the same one, or another file",
        )
    try:
        _restore(mapper, values, arrays)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _restore(mapper: "Mapper", values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    for name in PLAIN:
        setattr(mapper, name, values[name])
    for name in REVISITS:
        setattr(mapper.revisits, name, values["revisits"][name])
    mapper.canvas.size = tuple(values["canvas"]) if values["canvas"] else None
    mapper.predictor.restore(_part("model", arrays))
    if "now" in values:
        mapper.atlas = _atlas(mapper.settings, values, arrays)
        mapper.atlas.splats.tell_again()
        mapper.atlas.trajectory.tell_again()


def _atlas_arrays(atlas: Atlas) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    keyframes = list(atlas.keyframes)
    frames = {name: getattr(atlas, name) for name in FRAMES if getattr(atlas, name) is not None}
    arrays = (
        _named("map", atlas.splats.state())
        | _named("graph", atlas.submaps.graph.state())
        | _named("way", atlas.trajectory.state())
        | _named("keyframes", _stack(keyframes))
        | _named("places", atlas.memory.state())
        | _named("frames", _stack(list(frames.values())))
    )
    if atlas.submaps.correction is not None:
        arrays |= _named("correction", atlas.submaps.correction.fit.state())
    values = {
        "now": atlas.now,
        "scale_error": atlas.scale_error,
        "cell": atlas.splats.cell,
        "epoch": atlas.submaps.epoch,
        "current": atlas.submaps.current,
        "drift": atlas.submaps.drift,
        "steps": atlas.submaps.correction.steps if atlas.submaps.correction else 0,
        "last_seen": sorted(atlas.submaps.last_seen.items()),
        "names": [one.source.name for one in keyframes],
        "frames": [(name, one.source.name) for name, one in frames.items()],
    }
    return arrays, values


def _atlas(
    settings: MapperSettings, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Atlas:
    splats = SplatMap.from_state(settings, _part("map", arrays))
    atlas = Atlas(settings, splats, PoseGraph.from_state(_part("graph", arrays)))
    atlas.now = values["now"]
    atlas.scale_error = values.get("scale_error", DRIFT)
    atlas.submaps.epoch, atlas.submaps.current = values["epoch"], values["current"]
    atlas.submaps.drift = values["drift"]
    if correction := _part("correction", arrays):
        atlas.submaps.go_on(GraphFit.from_state(correction), values["steps"])
    atlas.submaps.last_seen = {int(a): int(b) for a, b in values["last_seen"]}
    atlas.trajectory = Trajectory.from_state(settings.max_frames, _part("way", arrays))
    for keyframe in _unstack(_part("keyframes", arrays), values["names"]):
        atlas.keyframes.add(keyframe)
        atlas.memory.add(keyframe.number, keyframe.descriptor)
    atlas.memory.restore(_part("places", arrays))
    roles = [role for role, _ in values["frames"]]
    names = [name for _, name in values["frames"]]
    for role, one in zip(roles, _unstack(_part("frames", arrays), names), strict=True):
        setattr(atlas, role, one)
    return atlas


def _stack(keyframes: list[Keyframe]) -> dict[str, np.ndarray]:
    """One array for each field, the keyframes its rows."""
    if not keyframes:
        return {}
    arrays = {
        one.name: np.stack([np.asarray(getattr(keyframe, one.name)) for keyframe in keyframes])
        for one in fields(Keyframe)
        if one.name not in ("source", "given")
    }
    nowhere = np.full((4, 4), np.nan)
    sources = [one.source for one in keyframes]
    return arrays | {
        "given": np.stack([nowhere if one.given is None else one.given for one in keyframes]),
        "sizes": np.array([(one.width, one.height) for one in sources]),
        "original_from_view": np.stack([one.original_from_view for one in sources]),
    }


def _unstack(arrays: Mapping[str, np.ndarray], names: list[str]) -> list[Keyframe]:
    keyframes = []
    for row, name in enumerate(names):
        values = {
            one.name: arrays[one.name][row]
            for one in fields(Keyframe)
            if one.name not in ("source", "given")
        }
        for field in ("number", "time_ns", "submap", "stamp", "middle", "known_intrinsics"):
            values[field] = values[field].item()
        width, height = arrays["sizes"][row].tolist()
        given = arrays["given"][row]
        keyframes.append(
            Keyframe(
                source=ViewSource(name, width, height, arrays["original_from_view"][row]),
                given=None if np.isnan(given).any() else given,
                **values,
            )
        )
    return keyframes


def _named(owner: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{owner}.{name}": array for name, array in arrays.items()}


def _part(owner: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    start = f"{owner}."
    return {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }
