"""The card of a checkpoint: what is known of the run that made it, in the hub's format."""

from pathlib import Path

from ffsplat.model import FFSplat

CARD = """---
license: {license_id}
library_name: ffsplat
pipeline_tag: image-to-3d
tags: [gaussian-splatting, 3d-reconstruction, feed-forward]
---

# {name}

An any-view transformer of {parameters:.1f} M parameters that turns unposed photos into 3D Gaussians
with meaning. Tokens of {patch} x {patch} pixels, {width} channels, {view_blocks} blocks within a
view and {cross_blocks} that attend within and across views in turn, at {resolution} pixels along
the longer side.

## Data

The sources of the recipe below.

## Recipe

{steps} steps in {hours:.2f} hours of the clock that the recipe names. The weights are their moving
average.

```yaml
{recipe}
```

## Measured

Nothing yet: `python -m train.evaluate FOLDER` prints the table.

## Limits

Not known yet.

## Licence

{license}.
"""
"""Sections are those of every card in `models/`; what only a person can say is left to say."""


def card_of_run(network: FFSplat, checkpoint: Path, steps: int, seconds: float) -> str:
    """README.md for weights exported from a checkpoint; the recipe is the config beside it."""
    config = network.config
    recipe = checkpoint.parent / "config.yaml"
    return CARD.format(
        **vars(config),
        license_id=config.license.lower(),
        parameters=sum(p.numel() for p in network.parameters()) / 1e6,
        steps=steps,
        hours=seconds / 3600,
        recipe=recipe.read_text(encoding="utf-8").strip() if recipe.exists() else "# not kept",
    )
