"""The any-view network: photos without poses in, pixel-aligned Gaussians with meaning out."""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ffsplat.config import ModelConfig
from ffsplat.geometric import geometric_gaussians
from ffsplat.geometry import image_size, intrinsics_from_focal, rigid, rotation_from_vector
from ffsplat.nn.camera import CameraDecoder, CameraEncoder, relative_poses
from ffsplat.nn.dense import DenseHeads, Maps
from ffsplat.nn.gaussians import activate_harmonic_gaussians
from ffsplat.nn.heads import (
    ERROR_PRIOR,
    CameraHead,
    CodeHead,
    PixelHead,
    activate_gaussians,
)
from ffsplat.nn.stem import Decoder
from ffsplat.nn.trunk import Alone, Encoded, Trunk
from ffsplat.prediction import Prediction

ALL_PIXELS = (slice(None), slice(None))
CHANNELS_LAST = torch.channels_last
"""Where convolutions keep their channels: a tenth of a training step is saved."""

ERROR_OF_CONFIDENCE = 0.2
"""Expected error of log depth at confidence 1, where a network says confidences from 1 on.

The loss c |e| - a log c, by which such a c is learnt, is least at |e| = a / c; a is 0.2 in DUSt3R
(Wang et al., 2024), where this form comes from.
"""


