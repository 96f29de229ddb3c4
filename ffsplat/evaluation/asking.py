"""A scene that is asked for many phrases and seen from many cameras, as a protocol wants it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from ffsplat.codebook import LEXICON, asked_levels
from ffsplat.errors import UnknownWord, UsageError
from ffsplat.evaluation.truth import LabelledView
from ffsplat.query import query
from ffsplat.query.maps import channels, relevancy_map
from ffsplat.query.question import Question, choose_space, meaning
from ffsplat.render import render
from ffsplat.text import TextSpace
from ffsplat.types import Cameras, Scene


@dataclass(frozen=True, eq=False)
class Subject:
    """A scene with its cameras, and how it is asked.

    `strategy`, `space`, `threshold` and `options` are those of `query`, as usual if None. `unknown`
    gathers the phrases that the scene's words cannot express: to every protocol they are found
    nowhere.
    """

    scene: Scene
    strategy: str | None = None
    space: str | TextSpace | None = None
    threshold: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    def matches(
        self, phrase: str, level: str | None = None
    ) -> tuple[Float32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """The score of every Gaussian, and which match."""
        try:
            found = query(
                self.scene,
                phrase,
                strategy=self.strategy,
                space=self.space,
                threshold=self.threshold,
                level=level,
                max_hits=0,
                **self.options,
            )
        except UnknownWord:
            self.unknown.add(phrase)
            return np.zeros(len(self.scene), np.float32), np.zeros(len(self.scene), bool)
        return found.scores, (found.scores >= found.threshold) & (found.scores > 0)

    def relevancies(self, phrase: str, camera: Cameras) -> Float32[np.ndarray, "levels h w"]:
        """The relevancy of each pixel, level by level; in a space without canon its score.

        Cosines are blended, and become a relevancy at the pixel.
        """
        maps = []
        for level in self.levels():
            question = Question(self.scene, phrase, self.space, level)
            if self.strategy or not canonical(question):
                maps.append(self.score_map(self.matches(phrase, level)[0], camera))
                continue
            columns = channels(question).T
            drawn = [self.score_map(np.ascontiguousarray(one), camera) for one in columns]
            maps.append(relevancy_map(np.stack(drawn, axis=-1)))
        return np.stack(maps)

    def levels(self) -> tuple[str | None, ...]:
        """The levels of the codebook that can be asked for by themselves.

        The lexicon finds the level of a phrase by its words: there it is one question.
        """
        if choose_space(self.scene, self.space).name == LEXICON:
            return (None,)
        return asked_levels(meaning(self.scene)[1])

    @cached_property
    def cameras(self) -> dict[str, Cameras]:
        """The scene's cameras by the stems of their photos; UsageError if there are none."""
        cameras = self.scene.cameras
        if cameras is None:
            raise UsageError(
                "the scene has no cameras", "--cameras takes what `infer --cameras-out` wrote"
            )
        return {stem(name): cameras[[i]] for i, name in enumerate(cameras.names)}

    def seen(self, views: Sequence[LabelledView]) -> list[LabelledView]:
        """The labelled photos that the scene has a camera of; UsageError if it is none of them."""
        found = [view for view in views if view.name in self.cameras]
        if not found:
            raise UsageError(
                f"no camera has the name of a labelled photo, such as {views[0].name}",
                f"they are {', '.join(list(self.cameras)[:6])}",
            )
        return found

    def camera(self, view: LabelledView) -> Cameras:
        """The camera of a labelled photo, with the size of its labels.

        Raises UsageError if photo and labels have different shapes.
        """
        camera = self.cameras[view.name]
        size = np.array(view.size)
        scale = size / camera.sizes[0]
        if abs(scale[0] / scale[1] - 1) > 0.02:
            raise UsageError(
                f"labels of {view.name} have {size[0]}x{size[1]} pixels, its photo "
                f"{camera.sizes[0, 0]}x{camera.sizes[0, 1]}"
            )
        intrinsics = camera.intrinsics * np.array([[scale[0]], [scale[1]], [1]])[None]
        sizes = size[None].astype(np.int32)
        return replace(camera, intrinsics=intrinsics.astype(np.float32), sizes=sizes)

    def score_map(
        self, scores: Float32[np.ndarray, " n"], camera: Cameras
    ) -> Float32[np.ndarray, "h w"]:
        """Scores blended at every pixel; what is seen through gets less."""
        return render(self.scene, camera, "score", scores=scores)[0]

    def silhouette(
        self, chosen: Bool[np.ndarray, " n"], camera: Cameras
    ) -> Float32[np.ndarray, "h w"]:
        """The opacity of the chosen Gaussians alone: nothing stands before them."""
        if not chosen.any():
            return np.zeros(camera.sizes[0, ::-1], np.float32)
        return render(self.scene[chosen], camera, "opacity")[0]


def canonical(question: Question) -> bool:
    """Whether texts of the question's space are compared with canonical phrases."""
    return question.space_name != LEXICON and len(question.embedding.canon) > 0


def stem(name: str) -> str:
    """The name of a photo without folder and extension."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    return base.rsplit(".", 1)[0] if "." in base[1:] else base
