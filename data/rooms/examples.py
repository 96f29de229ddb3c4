"""The example photos of the repository."""

import json
from pathlib import Path

from PIL import Image

from data.rooms.render import render_rooms
from data.rooms.splits import SPLITS

VIEWS, HEIGHT, WIDTH = 6, 192, 256


def write_examples(folder: Path, offset: int) -> None:
    """Write six JPEG views of one room of the split `preview`, with poses and intrinsics."""
    seed = SPLITS["preview"][offset]
    batch = render_rooms([seed], VIEWS, HEIGHT, WIDTH)
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
    truth = {"seed": seed, "width": WIDTH, "height": HEIGHT, "unit": "metre", "photos": photos}
    text = json.dumps(truth, indent=1)
    (folder / "truth.json").write_text(text + "\n", encoding="utf-8")
