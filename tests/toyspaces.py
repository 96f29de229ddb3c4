"""Text spaces without a network."""

import numpy as np


class FakeSpace:
    """A text space with one fixed vector."""

    name = "fake"

    def __init__(self, vector: np.ndarray):
        self.vector = vector.astype(np.float32)

    def encode(self, phrases):
        return np.tile(self.vector, (len(phrases), 1))


class Words:
    """A space in which every phrase has a vector of its own, drawn by its letters."""

    name = "open_clip:made/up"

    def encode(self, phrases):
        seeds = [list(phrase.encode()) for phrase in phrases]
        drawn = np.array([np.random.default_rng(seed).standard_normal(64) for seed in seeds])
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
