"""All pictures of a stream on one canvas, so that any of them can share a window."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from ffsplat.decode import view_size
from ffsplat.stream.map.compiled import brief
from ffsplat.stream.resize import resized
from ffsplat.types import Views, ViewSource


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as the network will see it; `intrinsics` in its pixels, NaN where unknown."""

    pixels: UInt8[np.ndarray, "h w 3"]
    valid: Bool[np.ndarray, "h w"]
    intrinsics: Float32[np.ndarray, "3 3"]
    source: ViewSource


class Canvas:
    """Fits pictures to the size of the first one's view; others lie in its top left corner."""

    def __init__(self, resolution: int, patch: int, size: tuple[int, int] | None = None):
        """Views of `resolution` on the longer side, in whole patches; `size` is (width, height)."""
        self.resolution, self.patch, self.size = resolution, patch, size

    def fit(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        name: str = "",
        size: tuple[int, int] | None = None,
    ) -> Picture:
        """A picture resized to its view, the longer side first, without cropping anything.

        `size` (width, height) is that of the original, if `image` is a smaller version of it;
        `intrinsics` is in its pixels.
        """
        width, height = size or image.shape[1::-1]
        if self.size is None:
            self.size = view_size(width, height, self.resolution, self.patch)
        across, down = self._inside(width, height)
        pixels = np.zeros((self.size[1], self.size[0], 3), np.uint8)
        valid = np.zeros(pixels.shape[:2], bool)
        pixels[:down, :across] = resized(image, (across, down))
        valid[:down, :across] = True
        original_from_view = np.diag([width / across, height / down, 1.0])
        known = np.full((3, 3), np.nan, np.float32)
        if intrinsics is not None:
            known = (np.linalg.inv(original_from_view) @ intrinsics).astype(np.float32)
        return Picture(pixels, valid, known, ViewSource(name, width, height, original_from_view))

    def _inside(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the view: the canvas, for pictures of the shape of the first."""
        assert self.size is not None
        view = view_size(width, height, self.resolution, self.patch)
        if view == self.size:
            return view
        scale = min(self.size[0] / width, self.size[1] / height)
        across, down = (
            min(most, max(1, int(side * scale / self.patch + 0.5)) * self.patch)
            for side, most in zip((width, height), self.size, strict=True)
        )
        return across, down


def gather(pictures: list[Picture]) -> tuple[UInt8[np.ndarray, "v h w 3"], Views]:
    """Colours of some pictures of one canvas (sRGB), and the pictures as views."""
    colors = np.stack([one.pixels for one in pictures])
    shares = np.empty(colors.shape, np.float32)
    _write_shares(colors.reshape(-1), shares.reshape(-1))
    return colors, Views(
        shares,
        np.stack([one.valid for one in pictures]),
        np.stack([one.intrinsics for one in pictures]),
        tuple(one.source for one in pictures),
    )


@brief
def _write_shares(colors, shares):
    """Write colours as shares of 1."""
    for i in range(len(colors)):
        shares[i] = np.float32(colors[i]) / np.float32(255)
