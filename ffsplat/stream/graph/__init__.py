"""The graph of keyframes: similarities between them, and the ways that agree with all best."""
