"""Networks to train: fresh ones, ones that go on from a checkpoint, and fused kernels."""

from pathlib import Path

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.fx.experimental import _config as fx_config

from ffsplat.config import ModelConfig
from ffsplat.errors import UsageError
from ffsplat.hub import load_checkpoint
from ffsplat.model import FFSplat

FREE = {"name", "resolution", "license"}
"""What may differ between a config and the checkpoint that a network of it starts from."""


def build_network(config: ModelConfig, initial: Path | None, seed: int) -> FFSplat:
    """A network with weights drawn by `seed`, or with those of the checkpoint folder `initial`.

    Raises UsageError if the checkpoint has another shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FFSplat(config)
    if initial is not None:
        start, _ = load_checkpoint(initial)
        check_shape(start.config, config)
        network.load_state_dict(start.state_dict())
    return network.train()


def check_shape(found: ModelConfig, wanted: ModelConfig) -> None:
    """Raise UsageError if a checkpoint's network is not the one that is wanted."""
    for key, value in vars(wanted).items():
        if key not in FREE and getattr(found, key) != value:
            raise UsageError(f"the checkpoint has {key} {getattr(found, key)}, not {value}")


def compile_network(network: FFSplat) -> None:
    """Fuse the kernels of the decoder and the blocks, once for all sizes.

    The stem is left out: torch 2.11 cannot compile it for a GPU with sizes left open.
    """
    # Or two sides that happen to be equal are taken to be one, and other images compile anew.
    fx_config.use_duck_shape = False
    for part in (network.decoder, *network.blocks):
        part.compile(dynamic=True)


def shard_network(network: FFSplat, mesh: DeviceMesh) -> None:
    """Let each process of the mesh hold a share of every weight; blocks are gathered one by one."""
    network.to(memory_format=torch.contiguous_format)  # FSDP2 knows no other order
    for block in network.blocks:
        if not isinstance(block, FSDPModule):
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
    if not isinstance(network, FSDPModule):
        fully_shard(network, mesh=mesh, reshard_after_forward=True)
