"""The one description of a network: a dataclass that becomes config.json and comes back."""

import json
import math
from dataclasses import asdict, dataclass, fields

from ffsplat.errors import CheckpointError

FORMAT = 1
"""Version of config.json; a newer one is refused."""

CHOICES = {
    "stem": ("convolution", "patch"),
    "perceptron": ("gelu", "swiglu"),
    "rotary": ("span", "grid"),
    "reference": ("first", "balanced"),
    "read_out": ("pixel", "dpt"),
}
"""What fields that name one of several ways may say."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shape of an any-view network.

    Families of networks differ in these fields only. The defaults are those of `ffsplat-tiny`;
    `zoo.da3` knows those of Depth Anything 3.
    """

    name: str = "ffsplat"
    format: int = FORMAT
    resolution: int = 128
    """Longer side, in pixels, that photos are resized to by default."""
    stem: str = "convolution"
    """How pixels become tokens: by strided convolutions with skips to the decoder, or by one linear
    map a patch of colours normalised as for ImageNet."""
    patch: int = 8
    """Side of a token in pixels: the convolutions halve the image log2(patch) times."""
    table: int = 0
    """Side of the learned table of positions, in tokens; 0: positions are sines."""
    width: int = 256
    """Channels of a token."""
    heads: int = 4
    """Attention heads of a block."""
    view_blocks: int = 2
    """Blocks at the start that attend within a view only."""
    cross_blocks: int = 6
    """Blocks after those: attention within a view and across views, in turn."""
    norm_epsilon: float = 1e-5
    """Added to the variance in the norms of a block (not those of queries and keys)."""
    perceptron: str = "gelu"
    """Hidden layer of a block: GELU of 4 times the width, or a gated one (SwiGLU) of 8/3."""
    query_norm_from: int = 0
    """First block that normalises queries and keys."""
    rotary: str = "span"
    """Rotary positions: in units of the longer side, or whole tokens and only within a view."""
    rotary_from: int = 0
    """First block that rotates queries and keys."""
    camera_block: int = 0
    """Block before which camera tokens take the place of a class token; 0: there is none."""
    reference: str = "first"
    """The view that the others are seen from: the first, or of three or more a typical one."""
    camera_encoder: int = 0
    """Blocks that make camera tokens of known cameras; 0: cameras cannot be given."""
    match_block: int = 4
    """Blocks before the coarse matches are injected into the tokens; 0: they never are."""
    window: int = 0
    """Views that a view sees, itself and those before it, beside the reference; 0: all views."""
    registers: int = 2
    """Scratch tokens a view beside its camera token (Darcet et al., 2024)."""
    read_out: str = "pixel"
    """Heads on a decoder that starts from the last tokens and the stem's skips; or on fused
    pyramids (DPT) of the tokens after some blocks, with a camera decoder."""
    decoder: tuple[int, ...] = (64, 48, 32)
    """Channels of the decoder at each finer stride, coarse to fine."""
    taps: tuple[int, ...] = ()
    """The four blocks whose tokens the pyramids are made of."""
    dpt_channels: tuple[int, ...] = ()
    """Channels of the four levels of a pyramid, fine to coarse."""
    dpt_width: int = 0
    """Channels in which the levels are fused."""
    gaussian_head: bool = False
    """Whether a pyramid of its own shapes the Gaussians; else geometry alone does."""
    sh_degree: int = 0
    """Degree of the spherical harmonics of that head."""
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

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.view_blocks + self.cross_blocks

    def __post_init__(self):
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                raise CheckpointError(f"{key} is {' or '.join(choices)}, not {getattr(self, key)}")
        if self.patch < 1 or self.heads < 1 or self.width < 4:
            raise CheckpointError("patch, heads and width must be positive")
        if self.width % self.heads or (self.width // self.heads) % 4:
            raise CheckpointError(
                f"width {self.width} does not split into {self.heads} heads of 4n"
            )
        if self.match_block > self.blocks:
            raise CheckpointError(f"there is no block {self.match_block} to inject matches after")
        if self.read_out == "pixel":
            self._check_pixel()
        else:
            self._check_dpt()

    def _check_pixel(self) -> None:
        if self.patch < 4 or self.patch & (self.patch - 1):
            raise CheckpointError(f"patch must be a power of two from 4 on, not {self.patch}")
        if 2 ** len(self.decoder) != self.patch:
            raise CheckpointError(
                f"a patch of {self.patch} needs {self.patch.bit_length() - 1} decoder stages"
            )
        if not self.match_block:
            raise CheckpointError("a pixel read-out needs a match_block")
        if self.stem != "convolution" or self.camera_block or self.taps or self.gaussian_head:
            raise CheckpointError("a pixel read-out needs a convolution stem and nothing of a dpt")

    def _check_dpt(self) -> None:
        if self.stem != "patch" or self.table < 2 or self.match_block or self.window:
            raise CheckpointError("a dpt read-out needs a patch stem and table, and no matches")
        if self.whole_rows or self.part_rows or self.instance_width or self.registers:
            raise CheckpointError("a dpt read-out has no codebook rows, instances nor registers")
        if len(self.taps) != 4 or len(self.dpt_channels) != 4 or self.dpt_width % 16:
            raise CheckpointError("a dpt read-out needs 4 taps, 4 channels and a width of 16n")
        if not 0 < self.camera_block <= min(self.taps) or max(self.taps) >= self.blocks:
            raise CheckpointError("taps must be blocks from the camera_block on")
        if self.dpt_width < 16 or any(channels % 4 for channels in self.dpt_channels):
            raise CheckpointError("channels of a pyramid are multiples of 4")
        if self.sh_degree > 3 or self.camera_encoder > self.blocks:
            raise CheckpointError("sh_degree is at most 3, camera_encoder at most all blocks")

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
            if isinstance(value, list):
                values[key] = tuple(value)
        return cls(**values)


def _check_type(key: str, value: object, default: object) -> None:
    if isinstance(default, tuple):
        fits = isinstance(value, list) and all(
            type(item) is int and 0 < item < 65536 for item in value
        )
    elif isinstance(default, float):
        fits = isinstance(value, float) and math.isfinite(value) and value > 0
    else:
        fits = type(value) is type(default) and (type(value) is not int or 0 <= value < 65536)
    if not fits:
        raise CheckpointError(f"config.json: {key} cannot be {value!r:.80}")
