"""Which rows a card has, and how each is measured."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ffsplat.nn.heads import ERROR_PRIOR
from train.evaluation import tally as summaries
from train.evaluation.meaning import STUFF, stuff_rows
from train.evaluation.table import Row
from train.evaluation.tally import Summary, Tally

DEPTH = (
    "depth of the input views where the truth is known, aligned by one median a set (Eigen et al., "
    "2014; Zhou et al., 2017); the mean depth image is that of other clips."
)
POSE = (
    "all pairs of input views, cameras as infer gives them (regressed, then refined by the "
    "network's matches); the angle of the rotation between the relative poses, and the angle "
    "between their translations, sign included, where the cameras are further apart than 2 % of "
    "the mean depth. SIFT + five points has the true intrinsics and counts as the identity where "
    "it fails."
)
AUC = (
    "area under the recall curve of a pair's larger angle, rotation or translation direction, up "
    "to the threshold, with exact trapezoids (Sarlin et al., SuperGlue, 2020); a pair without a "
    "direction counts by its rotation."
)
FIELD = "horizontal field of view of each input view, after refinement."
PIXEL = (
    "the network's best row of the level at each labelled pixel of the input views; IoU is "
    "averaged over the rows that occur in the truth; the majority class is that of other clips."
)
SPLAT = (
    "the scene that infer saves, its codes splatted into the novel views and the heaviest taken at "
    "each labelled pixel; a pixel that nothing covers is wrong. Cameras and scale as for novel "
    "views."
)
SPACE = (
    "the heaviest code of each Gaussian of the scene that infer saves, against the label of the "
    "nearest true surface point of the input and novel views, at any distance, where that has one; "
    "scale as for novel views."
)
PANOPTIC = (
    f"segments of each novel view (Kirillov et al., 2019); {', '.join(STUFF)} are stuff, by "
    "splatted code; all other rows are things, by splatted instance of the saved scene; a mean "
    "over the rows that occur, unlabelled pixels void."
)
SCALE = "mean depth of a set as predicted, against the true one in metres."
CALIBRATION = (
    "actual error of log depth over the one that the network expects; an untrained head expects "
    f"{ERROR_PRIOR}."
)
NOVEL = (
    "up to two views between the input views, splatted from the Gaussians of all pixels with the "
    "true cameras in the frame of view 0, the scale aligned by the median depth of the input views "
    "(without depth by the ways between cameras), no pose optimised at test time; uncovered pixels "
    "take the mean colour of the input views. Geometric Gaussians have the same depth and cameras "
    "but the shapes that ffsplat.geometric makes of them; exact geometry has these shapes at true "
    "depth and poses; the saved scene is pruned, merged over the views and carries its low-pass, "
    "as infer writes it; the nearer view alone is the network given only the view nearest to the "
    "novel one, in that view's frame. SSIM: Wang et al., 2004, 11 x 11 Gaussian windows that lie "
    "wholly inside."
)
GAIN = "PSNR with all input views less that of the nearer view alone, per novel view."
LPIPS = (
    "squared distance of unit feature vectors in the maps of the named network of timm, a mean "
    "over maps, all channels weighed by 1 (Zhang et al., 2018, without the learnt weights): not to "
    "be compared with published LPIPS."
)


@dataclass(frozen=True)
class Spec:
    """A row before it is measured; `summary` makes one number of a tally, for whoever is asked."""

    key: str
    title: str
    statistic: str
    summary: Summary
    protocol: str
    trivial: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    unit: str = ""
    best: Literal["low", "high", "one"] = "low"

    def measured(self, tally: Tally) -> Row:
        """The row of a tally; others that were not measured are left out."""
        trivial, beside = (
            {name: value for name in names if math.isfinite(value := self.summary(tally, name))}
            for names in (self.trivial, self.beside)
        )
        return Row(
            self.key, self.title, self.unit, self.summary(tally, "network"), trivial, beside,
            self.best, self.statistic, self.protocol,
        )  # fmt: skip


def table(tally: Tally, features: str = "") -> list[Row]:
    """The rows of a card that could be measured; `features` names the network behind LPIPS."""
    specs = [
        *_depth(), *_cameras(), *_labels("", "", PIXEL), *_labels("splat", "splatted", SPLAT),
        *_labels("3d", "3d", SPACE), *_panoptic(), *_scale(), *_novel(features),
    ]  # fmt: skip
    rows = [spec.measured(tally) for spec in specs]
    return [row for row in rows if math.isfinite(row.network)]


def _depth() -> Iterator[Spec]:
    trivial = ("constant depth", "mean depth image")
    over = "mean over sets"
    yield Spec("abs_rel", "AbsRel", over, summaries.mean("abs_rel"), DEPTH, trivial)
    yield Spec("delta1", "delta1", over, summaries.mean("delta1"), DEPTH, trivial, best="high")


def _cameras() -> Iterator[Spec]:
    trivial, beside = ("identity",), ("regressed cameras", "SIFT + five points")
    for key, title, metric in (
        ("rotation_deg", "rotation", "rotation"),
        ("translation_deg", "translation direction", "direction"),
    ):
        for suffix, middle in (("", summaries.median), ("_mean", summaries.mean)):
            over = f"{middle.__name__} over pairs"
            yield Spec(key + suffix, title, over, middle(metric), POSE, trivial, beside, "deg")
    for threshold in (5, 10, 20, 30):
        yield Spec(
            f"auc_{threshold}", f"pose AUC@{threshold}", "over all pairs",
            summaries.auc("pose", threshold), AUC, trivial, beside, best="high",
        )  # fmt: skip
    yield Spec(
        "fov_deg", "field of view", "mean over views", summaries.mean("fov"), FIELD,
        ("mean of the range",), ("regressed cameras",), "deg",
    )  # fmt: skip


def _labels(suffix: str, task: str, protocol: str) -> Iterator[Spec]:
    """IoU and accuracy of both levels; `task` is what the tally calls the way of asking."""
    for level in ("whole", "part"):
        for key, title, summary in (
            ("miou", "mIoU", summaries.mean_iou),
            ("accuracy", "accuracy", summaries.accuracy),
        ):
            yield Spec(
                "_".join(filter(None, (key, level, suffix))),
                " ".join(filter(None, (title, level, task))),
                "over all pixels" if task != "3d" else "over all Gaussians",
                summary(" ".join(filter(None, (level, task)))), protocol, ("majority class",),
                best="high",
            )  # fmt: skip


def _panoptic() -> Iterator[Spec]:
    over = "mean over rows"
    for key, title, summary in (
        ("pq", "PQ", summaries.quality("pq")),
        ("pq_things", "PQ of things", summaries.quality("pq", lambda rows: ~stuff_rows(rows))),
        ("pq_stuff", "PQ of stuff", summaries.quality("pq", stuff_rows)),
        ("sq", "segmentation quality", summaries.quality("sq")),
        ("rq", "recognition quality", summaries.quality("rq")),
    ):
        yield Spec(key, title, over, summary, PANOPTIC, best="high")


def _scale() -> Iterator[Spec]:
    yield Spec(
        "scale_log", "absolute log of the scale", "median over sets", summaries.median("scale"),
        SCALE, ("usual scale",),
    )  # fmt: skip

    def ratio(tally: Tally, name: str) -> float:
        """Of the network, or of a head that was never trained."""
        actual, expected = (
            summaries.mean("depth_error")(tally, who) for who in ("actual", "expected")
        )
        return actual / (expected if name == "network" else ERROR_PRIOR)

    yield Spec(
        "depth_error_ratio", "depth error, actual / expected", "ratio of means over sets", ratio,
        CALIBRATION, ("untrained head",), best="one",
    )  # fmt: skip


def _novel(features: str) -> Iterator[Spec]:
    trivial = ("nearest view", "mean colour")
    beside = (
        "geometric Gaussians", "nearer view alone", "regressed cameras", "saved scene",
        "exact geometry",
    )  # fmt: skip
    over = "mean over novel views"
    for key, title, unit in (("psnr", "novel view PSNR", "dB"), ("ssim", "novel view SSIM", "")):
        yield Spec(
            key, title, over, summaries.mean(key), NOVEL, trivial, beside, unit, best="high"
        )  # fmt: skip
    yield Spec(
        "lpips", f"novel view lpips({features}), channel weights 1", over, summaries.mean("lpips"),
        LPIPS, trivial, beside,
    )  # fmt: skip
    yield Spec(
        "psnr_gain", "PSNR gained by further views", over, summaries.mean("gain"), GAIN,
        ("nearer view alone",), unit="dB", best="high",
    )  # fmt: skip
