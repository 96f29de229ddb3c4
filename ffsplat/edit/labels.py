"""Say what chosen Gaussians are: a codebook row of that name, old or new, and its embeddings."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float16, Float32

from ffsplat import codes
from ffsplat.codebook import LEXICON, lexicon_codebook
from ffsplat.codes import MAX_ROWS
from ffsplat.errors import CheckpointError, UsageError
from ffsplat.io.ply import with_norms
from ffsplat.text import MAX_LETTERS, TEMPLATES, LexiconSpace, OpenClipSpace, text_space
from ffsplat.types import ASKED_LEVELS, LEVELS, NO_ID, Codebook, Scene, SparseCode


@dataclass(frozen=True)
class Label:
    """Say that the chosen Gaussians are a thing, or a part, of this name.

    Evidence of the other level stays; `level` is one of `ASKED_LEVELS`, by default a part where the
    lexicon takes the name for one. The row is the first of that name and level, else a new one; a
    new row is embedded in every text space of the codebook that knows its name (`embedding_of`),
    and is 0 in the others: `missing_spaces` names those in which a query does not find it. With
    `new_instance` the chosen Gaussians also become one new object.
    """

    name: str
    level: str | None = None
    new_instance: bool = False

    def __post_init__(self) -> None:
        if not 0 < len(self.name.strip()) <= MAX_LETTERS or not self.name.isprintable():
            raise UsageError(f"no name for a thing: {self.name!r:.80}")
        if self.level not in (None, *ASKED_LEVELS):
            known = ", ".join(ASKED_LEVELS)
            raise UsageError(f"unknown level {self.level!r}", f"known are {known}")

    def apply(self, scene: Scene, chosen: Bool[np.ndarray, " n"]) -> Scene:
        """The scene with the chosen Gaussians labelled. Raises UsageError for a full codebook."""
        if not chosen.any():
            return scene
        level = self.level or usual_level(self.name)
        codebook, row = _with_row(scene.codebook or lexicon_codebook(), self.name, level)
        counts = codebook.counts.copy()
        counts[row] += np.count_nonzero(chosen)
        codebook = replace(codebook, counts=counts)
        instances = _with_instance(scene, chosen) if self.new_instance else scene.instances
        code = _relabelled(scene, chosen, codebook, row)
        return replace(scene, codes=code, codebook=codebook, instances=instances)


def row_of(codebook: Codebook, name: str, level: str) -> int | None:
    """The first row of this name and level."""
    index = LEVELS.index(level)
    rows = (i for i, known in enumerate(codebook.names) if known == name)
    return next((i for i in rows if codebook.levels[i] == index), None)


def usual_level(name: str) -> str:
    """The level of a name: part for what the lexicon takes for one ("chair leg"), else whole."""
    try:
        return LEVELS[1] if LEVELS[1] in LexiconSpace().parse(name).rows else LEVELS[0]
    except UsageError:
        return LEVELS[0]


def missing_spaces(codebook: Codebook, name: str, level: str | None = None) -> list[str]:
    """The text spaces in which the row of this name cannot be found, for its embedding is 0.

    The lexicon is none of them: asked in it, a scene knows its own names to the letter.
    """
    row = row_of(codebook, name, level or usual_level(name))
    return [
        space
        for space, rows in codebook.spaces.items()
        if row is None or not (space == LEXICON or rows[row].any())
    ]


def embedding_of(name: str, space: str, width: int) -> Float32[np.ndarray, " width"] | None:
    """A name as a unit vector of a text space; None where the space does not know it.

    The lexicon knows the words of its table; a word for several of its rows is found by the words
    of each of them, "lamp" by "floor lamp". An OpenCLIP space knows what its text tower, if it is
    on this machine, makes of the name in `ffsplat.text.TEMPLATES`; nothing is downloaded for it.
    Nobody knows other spaces' towers.
    """
    try:
        encoder = text_space(space)
        if isinstance(encoder, OpenClipSpace):
            encoder.offline = True
            vector = encoder.encode([template.format(name) for template in TEMPLATES]).mean(0)
        else:
            vector = encoder.encode([name])[0]
    except (UsageError, CheckpointError):
        return None
    if space == LEXICON:  # an older table has fewer rows
        vector, beyond = vector[:width], vector[width:]
        vector = np.pad(vector, (0, width - len(vector))) * (not beyond.any())
    length = np.linalg.norm(vector)
    if len(vector) != width or not length > 0:
        return None
    return (vector / length).astype(np.float32)


def _with_row(codebook: Codebook, name: str, level: str) -> tuple[Codebook, int]:
    """The codebook with a row of that name, and its ID."""
    row = row_of(codebook, name, level)
    if row is not None:
        return codebook, row
    if len(codebook) >= MAX_ROWS:
        raise UsageError(f"the codebook is full: it has {len(codebook)} rows")
    spaces = {
        space: np.concatenate([rows, _embedding_row(codebook, name, level, space)])
        for space, rows in codebook.spaces.items()
    }
    grown = Codebook(
        names=(*codebook.names, name),
        levels=np.append(codebook.levels, np.int8(LEVELS.index(level))),
        parents=np.append(codebook.parents, np.int16(NO_ID)),
        counts=np.append(codebook.counts, np.float32(0)),
        spaces=spaces,
    )
    return grown, len(codebook)


def _embedding_row(
    codebook: Codebook, name: str, level: str, space: str
) -> Float16[np.ndarray, "1 d"]:
    """The name's embedding in a space, that of the same name on another level, or 0."""
    rows = codebook.spaces[space]
    twin = next((i for i, known in enumerate(codebook.names) if known == name), None)
    if twin is not None:
        return rows[twin : twin + 1]
    vector = embedding_of(name, space, rows.shape[1])
    row = np.zeros(rows.shape[1], np.float32) if vector is None else vector
    return row[None].astype(np.float16)


def _relabelled(
    scene: Scene, chosen: Bool[np.ndarray, " n"], codebook: Codebook, row: int
) -> SparseCode:
    """The codes with the chosen ones' evidence of the row's level on that row alone.

    A Gaussian without evidence of that level gets as much of it as it has of all the others.
    """
    old = scene.codes or SparseCode(
        np.full((len(scene), 1), NO_ID, np.int16),
        np.zeros((len(scene), 1), np.float16),
        np.zeros(len(scene), np.float16),
    )
    part = old[chosen]
    same_level = codebook.levels == codebook.levels[row]
    here = np.append(same_level, False)[part.ids]
    weights = part.weights.astype(np.float32)
    rest = np.where(here, 0, weights)
    share = np.where(here, weights, 0).sum(1, keepdims=True)
    share[share == 0] = 1
    ids = np.hstack([np.full((len(part), 1), row, np.int16), np.where(here, NO_ID, part.ids)])
    fresh = codes.from_pairs(ids, np.hstack([share, rest]), part.ids.shape[1])
    fresh = with_norms(fresh.ids, fresh.weights, codebook)
    values = {}
    for name, value in vars(old).items():
        values[name] = value.copy()
        values[name][chosen] = getattr(fresh, name)
    return SparseCode(**values)


def _with_instance(scene: Scene, chosen: Bool[np.ndarray, " n"]) -> np.ndarray:
    """The instances with the chosen Gaussians as one more."""
    numbers = (
        np.full(len(scene), NO_ID, np.int32) if scene.instances is None else scene.instances.copy()
    )
    numbers[chosen] = numbers.max(initial=NO_ID) + 1
    return numbers
