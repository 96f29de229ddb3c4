"""What a page can take along: a screenshot of itself, and an orbit drawn by our own renderer."""

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ffsplat.errors import FFSplatError
from ffsplat.render.animation import has_mp4, write_animation
from ffsplat.types import Scene

if TYPE_CHECKING:
    import viser

ORBIT_FRAMES = 48
ORBIT_SIZE = (640, 480)

SHOT_SECONDS = 60.0
"""For a page to draw itself."""


def screenshot(client: "viser.ClientHandle") -> bytes:
    """What the page shows, without its controls, as PNG with a transparent background."""
    camera = client.camera
    try:
        pixels = client.get_render(
            camera.image_height, camera.image_width, transport_format="png", timeout=SHOT_SECONDS
        )
    except (RuntimeError, TimeoutError) as error:
        raise FFSplatError(f"the page gives no picture: {error}") from error
    return png(pixels)


def png(pixels: UInt8[np.ndarray, "h w _"]) -> bytes:
    """An image of three or four channels as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def orbit_video(
    scene: Scene,
    frames: int = ORBIT_FRAMES,
    size: tuple[int, int] = ORBIT_SIZE,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[str, bytes]:
    """The name and content of a video along `ffsplat.render.orbit`: MP4, or WebP without PyAV.

    `progress` is told how many frames are drawn.
    """
    from ffsplat.render import orbit, render
    from ffsplat.render.colors import to_bytes

    path = orbit(scene, frames, size)

    def drawn() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for number in range(frames):
            progress(number)
            yield to_bytes(render(scene, path[[number]], backend="cpu")[0])

    ending = ".mp4" if has_mp4() else ".webp"
    file = io.BytesIO()
    write_animation(drawn(), file, ending)
    return f"orbit{ending}", file.getvalue()
