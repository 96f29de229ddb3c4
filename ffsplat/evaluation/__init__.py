"""How well a scene says what is where, by the protocols under which numbers are published."""
