"""The terms that a recipe adds up, by name: what each loss is told of one training step."""

from train.terms import direct, meaning, rendered
from train.terms.step import TERMS, Step

__all__ = ["TERMS", "Step", "direct", "meaning", "rendered"]
