"""Readers of published data sets: one file a source, each from its own layout to posed frames."""
