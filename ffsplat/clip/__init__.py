"""OpenCLIP: names, licences, and the one road from a name to a network, by safetensors alone.

open_clip itself falls back on pickles and only warns where weights and activation do not belong
together; here both are errors. Only networks with text towers of open_clip's own are loaded: others
would fetch tokenizers and code settings from elsewhere.
"""

from ffsplat.clip.load import Clip, load_clip, load_clip_folder, new_clip, random_clip
from ffsplat.clip.names import (
    OPEN_CLIP,
    UNKNOWN_LICENSE,
    ClipName,
    License,
    folder_name,
    parse_space,
)
from ffsplat.clip.published import PATIENCE, weights_file

__all__ = [
    "OPEN_CLIP",
    "PATIENCE",
    "UNKNOWN_LICENSE",
    "Clip",
    "ClipName",
    "License",
    "folder_name",
    "load_clip",
    "load_clip_folder",
    "new_clip",
    "parse_space",
    "random_clip",
    "weights_file",
]
