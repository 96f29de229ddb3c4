"""The row of our own PLY: `ffsplat.io` does the work."""

from pathlib import Path

from ffsplat.io.ply import Profile, read_ply
from ffsplat.types import Scene


def read(path: str | Path, *, codebook: str | Path | None = None) -> Scene:
    """Read a 3DGS PLY; see `ffsplat.io.read_ply`."""
    return read_ply(path, codebook=codebook)


def write(
    scene: Scene, path: str | Path, *, overwrite: bool = False, ply_profile: Profile = "ffsplat"
) -> None:
    """Write a 3DGS PLY and its codebook; see `ffsplat.io.save_scene`."""
    from ffsplat.io import save_scene

    save_scene(scene, path, profile=ply_profile, overwrite=overwrite)
