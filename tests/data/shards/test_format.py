"""A shard written by hand, as data/README.md describes it, without any code of ours."""

import hashlib
import io
import json
import tarfile
import zlib

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from data.shards import ShardDataset, verify_shards

SHAPE = (3, 4)
META = {
    "format": "ffsplat.clip 1",
    "source": "by hand",
    "metric": False,
    "height": 3,
    "width": 4,
    "intrinsics": [[[5, 0, 2], [0, 5, 1.5], [0, 0, 1]]],
    "world_from_camera": [[[0, -1, 0, 7], [1, 0, 0, 8], [0, 0, 1, 9], [0, 0, 0, 1]]],
    "maps": ["depth", "instance"],
    "depth_step": 0.001,
    "teachers": ["clip"],
}
FEATURES = np.arange(8, dtype=np.float16).reshape(1, 2, 2, 2)


def png(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_a_shard_by_hand_is_read(tmp_path, kind):
    image = np.arange(36, dtype=np.uint8).reshape(*SHAPE, 3)
    depth = np.arange(12, dtype=np.uint16).reshape(SHAPE) * 1000
    instance = np.arange(12, dtype=np.uint8).reshape(SHAPE)
    parts = {
        "0000.image.png": png(image),
        "meta.json": json.dumps(META, indent=2).encode(),
        "0000.depth.png": png(depth),
        "0000.instance.png": png(instance),
        "teachers.safetensors": safetensors.numpy.save({"clip": FEATURES}),
    }
    with tarfile.open(tmp_path / "mine.tar", "w", format=kind) as archive:
        for key in ("one", "two"):
            for part, content in parts.items():
                member = tarfile.TarInfo(f"{key}.{part}")
                member.size, member.mtime, member.uname = len(content), 1.7e9 // 1, "someone"
                archive.addfile(member, io.BytesIO(content))
    content = (tmp_path / "mine.tar").read_bytes()
    with tarfile.open(tmp_path / "mine.tar") as archive:
        middle = archive.getmember("two.0000.image.png").offset
        last = archive.getmember("two.teachers.safetensors")
    end = last.offset_data + (last.size + 511) // 512 * 512
    samples = [
        ["one", 0, middle, zlib.crc32(content[:middle])],
        ["two", middle, end - middle, zlib.crc32(content[middle:end])],
    ]
    entry = {"name": "mine.tar", "count": 2, "bytes": len(content), "samples": samples}
    entry["sha256"] = hashlib.sha256(content).hexdigest()
    index = {"format": "ffsplat.shards 1", "shards": [entry]}
    (tmp_path / "index.json").write_text(json.dumps(index, indent=1))

    (verdict,) = verify_shards(tmp_path)
    assert (verdict.shard, verdict.clips, verdict.fault) == ("mine.tar", 2, None)
    clip = ShardDataset(tmp_path)[1]
    assert (clip.key, clip.source, clip.metric) == ("two", "by hand", False)
    assert np.array_equal(clip.images[0], image)
    np.testing.assert_allclose(clip.depth[0], depth / 1000, rtol=1e-6)
    assert np.array_equal(clip.instance[0], instance.astype(int) - 1)
    assert clip.whole is None
    assert clip.part is None
    assert np.array_equal(clip.teachers["clip"], FEATURES)
    assert np.array_equal(clip.world_from_camera, META["world_from_camera"])
    assert np.array_equal(clip.intrinsics, META["intrinsics"])
