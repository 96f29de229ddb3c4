"""A map while it grows, for programs and people on a network: sessions, queries, health."""