class FFSplat(Trunk):
    """One plain transformer for any number of views, and what is read off its tokens.

    View 0 is the world. What networks of different families have in common is here and in `Trunk`;
    where they differ is said by the config.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        width = config.width
        if config.read_out == "pixel":
            self._add_pixel_heads(config)
        else:
            self.camera_decoder = CameraDecoder(2 * width)
            self.dense = DenseHeads(config)
        if config.camera_encoder:
            self.camera_encoder = CameraEncoder(width, config.camera_encoder)
        self.to(memory_format=CHANNELS_LAST)

    def _add_pixel_heads(self, config: ModelConfig) -> None:
        width, channels = config.width, config.decoder
        self.camera_head = CameraHead(width)
        self.decoder = Decoder(width, channels, tuple(reversed(channels[:-1])))
        self.match_map = (config.patch // config.match_stride).bit_length() - 2
        self.describe = nn.Linear(channels[self.match_map], config.match_width)
        self.pixel_head = PixelHead(channels[-1], config)
        self.whole_head = CodeHead(config.code_width, config.whole_rows)
        self.part_head = CodeHead(config.code_width, config.part_rows)

    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        valid: Bool[Tensor, "b v h w"] | None = None,
        code_pixels: tuple[slice, slice] = ALL_PIXELS,
        *,
        cameras: tuple[Float[Tensor, "b v 4 4"], Float[Tensor, "b v 3 3"]] | None = None,
        rays: bool = False,
        alone: Alone | None = None,
        placed: int = 0,
    ) -> Prediction:
        """Predict everything about b sets of v views, sRGB in [0, 1].

        h and w must be multiples of the patch; `valid` is False on padding, which must fill
        whole patches to the right of and below a photo. `code_pixels` are the rows and columns
        that are scored against the codebook: training is content with a quarter of them.
        `cameras` are poses (world from camera) and intrinsics that are known; the network heeds
        them, and yet predicts its own. `rays` asks for those too, where the network has them.
        `alone` is what `encode_alone` says of these views, if that is known already. Of the first
        `placed` views only what places them is asked for, not Gaussians, logits and instances; a
        network may give those too.
        Raises ValueError on other sizes, and for cameras that the network has no encoder for.
        """
        h, w = images.shape[-2:]
        patch = self.config.patch
        if h % patch or w % patch:
            raise ValueError(f"image size {h}x{w} is not a multiple of the patch {patch}")
        extent = _extents(images, valid)
        encoded = self.encode(images, valid, self._camera_tokens(cameras, extent), alone)
        if self.config.read_out == "pixel":
            return self._read_pixels(encoded, images, valid, extent, code_pixels, placed)
        with torch.autocast(images.device.type, enabled=False):  # depth keeps its digits
            maps = self.dense(encoded, self.norm, images.float(), rays)
            poses, intrinsics = self.camera_decoder(encoded.camera_tokens().float(), extent)
            del encoded  # the tokens of all taps are not held while Gaussians are shaped
            return self._read_dense(maps, poses, intrinsics, images.float(), valid)

    def _camera_tokens(self, cameras, extent) -> Float[Tensor, "b v c"] | None:
        if cameras is None:
            return None
        if not self.config.camera_encoder:
            raise ValueError(f"{self.config.name} has no encoder of known cameras")
        with torch.autocast(extent.device.type, enabled=False):
            return self.camera_encoder(*cameras, extent)

    def _read_pixels(
        self, encoded: Encoded, images, valid, extent, code_pixels, placed: int
    ) -> Prediction:
        b, v, _, h, w = images.shape
        grid = (h // self.config.patch, w // self.config.patch)
        tokens = self.norm(encoded.tokens)
        rotation, translation, focal, scale = self.camera_head(tokens[:, :, 0])
        patches = tokens[:, :, self.prefix :]
        flat_valid = None if valid is None else valid.reshape(b * v, 1, h, w).to(images)
        maps = self.decoder(
            patches.flatten(0, 1).mT.unflatten(-1, grid), encoded.skips, images.flatten(0, 1),
            flat_valid,
        )  # fmt: skip
        intrinsics = intrinsics_from_focal(focal * max(h, w), h, w)
        intrinsics = torch.cat(
            [intrinsics[..., :2], torch.cat([extent / 2, extent[..., :1] * 0 + 1], -1)[..., None]],
            -1,
        )
        with torch.autocast(images.device.type, enabled=False):  # a rotation keeps its digits
            turned = rotation_from_vector(rotation)
        pixels = maps[-1].permute(0, 2, 3, 1).unflatten(0, (b, v))
        raw = self.pixel_head(pixels, placed)
        depth = scale[:, None, None, None] * raw["depth"][..., 0].clamp(-6, 6).exp()
        footprint = depth / (focal * max(h, w))[..., None, None]
        described = self.describe(maps[self.match_map].permute(0, 2, 3, 1)).float()
        code = raw["code"][:, :, code_pixels[0], code_pixels[1]]
        colors = images[:, placed:].float().movedim(2, -1)
        assert encoded.matches is not None  # the config puts match_block among the blocks
        return Prediction(
            depth=depth,
            depth_error=ERROR_PRIOR * raw["error"][..., 0].clamp(-5, 5).exp(),
            scale=scale,
            world_from_camera=rigid(turned, translation * scale[:, None, None]),
            intrinsics=intrinsics,
            whole_logits=self.whole_head(code),
            part_logits=self.part_head(code),
            instances=F.normalize(raw["instance"], dim=-1),
            descriptors=F.normalize(described, dim=-1).unflatten(0, (b, v)),
            token_descriptors=encoded.matches.unflatten(2, grid),
            features=patches.unflatten(2, grid),
            **activate_gaussians(raw, footprint[:, placed:], colors),
        )

    def _read_dense(
        self,
        maps: Maps,
        poses: Float[Tensor, "b v 4 4"],
        intrinsics: Float[Tensor, "b v 3 3"],
        images: Float[Tensor, "b v 3 h w"],
        valid: Bool[Tensor, "b v h w"] | None,
    ) -> Prediction:
        depth, features = maps["depth"], maps["features"]
        depth_error = ERROR_OF_CONFIDENCE / maps["confidence"]
        if "gaussians" in maps:
            gaussians = activate_harmonic_gaussians(maps["gaussians"], depth, intrinsics, poses)
        else:
            colors = images.movedim(2, -1)
            gaussians = _shape_by_view(depth, depth_error, intrinsics, colors, valid)
        seen = torch.ones_like(depth) if valid is None else valid.to(depth)
        none = depth[..., None][..., :0]
        return Prediction(
            depth=depth,
            depth_error=depth_error,
            scale=(depth * seen).sum((1, 2, 3)) / seen.sum((1, 2, 3)).clamp(min=1),
            world_from_camera=relative_poses(poses),
            intrinsics=intrinsics,
            whole_logits=none,
            part_logits=none,
            instances=none,
            descriptors=none,
            token_descriptors=features[..., :0],
            features=features,
            rays=maps.get("rays"),
            ray_confidence=maps.get("ray_confidence"),
            **gaussians,
        )


def _shape_by_view(depth, depth_error, intrinsics, colors, valid) -> dict[str, Tensor]:
    """Geometric Gaussians, one view after the other: what is computed on the way takes memory."""
    if valid is None:
        valid = torch.ones_like(depth, dtype=torch.bool)
    given = (depth, depth_error, intrinsics, colors, valid)
    views = zip(*(values.split(1, dim=1) for values in given), strict=True)
    shaped = [cast(dict[str, Tensor], geometric_gaussians(*view)) for view in views]
    return {key: torch.cat([view[key] for view in shaped], dim=1) for key in shaped[0]}


def _extents(images, valid: Bool[Tensor, "b v h w"] | None) -> Float[Tensor, "b v 2"]:
    """Width and height of each photo on the canvas: up to its last valid column and row."""
    b, v, _, h, w = images.shape
    if valid is None:
        return image_size(h, w, images.device).expand(b, v, 2)
    columns = torch.arange(1, w + 1, device=images.device) * valid.any(-2)
    rows = torch.arange(1, h + 1, device=images.device) * valid.any(-1)
    return torch.stack([columns.amax(-1), rows.amax(-1)], dim=-1).float()
