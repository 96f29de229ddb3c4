"""The sources by name: reader, terms of use and citation, one row each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.sources import (
    colmap,
    folder,
    nerfstudio,
    realestate10k,
    replica,
    scannet,
    scannetpp,
    seven_scenes,
    tum,
)
from data.sources.frame import SourceScene
from ffsplat.errors import UsageError


@dataclass(frozen=True)
class Source:
    """A published data set: how its scenes are found and read, and what its publishers ask for.

    `find` lists the scenes at or below a folder, `read` reads one of them.
    """

    name: str
    about: str
    find: Callable[[Path], list[Path]]
    read: Callable[[Path], SourceScene]
    terms: str
    terms_url: str
    citation: str


SOURCES: dict[str, Source] = {
    row.name: row
    for row in (
        Source(
            "folder",
            "plain folders of RGB-D frames with poses (cameras.json)",
            folder.find,
            folder.read,
            "those of whoever made the photos; see SOURCE.md in each set",
            "",
            "",
        ),
        Source(
            "tum",
            "TUM RGB-D benchmark",
            tum.find,
            tum.read,
            "CC BY 4.0",
            "https://cvg.cit.tum.de/data/datasets/rgbd-dataset",
            "Sturm, Engelhard, Endres, Burgard, Cremers: A Benchmark for the Evaluation of RGB-D "
            "SLAM Systems, IROS 2012",
        ),
        Source(
            "colmap",
            "COLMAP models with their photos",
            colmap.find,
            colmap.read,
            "those of whoever made the photos",
            "",
            "Schönberger, Frahm: Structure-from-Motion Revisited, CVPR 2016",
        ),
        Source(
            "nerfstudio",
            "transforms.json of nerfstudio, instant-ngp and DL3DV",
            nerfstudio.find,
            nerfstudio.read,
            "DL3DV-10K: its own terms, non-commercial; else those of whoever made the photos",
            "https://github.com/DL3DV-10K/Dataset",
            "Ling et al.: DL3DV-10K: A Large-Scale Scene Dataset for Deep Learning-based 3D "
            "Vision, CVPR 2024",
        ),
        Source(
            "scannet",
            "ScanNet: the export of .sens files, and the layouts of LSM and SIU3R",
            scannet.find,
            scannet.read,
            "ScanNet terms of use: to be signed, non-commercial research and education",
            "http://kaldir.vc.in.tum.de/scannet/ScanNet_TOS.pdf",
            "Dai, Chang, Savva, Halber, Funkhouser, Nießner: ScanNet: Richly-annotated 3D "
            "Reconstructions of Indoor Scenes, CVPR 2017",
        ),
        Source(
            "seven_scenes",
            "7-Scenes",
            seven_scenes.find,
            seven_scenes.read,
            "Microsoft Research licence: non-commercial use only",
            "https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/",
            "Shotton, Glocker, Zach, Izadi, Criminisi, Fitzgibbon: Scene Coordinate Regression "
            "Forests for Camera Relocalization in RGB-D Images, CVPR 2013",
        ),
        Source(
            "realestate10k",
            "RealEstate10K: cameras, with frames cut from the videos",
            realestate10k.find,
            realestate10k.read,
            "cameras CC BY 4.0; the videos belong to their uploaders, under the terms of YouTube",
            "https://google.github.io/realestate10k/",
            "Zhou, Tucker, Flynn, Fyffe, Snavely: Stereo Magnification: Learning View Synthesis "
            "using Multiplane Images, SIGGRAPH 2018",
        ),
        Source(
            "replica",
            "Replica as rendered for NICE-SLAM, and with labels for Semantic-NeRF",
            replica.find,
            replica.read,
            "Replica Dataset research terms: non-commercial research",
            "https://github.com/facebookresearch/Replica-Dataset/blob/main/LICENSE",
            "Straub et al.: The Replica Dataset: A Digital Replica of Indoor Spaces, 2019; Zhu et "
            "al.: NICE-SLAM, CVPR 2022",
        ),
        Source(
            "scannetpp",
            "ScanNet++: iPhone and undistorted DSLR, and the layouts of LSM and SIU3R",
            scannetpp.find,
            scannetpp.read,
            "ScanNet++ terms of use: to be accepted, non-commercial research and education",
            "https://kaldir.vc.in.tum.de/scannetpp/",
            "Yeshwanth, Liu, Nießner, Dai: ScanNet++: A High-Fidelity Dataset of 3D Indoor Scenes, "
            "ICCV 2023",
        ),
    )
}


def source_of(name: str) -> Source:
    """The row of a source; UsageError lists the names."""
    if name not in SOURCES:
        raise UsageError(f"unknown source {name!r}", f"one of {', '.join(SOURCES)}")
    return SOURCES[name]


def guess_source(path: Path) -> Source:
    """The only source that finds scenes at a path; UsageError if none or several do."""
    found = [source for source in SOURCES.values() if source.find(path)]
    if len(found) != 1:
        names = ", ".join(source.name for source in found)
        message = f"{path} looks like {names}" if found else f"no source has scenes in {path}"
        raise UsageError(message, f"--source NAME, one of {', '.join(SOURCES)}")
    return found[0]


def terms_of(source: Source) -> str:
    """What to read before the data is used: terms, where they stand, whom to cite."""
    rows = [f"{source.name}: {source.about}", f"terms: {source.terms}"]
    rows += [f"       {source.terms_url}"] * bool(source.terms_url)
    rows += [f"cite:  {source.citation}"] * bool(source.citation)
    return "\n".join(rows)
