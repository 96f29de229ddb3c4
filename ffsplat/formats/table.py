"""The table of files that a scene can be read from or handed on as. One row a format.

A row names a module, which is imported when the format is used; the module has
`read(path) -> Scene` where the row reads, and `write(scene, path, *, overwrite=False, **options)`
where it writes. `ffsplat convert` and `ffsplat.io.load_scene` know formats from here alone.
"""

import math

from ffsplat.formats.format import Format, Option

SH_C0 = 0.5 / math.sqrt(math.pi)
"""As in `types`, which takes NumPy to import."""


def _rows(*formats: Format) -> dict[str, Format]:
    return {format_.name: format_ for format_ in formats}


_MEANING = frozenset({"codes", "codebook", "instances", "meaning", "provenance", "metric"})
_SPLAT = frozenset({"shapes", "sh"})

_MIN_OPACITY = Option("min-opacity", 0.1, "Gaussians from this opacity on become points.")

FORMATS = _rows(
    Format(
        name="ply",
        summary="3DGS PLY, codes as extra columns, codebook beside it",
        suffixes=(".ply",),
        module="ffsplat.formats.ply",
        reads=True,
        writes=True,
        carries=_SPLAT | _MEANING,
        sidecar=True,
        options=(
            Option(
                "ply-profile",
                "ffsplat",
                "Everything; no columns of ours; or the 62 columns of the INRIA viewer.",
                ("ffsplat", "plain", "inria"),
            ),
        ),
        source="Kerbl et al. 2023, reference exporter",
    ),
    Format(
        name="compressed-ply",
        summary="PLY of PlayCanvas and SuperSplat, 16 bytes a Gaussian",
        suffixes=(".compressed.ply", ".ply"),
        module="ffsplat.formats.compressed_ply",
        reads=True,
        writes=True,
        carries=_SPLAT,
        precision="11-bit positions and scales in chunks of 256, 8-bit colours, 10-bit rotations",
        ranges={"scales": (math.exp(-20), math.exp(20)), "sh": (-4.0, 4.0)},
        mark=b"\nelement chunk ",
        source="PlayCanvas, The compressed PLY format",
    ),
    Format(
        name="splat",
        summary="32 bytes a Gaussian, for small web viewers",
        suffixes=(".splat",),
        module="ffsplat.formats.splat",
        reads=True,
        writes=True,
        carries=frozenset({"shapes"}),
        precision="8-bit colours, opacities and rotations",
        ranges={"colors": (0.0, 1.0)},
        source="antimatter15/splat",
    ),
    Format(
        name="spz",
        summary="Niantic's packed splat",
        suffixes=(".spz",),
        module="ffsplat.formats.spz",
        reads=True,
        writes=True,
        carries=_SPLAT,
        precision="24-bit positions, 8-bit colours and scales, 10-bit rotations, 4-bit SH",
        ranges={
            "scales": (math.exp(-10), math.exp(255 / 16 - 10)),
            "colors": (0.5 - SH_C0 / 0.3, 0.5 + SH_C0 / 0.3),
            "sh": (-1.0, 1.0),
        },
        options=(
            Option(
                "spz-version",
                "3",
                "3 is read by all; 4 by some, and needs ffsplat[spz].",
                ("2", "3", "4"),
            ),
        ),
        source="github.com/nianticlabs/spz",
    ),
    Format(
        name="sog",
        summary="PlayCanvas' zip of images, 14 bytes a Gaussian or less",
        suffixes=(".sog",),
        module="ffsplat.formats.sog",
        reads=True,
        writes=True,
        carries=_SPLAT,
        precision="16-bit positions, 8-bit colours, scales and rotations, SH of a palette",
        source="PlayCanvas, The SOG format, version 2",
    ),
    Format(
        name="gltf",
        summary="glTF with KHR_gaussian_splatting, codes as attributes, codebook inside",
        suffixes=(".glb", ".gltf"),
        module="ffsplat.formats.gltf",
        reads=True,
        writes=True,
        carries=_SPLAT | _MEANING | {"cameras"},
        source="KhronosGroup/glTF, KHR_gaussian_splatting",
    ),
    Format(
        name="npz",
        summary="everything as NumPy arrays, 12 bytes of codes a Gaussian",
        suffixes=(".npz",),
        module="ffsplat.formats.npz",
        reads=True,
        writes=True,
        carries=_SPLAT | _MEANING | {"cameras"},
        code_precision="8-bit code weights",
        source="numpy.lib.format",
    ),
    Format(
        name="safetensors",
        summary="everything as tensors, 12 bytes of codes a Gaussian",
        suffixes=(".safetensors",),
        module="ffsplat.formats.tensors",
        mark=b"ffsplat.scene",
        reads=True,
        writes=True,
        carries=_SPLAT | _MEANING | {"cameras"},
        code_precision="8-bit code weights",
        source="github.com/huggingface/safetensors",
    ),
    Format(
        name="html",
        summary="one page that shows and finds things, without server and network",
        suffixes=(".html",),
        module="ffsplat.page.write",
        reads=False,
        writes=True,
        carries=frozenset({"shapes", "codes", "instances", "cameras"}),
        precision="8-bit colours, opacities and rotations, 16-bit scales",
        code_precision="8-bit weights of 4 codes",
        ranges={"scales": (6e-8, 65504.0), "colors": (0.0, 1.0)},
        options=(
            Option("queries", "", "Texts to prepare, ; or , between; the usual things if none."),
        ),
    ),
    Format(
        name="colmap",
        summary="COLMAP model: a folder of cameras, views and points",
        suffixes=(),
        module="ffsplat.formats.colmap",
        members=tuple(
            f"{place}cameras.{kind}"
            for place in ("sparse/0/", "sparse/", "")
            for kind in ("bin", "txt")
        ),
        reads=True,
        writes=True,
        carries=frozenset({"cameras"}),
        precision="8-bit colours",
        options=(
            Option("colmap-files", "bin", "Binary or text files.", ("bin", "txt")),
            _MIN_OPACITY,
            Option("tracks", True, "Find out which views see which points."),
        ),
        source="colmap/colmap, doc/format.rst",
    ),
    Format(
        name="nerfstudio",
        summary="cameras of nerfstudio, with points beside them; also a folder of both",
        suffixes=("transforms.json",),
        module="ffsplat.formats.nerfstudio",
        members=("transforms.json",),
        beside=("sparse_pc.ply",),
        reads=True,
        writes=True,
        carries=frozenset({"cameras"}),
        precision="8-bit colours",
        options=(_MIN_OPACITY,),
        source="nerfstudio-project/nerfstudio, docs/quickstart/data_conventions.md",
    ),
    Format(
        name="maps",
        summary="depth, normals or features of every view",
        suffixes=(),
        module="ffsplat.formats.maps",
        reads=False,
        writes=True,
        carries=frozenset({"cameras"}),
        options=(
            Option("maps", "depth", "What to write.", ("depth", "normals", "features")),
            Option("map-scale", 1.0, "Size of a map in sizes of its camera."),
            Option("space", "", "Text space of features; the codebook's first by default."),
            Option("max-gigabytes", 8.0, "Refuse maps that need more."),
        ),
    ),
    Format(
        name="feature-3dgs",
        summary="scenes of Feature 3DGS and LSM, features as codes",
        suffixes=(".ply",),
        module="ffsplat.formats.feature_3dgs",
        reads=True,
        writes=False,
        carries=_SPLAT | {"codes", "codebook"},
        mark=b"property float semantic_0",
        sidecar=True,
        source="ShijieZhou-UCLA/feature-3dgs and NVlabs/LSM, save_ply",
    ),
    Format(
        name="gaussian-grouping",
        summary="scenes of Gaussian Grouping and Gaga, identities as instances",
        suffixes=(".ply",),
        module="ffsplat.formats.gaussian_grouping",
        reads=True,
        writes=False,
        carries=_SPLAT | {"instances"},
        mark=b"property float obj_dc_0",
        sidecar=True,
        source="lkeab/gaussian-grouping, save_ply",
    ),
    Format(
        name="siu3r",
        summary="scenes of SIU3R, classes as codes",
        suffixes=(".ply",),
        module="ffsplat.formats.siu3r",
        reads=True,
        writes=False,
        carries=_SPLAT | {"codes", "codebook", "instances"},
        mark=b"property int semantic_label",
        source="WU-CVGL/SIU3R, ply_export.py",
    ),
    Format(
        name="langsplat",
        summary="checkpoints of LangSplat and LangSplatV2, all levels, features as codes",
        suffixes=(".pth",),
        module="ffsplat.formats.langsplat",
        reads=True,
        writes=False,
        carries=_SPLAT | {"codes", "codebook"},
        sidecar=True,
        source="minghanqin/LangSplat and ZhaoYujie2002/LangSplatV2, gaussian_model.py",
    ),
    Format(
        name="mesh",
        summary="the surface that the cameras see, as triangles (PLY, OBJ, GLB)",
        suffixes=(".obj", ".mesh.ply", ".mesh.glb"),
        module="ffsplat.formats.mesh",
        reads=False,
        writes=True,
        carries=frozenset(),
        options=(Option("mesh-voxels", 256, "Voxels along the longest side."),),
        source="Curless and Levoy, 1996",
    ),
)
"""Every format by name. Rows are added here."""
