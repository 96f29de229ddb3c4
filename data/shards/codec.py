"""A clip as the parts of a tar member group, and back (the format is in data/README.md).

Nothing is decoded but PNG, JPEG and WebP by Pillow, JSON, and safetensors; sizes are checked before
pixels are decoded. A part of any other name is refused, so no part can ask to be unpickled.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import safetensors.numpy
from jaxtyping import Float16
from safetensors import SafetensorError, deserialize

from data.clip import Clip
from data.shards.errors import ShardError
from data.shards.meta import LABELS, Meta, check_clip, parse_meta
from data.shards.pictures import (
    ImageFormat,
    decode_depth,
    decode_image,
    decode_labels,
    depth_step,
    encode_depth,
    encode_image,
    encode_labels,
    photo_suffix,
)

META = "meta.json"
TEACHERS = "teachers.safetensors"
MAX_HEADER = 1 << 16
"""Bytes of JSON at the start of the safetensors part."""
SUFFIXES: tuple[ImageFormat, ...] = ("png", "webp", "jpg")


def encode_clip(clip: Clip, image_format: ImageFormat = "png") -> dict[str, bytes]:
    """The parts of a clip by name; images without a photo of their own get `image_format`.

    All but depth comes back from `decode_clip` as it was, and images too unless they get JPEG; the
    error of depth is that of `encode_depth`. Raises ShardError, which names the clip, for what
    `check_clip` refuses and for photos that are not the clip's images.
    """
    try:
        check_clip(clip)
        parts = _encode_images(clip, image_format)
    except ShardError as error:
        raise ShardError(f"clip {clip.key}: {error}", error.hint) from error
    step = 0.0 if clip.depth is None else depth_step(clip.depth)
    maps = [name for name in ("depth", *LABELS) if getattr(clip, name) is not None]
    for name in maps:
        encode = partial(encode_depth, step=step) if name == "depth" else encode_labels
        for view, values in enumerate(getattr(clip, name)):
            parts[_part(view, name, "png")] = encode(values)
    if clip.teachers:
        contiguous = {name: np.ascontiguousarray(value) for name, value in clip.teachers.items()}
        parts[TEACHERS] = safetensors.numpy.save(contiguous)
    meta = Meta(
        source=clip.source,
        metric=clip.metric,
        height=clip.images.shape[1],
        width=clip.images.shape[2],
        intrinsics=clip.intrinsics,
        world_from_camera=clip.world_from_camera,
        maps=tuple(maps),
        depth_step=step,
        teachers=tuple(sorted(clip.teachers)),
    )
    return parts | {META: meta.encode()}


def decode_clip(key: str, parts: Mapping[str, bytes]) -> Clip:
    """The clip of a member group; `photos` stays empty.

    Raises ShardError, which names no clip, if parts are missing, unknown or damaged, or if they
    hold what `check_clip` refuses.
    """
    if META not in parts:
        raise ShardError(f"its part {META} is missing")
    meta = parse_meta(parts[META])
    _check_parts(parts, meta)
    size = meta.width, meta.height
    images = [
        _decode_part(parts, _part(view, "image", suffix), decode_image, suffix, size)
        for view in range(len(meta.intrinsics))
        for suffix in [_image_suffix(parts, view)]
    ]
    maps = {name: _decode_maps(parts, name, meta) for name in meta.maps}
    clip = Clip(
        key=key,
        source=meta.source,
        metric=meta.metric,
        images=np.stack(images),
        intrinsics=meta.intrinsics,
        world_from_camera=meta.world_from_camera,
        depth=maps.get("depth"),
        whole=maps.get("whole"),
        part=maps.get("part"),
        instance=maps.get("instance"),
        teachers=_decode_teachers(parts[TEACHERS], meta) if meta.teachers else {},
    )
    check_clip(clip)
    return clip


def image_files(parts: Mapping[str, bytes]) -> tuple[bytes, ...]:
    """The files of the images among the parts of a clip that `decode_clip` takes, a view each."""
    return tuple(parts[name] for name in sorted(parts) if name.split(".")[1] == "image")


def _part(view: int, name: str, suffix: str) -> str:
    return f"{view:04d}.{name}.{suffix}"


def _encode_images(clip: Clip, image_format: ImageFormat) -> dict[str, bytes]:
    if clip.photos and len(clip.photos) != len(clip.images):
        raise ShardError(f"{len(clip.photos)} photos, {len(clip.images)} images")
    if not clip.photos:
        files = [(image_format, encode_image(image, image_format)) for image in clip.images]
    else:
        pairs = zip(clip.photos, clip.images, strict=True)
        files = [(photo_suffix(photo, image), photo) for photo, image in pairs]
    return {_part(view, "image", suffix): file for view, (suffix, file) in enumerate(files)}


def _check_parts(parts: Mapping[str, bytes], meta: Meta) -> None:
    """Refuse parts that the clip's JSON does not announce, and that it announces in vain."""
    views = range(len(meta.intrinsics))
    images = [_part(view, "image", _image_suffix(parts, view)) for view in views]
    maps = [_part(view, name, "png") for name in meta.maps for view in views]
    expected = {META, *images, *maps, *([TEACHERS] if meta.teachers else [])}
    if unknown := sorted(parts.keys() - expected):
        raise ShardError(
            f"its part {unknown[0]} is none that it should have; nothing else is ever decoded",
            "a shard holds PNG, JPEG, WebP, JSON and safetensors (data/README.md)",
        )
    if missing := sorted(expected - parts.keys()):
        raise ShardError(f"its part {missing[0]} is missing")


def _image_suffix(parts: Mapping[str, bytes], view: int) -> ImageFormat:
    for suffix in SUFFIXES:
        if _part(view, "image", suffix) in parts:
            return suffix
    return "png"


def _decode_part(
    parts: Mapping[str, bytes], name: str, decode: Callable[..., np.ndarray], *arguments: Any
) -> np.ndarray:
    """A part decoded; errors name it."""
    try:
        return decode(parts[name], *arguments)
    except ShardError as error:
        raise ShardError(f"its part {name}: {error}", error.hint) from error


def _decode_maps(parts: Mapping[str, bytes], name: str, meta: Meta) -> np.ndarray:
    """One map of all views."""
    size = meta.width, meta.height
    decode = partial(decode_depth, step=meta.depth_step) if name == "depth" else decode_labels
    names = [_part(view, name, "png") for view in range(len(meta.intrinsics))]
    return np.stack([_decode_part(parts, name, partial(decode, size=size)) for name in names])


def _decode_teachers(content: bytes, meta: Meta) -> dict[str, Float16[np.ndarray, "v _ _ _"]]:
    """Maps of all teachers; ShardError for other ones and anything but one F16 map a view."""
    views = len(meta.intrinsics)
    if int.from_bytes(content[:8], "little") > MAX_HEADER:
        raise ShardError(f"its part {TEACHERS} has a header of more than {MAX_HEADER} bytes")
    try:
        tensors = dict(deserialize(content))
    except SafetensorError as error:
        raise ShardError(f"its part {TEACHERS} is damaged: {str(error)[:80]}") from error
    if set(tensors) != set(meta.teachers):
        raise ShardError(f"its part {TEACHERS} holds other teachers than {META} names")
    for name, tensor in tensors.items():
        kind, shape = tensor["dtype"], tensor["shape"]
        if kind != "F16" or len(shape) != 4 or shape[0] != views:
            raise ShardError(f"teacher {name!r:.80} is {kind} {shape}, not F16, one map a view")
    return {
        name: np.frombuffer(tensor["data"], "<f2").reshape(tensor["shape"])
        for name, tensor in tensors.items()
    }
