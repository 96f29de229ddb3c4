"""A stand-in for CUDA graphs."""

import torch


class Tape:
    """Records calls on a CPU as a graph does: it fills the same outputs from the same inputs."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, run):
        self.recorded += 1
        outputs = {name: torch.zeros_like(value) for name, value in run().items()}

        def replay():
            self.replayed += 1
            for name, value in run().items():
                outputs[name].copy_(value)

        return outputs, replay
