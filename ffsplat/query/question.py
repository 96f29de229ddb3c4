"""What a strategy is given: a scene, a text and the space in which both are compared."""

from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Bool, Float32

from ffsplat.clip import OPEN_CLIP
from ffsplat.codebook import LEXICON
from ffsplat.embeddings import TextEmbedding
from ffsplat.errors import SceneFileError, UsageError
from ffsplat.query.scoring import in_space
from ffsplat.text import LexiconSpace, TextSpace, add_text_space, embed, text_space
from ffsplat.types import ASKED_LEVELS, LEVELS, Codebook, Scene, SparseCode

Levels = tuple[int, ...]
ALL: Levels = tuple(range(len(LEVELS)))

MOST_CUTS = 4
"""Cuts of a scene's codes that are kept: 18 MB each for a million Gaussians."""

_cuts: WeakKeyDictionary[SparseCode, tuple[Codebook, dict[tuple[str, Levels], SparseCode]]] = (
    WeakKeyDictionary()
)
"""The last cuts of each scene that is still in use: every text asks for the same."""


@dataclass(frozen=True, eq=False)
class Question:
    """A text to be found in a scene; what follows from both is worked out when it is asked for.

    `text` may be embedded already; `space` is that of the text or the scene unless given; `level`
    narrows to one of `ASKED_LEVELS`.
    """

    scene: Scene
    text: str | TextEmbedding
    space: str | TextSpace | None = None
    level: str | None = None

    def __post_init__(self):
        meaning(self.scene)
        if self.level is not None and self.level not in ASKED_LEVELS:
            known = ", ".join(ASKED_LEVELS)
            raise UsageError(f"unknown level {self.level!r}", f"known are {known}")

    @property
    def label(self) -> str:
        """The text in words."""
        return self.text if isinstance(self.text, str) else self.text.text

    @cached_property
    def encoder(self) -> TextSpace:
        """What embeds the text, and other phrases beside it; raises as `choose_space`."""
        if isinstance(self.text, str):
            return choose_space(self.scene, self.space)
        found = _space_of(self.scene, self.text, self.space)
        return text_space(found) if isinstance(found, str) else found

    @cached_property
    def space_name(self) -> str:
        """The name of the space in `Codebook.spaces`."""
        if isinstance(self.text, str):
            return self.encoder.name
        found = _space_of(self.scene, self.text, self.space)
        return found if isinstance(found, str) else found.name

    @cached_property
    def embedding(self) -> TextEmbedding:
        """The text in its space."""
        return embed(self.text, self.encoder) if isinstance(self.text, str) else self.text

    @property
    def of_things(self) -> bool:
        """Whether whole things are meant, too: hits are then instances as they are."""
        return self.level in (None, "whole")

    @property
    def direction(self) -> Float32[np.ndarray, " d"]:
        """The text as a vector of length 1; a word of the lexicon may mark several rows."""
        vector = self.embedding.vector
        return vector / np.linalg.norm(vector) if self.space_name == LEXICON else vector

    @cached_property
    def codebook(self) -> Codebook:
        """The scene's codebook, with the text's space."""
        codebook = meaning(self.scene)[1]
        if self.space_name in codebook.spaces:
            return codebook
        return with_space(codebook, self.encoder)

    @cached_property
    def embeddings(self) -> Float32[np.ndarray, "rows d"]:
        """The rows of the codebook in the text's space."""
        if self.space_name == LEXICON:
            return lexicon_of_rows(self.codebook).astype(np.float32)
        return self.codebook.spaces[self.space_name].astype(np.float32)

    @cached_property
    def counted(self) -> Bool[np.ndarray, " rows"]:
        """The rows of the level, or all."""
        levels = self.codebook.levels
        return (
            np.ones(len(levels), bool) if self.level is None else levels == LEVELS.index(self.level)
        )

    @cached_property
    def code(self) -> SparseCode:
        """The codes of the scene on the rows that count, with their lengths in the text's space."""
        return self.cut(ALL if self.level is None else (LEVELS.index(self.level),))

    def cut(self, levels: Levels) -> SparseCode:
        """The codes of the scene on the rows of some levels, lengths in the text's space.

        The last few are kept for the next question as long as the scene's codes are in use; not
        those in a space that was made of names for this question alone.
        """
        code, codebook = meaning(self.scene)
        if np.isin(codebook.levels, levels).all():
            levels = ALL
        if levels == ALL and self.space_name == next(iter(codebook.spaces)):
            return code
        known = _cuts.get(code)
        if known is None or known[0] is not codebook:
            known = codebook, {}
        cuts, key = known[1], (self.space_name, levels)
        found = cuts.pop(key, None)
        if found is None:
            counted = None if levels == ALL else np.isin(self.codebook.levels, levels)
            found = in_space(code, self.embeddings, counted)
        if self.space_name in codebook.spaces:
            cuts[key] = found  # the last that was asked for stands last
            for oldest in list(cuts)[:-MOST_CUTS]:
                cuts.pop(oldest, None)
            _cuts[code] = known
        return found

    def at_level(self, level: str) -> "Question":
        """The same question about one level; the text is not embedded again."""
        if self.space_name == LEXICON:
            return replace(self, level=level)
        space = self.encoder if isinstance(self.text, str) else self.space
        return Question(self.scene, self.embedding, space, level)

    def row_scores(self, vectors: Float32[np.ndarray, "t d"]) -> Float32[np.ndarray, "rows t"]:
        """Inner products of the codebook's rows and texts: what `codes.score` gathers.

        Raises SceneFileError for vectors of another length.
        """
        if self.embeddings.shape[1] != vectors.shape[1]:
            raise SceneFileError(
                f"rows of space {self.space_name!r} have {self.embeddings.shape[1]} numbers, its "
                f"texts {vectors.shape[1]}"
            )
        return self.embeddings @ vectors.T


