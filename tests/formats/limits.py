"""What each format rounds to: the largest error that its bits explain."""

import numpy as np

TINY = 2e-6
C0 = 0.28209479177387814
EXACT = dict.fromkeys(("means", "scales", "angles", "opacities", "colors", "sh"), 0.0)
FLOAT = {"means": 0, "scales": TINY, "angles": 1e-3, "opacities": TINY, "colors": TINY, "sh": TINY}
"""What a reader that takes logarithms and logits loses in float32."""

BYTE = 0.5 / 255 + TINY
ROUNDED = {
    "splat": {"means": 0, "scales": TINY, "angles": 1.0, "opacities": BYTE,
              "colors": BYTE / C0, "sh": 0},
    "spz": {"means": 2**-14, "scales": 1 / 32 + TINY, "angles": 0.25, "opacities": BYTE,
            "colors": BYTE / 0.15, "sh": 8 / 128 + TINY},
    "compressed-ply": {"means": 4 / 1023, "scales": 5 / 1023, "angles": 0.25,
                       "opacities": 1 / 255 + TINY, "colors": 2 * BYTE * 0.9, "sh": 4 / 256 + TINY},
    "sog": {"means": 2e-4, "scales": 0.5, "angles": 1.0, "opacities": BYTE, "colors": 0.02,
            "sh": 0.3},
}  # fmt: skip
"""A step of 11 bits is the extent of a chunk over 2047, of y over 1023. The table of SOG's scales
has few entries where few Gaussians are: its mean error is in test_quantize."""

SPZ2 = ROUNDED["spz"] | {"angles": float(np.degrees(2 * np.arcsin(np.sqrt(3 * 2 * BYTE))))}
"""Version 2 derives w from x, y, z in 8 bits: near w = 0 an error e moves it by sqrt(2 e)."""
