"""Scenes of Feature 3DGS and of LSM: dense features in the columns `semantic_0`, `semantic_1`, ...

Source: Zhou et al., "Feature 3DGS", 2024, and Fan et al., "Large Spatial Model", 2024; both write
logits, logarithms and channel-major SH as the reference 3DGS does. Their features may be smaller
than those of their teacher, LSeg, by a 1x1 convolution (`decoder_chkpnt*.pth` of Feature 3DGS;
`feature_expansion` of LSM's checkpoint): with that file, rows are in the space of CLIP's texts.
Only the SH of degree 0 of an LSM scene are trained.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ffsplat.formats.foreign import (
    cluster,
    column_blocks,
    header_of,
    linear_layer,
    numbered,
    side_file,
)
from ffsplat.io.ply import read_ply
from ffsplat.types import Scene

SPACE = "open_clip:ViT-B-32-quickgelu/openai"
"""Whose texts LSeg's features are compared with."""

SPACE_SIZE = 512
LAYERS = ("conv.", "feature_expansion.1.")
DECODERS = ("decoder*.safetensors", "decoder_chkpnt*.pth", "../../decoder_chkpnt*.pth")


def read(path: str | Path, *, codebook: str | Path | None = None) -> Scene:
    """Read a scene; `codebook` is the file of the decoder, looked for where training leaves it.

    Features become codebook rows by `foreign.cluster`. Without a decoder, features of 512 numbers
    are taken for LSeg's; others get a space of their own, in which no text can be asked. Raises
    SceneFileError naming what is wrong with a file.
    """
    path = Path(path)
    header = header_of(path)
    names = numbered(path, header, "semantic_")
    decoder = side_file(path, codebook, DECODERS)
    layer = None if decoder is None else linear_layer(decoder, LAYERS, len(names))

    def features() -> Iterator[Float32[np.ndarray, "block d"]]:
        for block in column_blocks(path, header, names):
            yield block if layer is None else block @ layer[0].T + layer[1]

    size = len(names) if layer is None else len(layer[1])
    space = SPACE if size == SPACE_SIZE else f"features:{size}"
    found = cluster(features, header.vertex.count, space)
    provenance = {"model": "Feature 3DGS or LSM", "codes": f"mean cosine {found.cosine:.3f}"}
    return replace(
        read_ply(path), codes=found.codes, codebook=found.codebook, provenance=provenance
    )