def choose_space(scene: Scene, space: str | TextSpace | None) -> TextSpace:
    """The text space of a query: the one that is named, else the lexicon, else the first.

    Raises UsageError for a space that the codebook lacks and that cannot be made of names, and
    SceneFileError if the scene has no codes.
    """
    spaces = meaning(scene)[1].spaces
    chosen = space or (LEXICON if LEXICON in spaces else next(iter(spaces), ""))
    name = chosen if isinstance(chosen, str) else chosen.name
    if name not in spaces and not name.startswith(OPEN_CLIP):
        raise UsageError(f"the scene has no text space {name!r}", f"it has {', '.join(spaces)}")
    return text_space(chosen) if isinstance(chosen, str) else chosen


def with_space(codebook: Codebook, space: str | TextSpace) -> Codebook:
    """The codebook with a text space, made of the names of its rows where it lacks it.

    Raises as `text_space` and `add_text_space`.
    """
    name = space if isinstance(space, str) else space.name
    if name in codebook.spaces:
        return codebook
    return add_text_space(codebook, text_space(space) if isinstance(space, str) else space)


def meaning(scene: Scene) -> tuple[SparseCode, Codebook]:
    """The codes of a scene and their codebook; SceneFileError if it has none."""
    if scene.codes is None or scene.codebook is None:
        raise SceneFileError(
            "the scene says nothing about its things: it has no codes or no codebook",
            "keep the .codebook.safetensors file beside the PLY, or make the scene with ffsplat",
        )
    return scene.codes, scene.codebook


def lexicon_of_rows(codebook: Codebook) -> Bool[np.ndarray, "rows lexicon"]:
    """Which lexicon row each codebook row is; an older codebook knows fewer lexicon rows.

    Raises SceneFileError for a codebook that knows more.
    """
    known = codebook.spaces[LEXICON]
    size = len(LexiconSpace().encode([]).T)
    if known.shape[1] > size:
        raise SceneFileError(
            f"the codebook has {known.shape[1]} lexicon rows, this version {size}",
            "the scene was made by a newer ffsplat",
        )
    rows = np.zeros((len(codebook), size), bool)
    rows[:, : known.shape[1]] = known > 0
    return rows


def _space_of(
    scene: Scene, embedding: TextEmbedding, space: str | TextSpace | None
) -> str | TextSpace:
    """The space that an embedded text is compared in; refuse one that it was not made for."""
    spaces = meaning(scene)[1].spaces
    wanted = space.name if isinstance(space, TextSpace) else space
    others = [name for name in spaces if name != LEXICON]
    found = embedding.space or wanted or (others[0] if len(others) == 1 else "")
    if not found:
        raise UsageError(
            "the file does not say in which space the text is embedded",
            f"--space names it; the scene has {', '.join(spaces)}",
        )
    if wanted not in (None, found):
        raise UsageError(f"the text is embedded in {found!r}, not in {wanted!r}")
    return found if space is None or isinstance(space, str) else space
