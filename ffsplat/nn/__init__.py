"""Layers of the any-view network."""
