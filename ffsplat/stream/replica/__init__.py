"""A map that follows another by its changes, and the scene that it is."""
