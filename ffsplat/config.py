"""The one description of a network: a dataclass that becomes config.json and comes back."""

import json
from dataclasses import asdict, dataclass, fields

from ffsplat.errors import CheckpointError

FORMAT = 1
"""Version of config.json; a newer one is refused."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shape of an any-view network."""

    name: str = "ffsplat"
    format: int = FORMAT
    resolution: int = 128
    """Longer side, in pixels, that photos are resized to by default."""
    patch: int = 8
    """Side of a token in pixels: the stem halves the image log2(patch) times."""
    width: int = 256
    """Channels of a token."""
    heads: int = 4
    """Attention heads of a block."""
    view_blocks: int = 2
    """Blocks at the start that attend within a view only."""
    cross_blocks: int = 6
    """Blocks after those: attention within a view and across views, in turn."""
    match_block: int = 4
    """Blocks before the coarse matches are injected into the tokens."""
    window: int = 0
    """Views that a view sees, itself and those before it, beside the reference; 0: all views."""
    registers: int = 2
    """Scratch tokens a view beside its camera token (Darcet et al., 2024)."""
    decoder: tuple[int, ...] = (64, 48, 32)
    """Channels of the decoder at each finer stride, coarse to fine."""
    match_width: int = 64
    """Channels of a matching descriptor."""
    match_stride: int = 4
    """Pixels between two fine descriptors."""
    code_width: int = 32
    """Channels of the key that a codebook row and a pixel are compared in."""
    whole_rows: int = 58
    """Codebook rows of level `whole`."""
    part_rows: int = 62
    """Codebook rows of level `part`."""
    instance_width: int = 8
    """Channels of the instance embedding."""
    meaning_opacity: bool = False
    """Whether a Gaussian has an opacity for what it means beside that for its colour."""
    metric: bool = True
    """Whether depth was trained in metres."""
    license: str = "Apache-2.0"
    """Licence of the weights, shown to the user."""

    def __post_init__(self):
        if self.patch < 4 or self.patch & (self.patch - 1):
            raise CheckpointError(f"patch must be a power of two from 4 on, not {self.patch}")
        if self.width % self.heads or (self.width // self.heads) % 4:
            raise CheckpointError(
                f"width {self.width} does not split into {self.heads} heads of 4n"
            )
        if 2 ** len(self.decoder) != self.patch:
            raise CheckpointError(
                f"a patch of {self.patch} needs {self.patch.bit_length() - 1} decoder stages"
            )
        if not 0 < self.match_block <= self.view_blocks + self.cross_blocks:
            raise CheckpointError(f"there is no block {self.match_block} to inject matches after")

    def to_json(self) -> str:
        """Indented JSON with every field."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "ModelConfig":
        """Parse config.json; unknown keys, wrong types and newer formats raise CheckpointError."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"config.json is not valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise CheckpointError("config.json must hold one object")
        known = {item.name: item for item in fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            raise CheckpointError(f"config.json has unknown keys: {', '.join(unknown)}")
        if values.get("format", FORMAT) != FORMAT:
            raise CheckpointError(
                f"config.json has format {values['format']}; this ffsplat reads format {FORMAT}",
                hint="update ffsplat",
            )
        for key, value in values.items():
            _check_type(key, value, known[key].default)
        if "decoder" in values:
            values["decoder"] = tuple(values["decoder"])
        return cls(**values)


def _check_type(key: str, value: object, default: object) -> None:
    if isinstance(default, tuple):
        fits = isinstance(value, list) and all(type(item) is int and item > 0 for item in value)
    else:
        fits = type(value) is type(default) and (type(value) is not int or 0 <= value < 65536)
    if not fits:
        raise CheckpointError(f"config.json: {key} cannot be {value!r:.80}")
