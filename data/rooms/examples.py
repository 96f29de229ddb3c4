"""The example photos of the repository."""

import json
from pathlib import Path

from PIL import Image

from data.rooms.render import render_rooms
from data.rooms.splits import SPLITS

VIEWS = 6


def write_examples(folder: Path, offset: int, height: int) -> None:
    """Write six 4:3 JPEG views of one room of the split `preview`, with poses and intrinsics."""
    width = height * 4 // 3
    seed = SPLITS["preview"][offset]
    batch = render_rooms([seed], VIEWS, height, width)
    folder.mkdir(parents=True, exist_ok=True)
    photos = []
    for view in range(VIEWS):
        name = f"room_{view}.jpg"
        pixels = (batch.image[0, view] * 255).round().byte().numpy()
        Image.fromarray(pixels).save(folder / name, quality=92)
        photos.append(
            {
                "name": name,
                "intrinsics": batch.intrinsics[0, view].tolist(),
                "world_from_camera": batch.world_from_camera[0, view].tolist(),
            }
        )
    truth = {"seed": seed, "width": width, "height": height, "unit": "metre", "photos": photos}
    text = json.dumps(truth, indent=1)
    (folder / "truth.json").write_text(text + "\n", encoding="utf-8")
