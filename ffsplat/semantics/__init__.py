"""Meaning without training: dense features of a published network become rows and codes."""
