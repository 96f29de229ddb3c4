"""Contact sheets: rows of colour, depth, normals and labels."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data.rooms.render import RoomBatch

GOLDEN = 0.61803398875


def palette(labels: np.ndarray) -> np.ndarray:
    """A distinct colour for each label."""
    hue = (labels * GOLDEN) % 1.0
    k = (np.array([5.0, 3.0, 1.0]) + 6 * hue[..., None]) % 6
    value = (0.55 + 0.4 * ((labels * 7) % 3) / 2)[..., None]
    return value - value * 0.65 * np.clip(np.minimum(k, 4 - k), 0, 1)


def contact_sheet(batch: RoomBatch, views: int = 1) -> UInt8[np.ndarray, "h w 3"]:
    """One column for each of the first `views` views of every room; six rows of pictures."""
    columns = []
    for room in range(len(batch.image)):
        for view in range(views):
            depth = batch.depth[room, view].cpu().numpy()
            near = np.clip(1 - (depth - 0.3) / 5, 0, 1)[..., None].repeat(3, -1)
            rows = [
                batch.image[room, view].cpu().numpy(),
                near,
                batch.normals[room, view].cpu().numpy() * 0.5 + 0.5,
                *(
                    palette(labels[room, view].cpu().numpy().astype(float))
                    for labels in (batch.whole, batch.part, batch.instance)
                ),
            ]
            columns.append(np.concatenate(rows))
    return (np.concatenate(columns, 1) * 255).round().astype(np.uint8)


def save_sheet(batch: RoomBatch, path: Path, views: int = 1, scale: int = 1) -> None:
    """Write a contact sheet as PNG, each pixel `scale` times as large."""
    sheet = contact_sheet(batch, views).repeat(scale, 0).repeat(scale, 1)
    Image.fromarray(sheet).save(path)
