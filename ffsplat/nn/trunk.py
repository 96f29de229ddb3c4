"""The trunk of an any-view network: photos become tokens, and tokens of all views meet."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ffsplat.config import ModelConfig
from ffsplat.nn.blocks import (
    Block,
    causal_mask,
    grid_rotary,
    normalized_positions,
    rotary_embedding,
)
from ffsplat.nn.heads import start_at
from ffsplat.nn.matching import MatchInjection
from ffsplat.nn.positions import SinePosition, Sizes, TablePosition, photo_sizes
from ffsplat.nn.reference import FEWEST_VIEWS, balanced_view, order_from
from ffsplat.nn.stem import PatchStem, Stem

Rotary = tuple[Float[Tensor, "m r"], Float[Tensor, "n r"]]
"""Sines and cosines of the tokens of one view, and of those of all views."""


class Alone(NamedTuple):
    """What a trunk made of views before any of them met: it stays the same in other windows.

    `tokens` begin with the special ones; `skips` are the stem's maps, one view after the other.
    """

    tokens: Float[Tensor, "b v m c"]
    skips: list[Tensor]

    @classmethod
    def together(cls, parts: "Sequence[Alone]") -> "Alone":
        """Views of one set, side by side."""
        skips = zip(*(part.skips for part in parts), strict=True)
        return cls(torch.cat([part.tokens for part in parts], 1), [torch.cat(s) for s in skips])


class Tap(NamedTuple):
    """Tokens after a block, and after the last block before it that attended within views."""

    local: Float[Tensor, "b v m c"]
    last: Float[Tensor, "b v m c"]


class Encoded(NamedTuple):
    """What the trunk made of the photos.

    `tokens` begin with the special ones of each view. The views of `tokens` and `taps` may be in
    another order: view i of set b stands at `places[b, i]`; None is the order of the photos.
    """

    tokens: Float[Tensor, "b v m c"]
    skips: list[Tensor]
    matches: Float[Tensor, "b v n d"] | None
    taps: list[Tap]
    places: Int64[Tensor, "b v"] | None
    sizes: Sizes | None

    def rows(self, views: list[int]) -> list[int] | Int64[Tensor, " n"]:
        """Where views stand among those of all sets, one set after the other."""
        if self.places is None:
            return views
        sets = torch.arange(len(self.places), device=self.places.device)[:, None]
        return (sets * self.places.shape[1] + self.places).flatten()[views]

    def camera_tokens(self) -> Float[Tensor, "b v d"]:
        """Camera tokens of the last tap, the local ones beside the last, not normalised."""
        tokens = torch.cat([part[:, :, 0] for part in self.taps[-1]], dim=-1)
        if self.places is None:
            return tokens
        return tokens[torch.arange(len(tokens), device=tokens.device)[:, None], self.places]


class Trunk(nn.Module):
    """Stem, positions, special tokens and blocks.

    Tokens of a view attend within the view first, then alternately within and across views
    (Wang et al., "VGGT", 2025). The order of views other than the reference carries no meaning.
    Every view brings a camera token and registers of its own.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.prefix = 1 + config.registers
        convolutions = config.stem == "convolution"
        if convolutions:
            self.stem = Stem(width, tuple(reversed(config.decoder[:-1])))
            self.position = SinePosition(width)
        else:
            self.stem = PatchStem(width, config.patch)
            self.position = TablePosition(width, config.table)
        # Row 0 serves the reference view, row 1 all others.
        self.special = start_at(0.02, 2, self.prefix, width)
        if convolutions:
            self.role = start_at(0.02, 2, 1, width)
        if config.camera_block:
            self.class_token = start_at(0.02, width)
        self.blocks = nn.ModuleList(
            Block(
                width,
                config.heads,
                epsilon=config.norm_epsilon,
                gated=config.perceptron == "swiglu",
                query_norm=index >= config.query_norm_from,
            )
            for index in range(config.blocks)
        )
        if config.match_block:
            self.matching = MatchInjection(width, config.match_width)
        self.norm = nn.LayerNorm(width)

    def encode(
        self,
        images: Float[Tensor, "b v 3 h w"],
        valid: Bool[Tensor, "b v h w"] | None,
        camera_tokens: Float[Tensor, "b v c"] | None = None,
        alone: Alone | None = None,
    ) -> Encoded:
        """Tokens of all views; `camera_tokens` stand for cameras that are known.

        `alone` is what `encode_alone` says of these views, if that is known already.
        """
        h, w = images.shape[-2:]
        grid, seen = (h // self.config.patch, w // self.config.patch), self._seen(valid)
        tokens, skips = alone or self.encode_alone(images, valid)
        tokens, matches, taps, places = self._attend(tokens, grid, seen, camera_tokens)
        return Encoded(tokens, skips, matches, taps, places, self._sizes(seen))

    def encode_alone(
        self,
        images: Float[Tensor, "b v 3 h w"],
        valid: Bool[Tensor, "b v h w"] | None,
        reference: bool = True,
    ) -> Alone:
        """What becomes of views by themselves; `reference` says that the first one is the world."""
        b, v, _, h, w = images.shape
        size = (h // self.config.patch, w // self.config.patch)
        flat_valid = None if valid is None else valid.reshape(b * v, 1, h, w).to(images)
        grid, skips = self.stem(images.flatten(0, 1), flat_valid)
        seen = self._seen(valid)
        roles = _roles(v, images.device, reference)
        tokens = self._embed(
            grid.flatten(2).mT.unflatten(0, (b, v)), size, self._sizes(seen), roles
        )
        within, _ = self._rotary(size, tokens)
        mask = None if seen is None else self._admitted(seen).reshape(b * v, 1, 1, -1)
        for index, block in enumerate(self.blocks[: self._blocks_alone]):
            turn = within if index >= self.config.rotary_from else None
            tokens = block(tokens.flatten(0, 1), turn, mask).unflatten(0, (b, v))
        return Alone(tokens, skips)

    @property
    def _blocks_alone(self) -> int:
        """How many blocks come before any in which views meet."""
        config = self.config
        # Blocks within and across views take turns after `view_blocks`; at one of those named here
        # views are matched or ordered.
        return min(config.view_blocks + 1, (config.camera_block or config.match_block) - 1)

    def _seen(self, valid: Bool[Tensor, "b v h w"] | None) -> Bool[Tensor, "b v y x"] | None:
        """The patches that are a photo's own."""
        patch = self.config.patch
        return None if valid is None else valid[..., ::patch, ::patch]

    def _sizes(self, seen: Bool[Tensor, "b v y x"] | None) -> Sizes | None:
        """Those of photos that are not the canvas's, where they matter; a GPU is waited for."""
        if seen is None or isinstance(self.position, SinePosition):
            return None
        return photo_sizes(seen.flatten(0, 1))

    def _admitted(self, seen: Bool[Tensor, "b v y x"]) -> Bool[Tensor, "b v m"]:
        """The tokens that others may look at."""
        return F.pad(seen.flatten(2), (self.prefix, 0), value=True)

    def _embed(
        self,
        tokens: Float[Tensor, "b v n c"],
        grid: tuple[int, int],
        sizes: Sizes | None,
        roles: Int64[Tensor, " v"],
    ) -> Float[Tensor, "b v m c"]:
        b, v = tokens.shape[:2]
        where = self.position(grid, sizes, tokens)
        if where.ndim == 3:
            where = where.expand(b * v, -1, -1).unflatten(0, (b, v))
        if not self.config.camera_block:
            return torch.cat([self._special(tokens, roles), tokens + where + self.role[roles]], 2)
        assert isinstance(self.position, TablePosition)  # the config says so
        start = (self.class_token + self.position.table[0]).to(tokens.dtype)
        return torch.cat([start.expand(b, v, 1, -1), tokens + where], dim=2)

    def _special(
        self, tokens: Float[Tensor, "b v _ c"], roles: Int64[Tensor, " v"]
    ) -> Float[Tensor, "b v p c"]:
        special = self.special[roles].to(tokens.dtype)
        return special.expand(len(tokens), -1, -1, -1)

    def _attend(
        self,
        tokens: Float[Tensor, "b v m c"],
        grid: tuple[int, int],
        seen: Bool[Tensor, "b v y x"] | None,
        camera_tokens: Float[Tensor, "b v c"] | None,
    ) -> tuple[Tensor, Tensor | None, list[Tap], Tensor | None]:
        """Let views meet: tokens after all blocks, matches, taps and places (see `Encoded`)."""
        config, (b, v, m, _) = self.config, tokens.shape
        rotary = self._rotary(grid, tokens)
        admitted = None if seen is None else self._admitted(seen)
        cells = None if seen is None else seen.flatten(2)
        causal = causal_mask(v, m, config.window, tokens.device) if config.window else None
        matches, places, local, taps = None, None, tokens, []
        for index, block in list(enumerate(self.blocks))[self._blocks_alone :]:
            if index == config.camera_block - 1 and camera_tokens is None:
                tokens, admitted, places = self._refer(tokens, admitted)
            if config.camera_block and index == config.camera_block:
                tokens = self._with_cameras(tokens, camera_tokens)
            crossing = index >= config.view_blocks and (index - config.view_blocks) % 2
            shape = (b, v * m, -1) if crossing else (b * v, m, -1)
            mask = None if admitted is None else admitted.reshape(shape[0], 1, 1, shape[1])
            if crossing and causal is not None:
                mask = causal if mask is None else causal & mask
            turn = rotary[1 if crossing else 0] if index >= config.rotary_from else None
            tokens = block(tokens.reshape(shape), turn, mask).reshape(b, v, m, -1)
            local = local if crossing else tokens
            if index in config.taps:
                taps.append(Tap(local, tokens))
            if index + 1 == config.match_block:
                special, patches = tokens[:, :, : self.prefix], tokens[:, :, self.prefix :]
                patches, matches = self.matching(patches, grid, cells)
                tokens = torch.cat([special, patches], dim=2)
        return tokens, matches, taps, places

    def _with_cameras(
        self, tokens: Float[Tensor, "b v m c"], known: Float[Tensor, "b v c"] | None
    ) -> Float[Tensor, "b v m c"]:
        """Tokens with those of the cameras in place of the class tokens."""
        if known is None:
            cameras = self._special(tokens, _roles(tokens.shape[1], tokens.device))
        else:
            cameras = known[:, :, None].to(tokens.dtype)
        return torch.cat([cameras, tokens[:, :, self.prefix :]], dim=2)

    def _rotary(self, grid: tuple[int, int], tokens: Float[Tensor, "b v m c"]) -> Rotary:
        head_width = self.config.width // self.config.heads
        if self.config.rotary == "grid":
            within, across = grid_rotary(*grid, head_width, self.prefix, tokens)
        else:
            positions = normalized_positions(*grid, tokens)
            within = rotary_embedding(positions, head_width, self.prefix).to(tokens.dtype)
            across = within
        return within, across.repeat(tokens.shape[1], 1)

    def _refer(
        self, tokens: Float[Tensor, "b v m c"], admitted: Bool[Tensor, "b v m"] | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Tokens and mask with the reference view first, and where each view went."""
        views = tokens.shape[1]
        if self.config.reference == "first" or views < FEWEST_VIEWS:
            return tokens, admitted, None
        order, places = order_from(balanced_view(tokens[:, :, 0].float()), views)
        sets = torch.arange(len(tokens), device=tokens.device)[:, None]
        return tokens[sets, order], None if admitted is None else admitted[sets, order], places


def _roles(views: int, device: torch.device, reference: bool = True) -> Int64[Tensor, " v"]:
    """0 for the reference view, if it is the first of these, 1 for all others."""
    return (torch.arange(views, device=device) + (not reference)).clamp(max=1)
