"""Scenes, codebooks, cameras and depth as files; numpy only."""

from pathlib import Path

from ffsplat.errors import UsageError
from ffsplat.io.atomic import atomic_output, atomic_outputs, check_output
from ffsplat.io.cameras import read_cameras, write_cameras
from ffsplat.io.check import RULES, Violation, check_ply, describe
from ffsplat.io.codebook_file import (
    CodebookReference,
    codebook_bytes,
    read_codebook,
    sidecar_path,
    write_codebook,
)
from ffsplat.io.ply import Profile, encode_ply, read_ply, write_ply
from ffsplat.types import Scene

__all__ = [
    "RULES",
    "Profile",
    "Violation",
    "atomic_output",
    "check_output",
    "check_ply",
    "describe",
    "load_scene",
    "read_cameras",
    "read_codebook",
    "read_ply",
    "save_scene",
    "scene_outputs",
    "write_cameras",
    "write_codebook",
    "write_ply",
]


def scene_outputs(scene: str | Path, profile: Profile = "ffsplat") -> list[Path]:
    """The files that `save_scene` may write, so that they can be refused before any work.

    Raises UsageError for a name that promises another format, OutputError for one of a folder.
    """
    path = Path(scene)
    if path.suffix.lower() not in ("", ".ply"):
        raise UsageError(f"{path.name} does not end in .ply", "ffsplat convert makes others of it")
    return [path] if profile != "ffsplat" else [path, sidecar_path(path)]


def save_scene(
    scene: Scene, path: str | Path, *, profile: Profile = "ffsplat", overwrite: bool = False
) -> list[Path]:
    """Write a scene as PLY, and its codebook beside it as `<stem>.codebook.safetensors`.

    Both files appear, or neither does; returns them, the scene first. Raises OutputError as
    `write_ply`, and what `scene_outputs` raises for the name.
    """
    scene_outputs(path, profile)
    if profile != "ffsplat" or scene.codes is None or scene.codebook is None:
        write_ply(scene, path, profile=profile, overwrite=overwrite)
        return [Path(path)]
    sidecar = sidecar_path(path)
    content = codebook_bytes(scene.codebook)
    topk = scene.codes.ids.shape[1]
    reference = CodebookReference.of(scene.codebook, content, sidecar.name, topk)
    encoded = encode_ply(scene, profile, reference)
    size = len(content) + encoded.size
    with atomic_outputs([sidecar, path], overwrite, size) as (codebook_file, scene_file):
        codebook_file.write(content)
        encoded.write(scene_file)
    return [Path(path), sidecar]


def load_scene(path: str | Path, codebook: str | Path | None = None) -> Scene:
    """Read a scene of any format in `ffsplat.formats.FORMATS`, a PLY with its codebook.

    Raises SceneFileError naming what is wrong with the file, as `read_ply`.
    """
    from ffsplat.formats import read_scene

    return read_scene(path, codebook=codebook)
