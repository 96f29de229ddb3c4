"""The any-view network: photos without poses in, pixel-aligned Gaussians with meaning out."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ffsplat.config import ModelConfig
from ffsplat.geometry import image_size, intrinsics_from_focal, rigid, rotation_from_vector
from ffsplat.nn.blocks import Block, causal_mask, normalized_positions, rotary_embedding
from ffsplat.nn.heads import (
    ERROR_PRIOR,
    CameraHead,
    CodeHead,
    PixelHead,
    activate_gaussians,
    start_at,
)
from ffsplat.nn.matching import MatchInjection
from ffsplat.nn.stem import Decoder, Stem
from ffsplat.prediction import Prediction

POSITION_FREQUENCIES = 4
ALL_PIXELS = (slice(None), slice(None))
CHANNELS_LAST = torch.channels_last
"""Where convolutions keep their channels: a tenth of a training step is saved."""


class FFSplat(nn.Module):
    """One plain transformer for any number of views.

    Tokens of a view attend within the view first, then alternately within and across views
    (Wang et al., "VGGT", 2025). View 0 is the reference; the order of the others carries no
    meaning. Every view brings a camera token and registers of its own.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        width, channels = config.width, config.decoder
        skips = tuple(reversed(channels[:-1]))
        self.stem = Stem(width, skips)
        self.position = nn.Linear(4 * POSITION_FREQUENCIES, width)
        self.prefix = 1 + config.registers
        # Row 0 serves the reference view, row 1 all others.
        self.special = start_at(0.02, 2, self.prefix, width)
        self.role = start_at(0.02, 2, 1, width)
        blocks = config.view_blocks + config.cross_blocks
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(blocks))
        self.matching = MatchInjection(width, config.match_width)
        self.norm = nn.LayerNorm(width)
        self.camera_head = CameraHead(width)
        self.decoder = Decoder(width, channels, skips)
        self.match_map = (config.patch // config.match_stride).bit_length() - 2
        self.describe = nn.Linear(channels[self.match_map], config.match_width)
        self.pixel_head = PixelHead(channels[-1], config)
        self.whole_head = CodeHead(config.code_width, config.whole_rows)
        self.part_head = CodeHead(config.code_width, config.part_rows)
        self.to(memory_format=CHANNELS_LAST)

    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        valid: Bool[Tensor, "b v h w"] | None = None,
        code_pixels: tuple[slice, slice] = ALL_PIXELS,
    ) -> Prediction:
        """Predict everything about b sets of v views, sRGB in [0, 1].

        h and w must be multiples of the patch; `valid` is False on padding, which must fill
        whole patches to the right of and below a photo. `code_pixels` are the rows and columns
        that are scored against the codebook: training is content with a quarter of them.
        Raises ValueError on other sizes.
        """
        b, v, _, h, w = images.shape
        patch = self.config.patch
        if h % patch or w % patch:
            raise ValueError(f"image size {h}x{w} is not a multiple of the patch {patch}")
        flat = images.flatten(0, 1)
        flat_valid = None if valid is None else valid.reshape(b * v, 1, h, w).to(images)
        grid, skips = self.stem(flat, flat_valid)
        token_valid = None if valid is None else valid[..., ::patch, ::patch].flatten(2)
        size = (h // patch, w // patch)
        tokens = self._embed(grid.flatten(2).mT.unflatten(0, (b, v)), size)
        tokens, matches = self._attend(tokens, size, token_valid)
        tokens = self.norm(tokens)
        cameras = self.camera_head(tokens[:, :, 0])
        grid = tokens[:, :, self.prefix :].flatten(0, 1).mT.unflatten(-1, size)
        maps = self.decoder(grid, skips, flat, flat_valid)
        return self._read(maps, cameras, matches, images, valid, code_pixels)

    def _embed(
        self, tokens: Float[Tensor, "b v n c"], grid: tuple[int, int]
    ) -> Float[Tensor, "b v m c"]:
        positions = normalized_positions(*grid, tokens)
        octaves = 2.0 ** torch.arange(POSITION_FREQUENCIES, device=tokens.device) * torch.pi
        angles = (positions[..., None] * octaves).flatten(1)
        where = self.position(torch.cat([angles.sin(), angles.cos()], dim=1).to(tokens.dtype))
        role = (torch.arange(tokens.shape[1], device=tokens.device) > 0).long()
        special = self.special[role].expand(len(tokens), -1, -1, -1).to(tokens.dtype)
        return torch.cat([special, tokens + where + self.role[role]], dim=2)

    def _attend(
        self,
        tokens: Float[Tensor, "b v m c"],
        grid: tuple[int, int],
        valid: Bool[Tensor, "b v n"] | None,
    ) -> tuple[Float[Tensor, "b v m c"], Float[Tensor, "b v n d"]]:
        b, v, m, _ = tokens.shape
        positions = normalized_positions(*grid, tokens)
        head_width = self.config.width // self.config.heads
        within = rotary_embedding(positions, head_width, self.prefix).to(tokens.dtype)
        across = within.repeat(v, 1)
        admitted = None if valid is None else F.pad(valid, (self.prefix, 0), value=True)
        window = self.config.window
        causal = causal_mask(v, m, window, tokens.device) if window else None
        matches = None
        for index, block in enumerate(self.blocks):
            crossing = index >= self.config.view_blocks and (index - self.config.view_blocks) % 2
            shape = (b, v * m, -1) if crossing else (b * v, m, -1)
            mask = None if admitted is None else admitted.reshape(shape[0], 1, 1, shape[1])
            if crossing and causal is not None:
                mask = causal if mask is None else causal & mask
            tokens = block(tokens.reshape(shape), across if crossing else within, mask)
            tokens = tokens.reshape(b, v, m, -1)
            if index + 1 == self.config.match_block:
                special, patches = tokens[:, :, : self.prefix], tokens[:, :, self.prefix :]
                patches, matches = self.matching(patches, grid, valid)
                tokens = torch.cat([special, patches], dim=2)
        assert matches is not None  # the config puts match_block among the blocks
        return tokens, matches

    def _read(self, maps, cameras, matches, images, valid, code_pixels) -> Prediction:
        b, v, _, h, w = images.shape
        rotation, translation, focal, scale = cameras
        extent = _extents(images, valid)
        intrinsics = intrinsics_from_focal(focal * max(h, w), h, w)
        intrinsics = torch.cat(
            [intrinsics[..., :2], torch.cat([extent / 2, extent[..., :1] * 0 + 1], -1)[..., None]],
            -1,
        )
        with torch.autocast(images.device.type, enabled=False):  # a rotation keeps its digits
            turned = rotation_from_vector(rotation)
        pose = rigid(turned, translation * scale[:, None, None])
        pixels = maps[-1].permute(0, 2, 3, 1).unflatten(0, (b, v))
        raw = self.pixel_head(pixels)
        depth = scale[:, None, None, None] * raw["depth"][..., 0].clamp(-6, 6).exp()
        footprint = depth / (focal * max(h, w))[..., None, None]
        described = self.describe(maps[self.match_map].permute(0, 2, 3, 1)).float()
        code = raw["code"][:, :, code_pixels[0], code_pixels[1]]
        stride = self.config.patch
        return Prediction(
            depth=depth,
            depth_error=ERROR_PRIOR * raw["error"][..., 0].clamp(-5, 5).exp(),
            scale=scale,
            world_from_camera=pose,
            intrinsics=intrinsics,
            whole_logits=self.whole_head(code),
            part_logits=self.part_head(code),
            instances=F.normalize(raw["instance"], dim=-1),
            descriptors=F.normalize(described, dim=-1).unflatten(0, (b, v)),
            token_descriptors=matches.unflatten(2, (h // stride, w // stride)),
            **activate_gaussians(raw, footprint, images.float().movedim(2, -1)),
        )


def _extents(images, valid: Bool[Tensor, "b v h w"] | None) -> Float[Tensor, "b v 2"]:
    """Width and height of each photo on the canvas: up to its last valid column and row."""
    b, v, _, h, w = images.shape
    if valid is None:
        return image_size(h, w, images.device).expand(b, v, 2)
    columns = torch.arange(1, w + 1, device=images.device) * valid.any(-2)
    rows = torch.arange(1, h + 1, device=images.device) * valid.any(-1)
    return torch.stack([columns.amax(-1), rows.amax(-1)], dim=-1).float()
