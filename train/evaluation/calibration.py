"""Which thresholds a bank needs in the cone of CLIP: python -m train.evaluation.calibration.

Features are drawn around random label vectors whose mean pairwise cosine is that of real CLIP
centroids, in unequal numbers, as long runs (neighbours are mostly alike); the table says how many
rows a bank makes of them, and how pure these are.
"""

import click
import numpy as np

from ffsplat.semantics.bank import Bank
from ffsplat.semantics.calibration import calibrate, unit
from train.evaluation.label_features import UNLIKE, label_vectors

LABELS, WIDTH = 40, 512
NOISES = (0.0, 0.4, 0.7, 1.0)
JOINS = (0.2, 0.35, 0.5, 0.65, 0.8)
MERGES = (0.3, 0.5, 0.7, 0.9)


def labelled_features(
    noise: float, runs: int, unlike: float, kinship: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Unit features and their labels; noise is relative to the distance of unlike labels.

    `kinship` is the centred cosine of the two labels of each pair of kin, as chair and armchair.
    """
    vectors = label_vectors(LABELS, WIDTH, random, unlike)
    common = vectors.mean(axis=0)
    own = vectors - common
    own[1::2] = kinship * own[::2] + np.sqrt(1 - kinship**2) * own[1::2]
    vectors = unit((common + own).astype(np.float32))
    shares = 1 / np.arange(2, LABELS + 2)
    labels = random.choice(LABELS, runs, p=shares / shares.sum()).repeat(8)
    offsets = random.standard_normal((len(labels), WIDTH)) * noise * np.sqrt((1 - unlike) / WIDTH)
    return unit((vectors[labels] + offsets).astype(np.float32)), labels


def rows_and_purity(features: np.ndarray, labels: np.ndarray, join: float, merge: float):
    """Rows for each label, and the share of features whose row is mostly of their label."""
    index = np.arange(len(features) - 1)
    thresholds = calibrate(features, np.stack([index, index + 1], 1), join, merge)
    bank = Bank(WIDTH, thresholds)
    ids = bank.update(features, np.ones(len(features), np.float32)).astype(int)
    counts = np.zeros((len(bank), LABELS))
    np.add.at(counts, (ids, labels), 1)
    return bank.alive.sum() / len(np.unique(labels)), counts.max(axis=1).sum() / len(labels)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--runs", default=500, show_default=True, help="Runs of 8 features.")
@click.option("--unlike", default=UNLIKE, show_default=True, help="Mean cosine of labels.")
@click.option("--kinship", default=0.4, show_default=True, help="Centred cosine of kin.")
def main(runs: int, unlike: float, kinship: float) -> None:
    """Print rows per label / purity for thresholds (down) and noise (across)."""
    print("| join | merge | " + " | ".join(f"noise {noise}" for noise in NOISES) + " |")
    print("|---|---|" + "---|" * len(NOISES))
    for join in JOINS:
        for merge in MERGES:
            if merge < join:
                continue
            cells = []
            for noise in NOISES:
                drawn = labelled_features(noise, runs, unlike, kinship, np.random.default_rng(0))
                rows, purity = rows_and_purity(*drawn, join, merge)
                cells.append(f"{rows:.2f} / {purity:.2f}")
            print(f"| {join} | {merge} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(prog_name="python -m train.evaluation.calibration")
