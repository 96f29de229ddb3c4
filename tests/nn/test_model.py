"""The network's promises: shapes, any number of views, order, padding, gradients, precision."""

from dataclasses import replace

import pytest
import torch

from ffsplat.config import ModelConfig
from ffsplat.merge import gaussians_from_prediction
from ffsplat.model import FFSplat
from ffsplat.nn.heads import activate_gaussians
from ffsplat.prediction import Prediction
from ffsplat.render import rasterize

TINY = ModelConfig(
    width=24, heads=2, view_blocks=1, cross_blocks=3, match_block=2, decoder=(16, 12, 8),
    match_width=8, code_width=8, whole_rows=5, part_rows=7, instance_width=4, registers=1,
    meaning_opacity=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def network() -> FFSplat:
    return woken(TINY)


def woken(config: ModelConfig) -> FFSplat:
    """A network in which every path does something, so that tests of equality compare something."""
    torch.manual_seed(0)
    network = FFSplat(config).eval()
    with torch.no_grad():  # heads start near zero
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def photos(b: int, v: int, h: int, w: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(b, v, 3, h, w, generator=torch.Generator().manual_seed(seed))


def outputs(prediction: Prediction) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(prediction).items() if value is not None}


def close(a: Prediction, b: Prediction, tolerance: float = 2e-4) -> None:
    assert outputs(a).keys() == outputs(b).keys()
    for name, value in outputs(a).items():
        torch.testing.assert_close(
            value, vars(b)[name], atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(
    ("views", "height", "width"), [(1, 16, 16), (2, 24, 32), (5, 32, 16), (24, 8, 8)]
)
def test_shapes(network, views, height, width):
    with torch.inference_mode():
        out = network(photos(1, views, height, width))
    assert out.depth.shape == (1, views, height, width)
    assert out.descriptors.shape == (1, views, height // 4, width // 4, 8)
    assert out.whole_logits.shape[-1] == 5
    assert out.part_logits.shape[-1] == 7
    assert all(value.isfinite().all() for value in outputs(out).values())
    torch.testing.assert_close(out.world_from_camera[0, 0], torch.eye(4))
    assert (out.depth > 0).all()
    assert (out.offsets.abs() <= 0.5).all()
    torch.testing.assert_close(out.intrinsics[..., 0, 2], torch.full((1, views), width / 2))


def test_wrong_size_is_refused(network):
    with pytest.raises(ValueError, match="multiple of the patch 8"):
        network(photos(1, 1, 20, 16))


@torch.inference_mode()
def test_batch_equals_loop(network):
    images = photos(3, 2, 16, 24)
    together = network(images)
    for index in range(3):
        alone = network(images[index : index + 1])
        close(alone, Prediction(**{k: v[index : index + 1] for k, v in outputs(together).items()}))


@torch.inference_mode()
def test_order_of_other_views_does_not_matter(network):
    images = photos(1, 4, 16, 16)
    order = [0, 3, 1, 2]
    straight, permuted = network(images), network(images[:, order])
    moved = {
        name: value if name == "scale" else value[:, order]
        for name, value in outputs(straight).items()
    }
    close(permuted, Prediction(**moved))


@torch.inference_mode()
def test_reference_view_does_matter(network):
    images = photos(1, 2, 16, 16)
    assert not torch.allclose(network(images).depth[:, 0], network(images.flip(1)).depth[:, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_in_a_window_a_view_sees_itself_some_before_it_and_the_first(network, dtype):
    causal = FFSplat(replace(TINY, window=2)).eval()
    causal.load_state_dict(network.state_dict())
    images = photos(1, 5, 16, 16)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        seen = causal(images).depth
        for changed, unmoved in ((4, [0, 1, 2, 3]), (1, [0]), (0, [])):
            other = images.clone()
            other[:, changed] = photos(1, 1, 16, 16, seed=9)[:, 0]
            depth = causal(other).depth
            moved = (depth - seen).abs().amax((0, 2, 3)) > 1e-4 * seen.mean()
            # A single crossing block looks two views back at most, so view 3 does not see view 1.
            expected = {4: [4], 1: [1, 2], 0: [0, 1, 2, 3, 4]}[changed]
            assert moved.nonzero().flatten().tolist() == expected
            assert not moved[unmoved].any()


@torch.inference_mode()
def test_padding_changes_nothing(network):
    images = photos(1, 2, 16, 24)
    canvas = torch.zeros(1, 2, 3, 24, 24)
    valid = torch.zeros(1, 2, 24, 24, dtype=torch.bool)
    canvas[..., :16, :] = images
    valid[..., :16, :] = True
    padded, plain = network(canvas, valid), network(images)
    for name in ("depth", "depth_error", "whole_logits", "instances", "scales", "colors"):
        torch.testing.assert_close(
            getattr(padded, name)[:, :, :16], getattr(plain, name), atol=2e-4, rtol=2e-4
        )
    torch.testing.assert_close(padded.descriptors[:, :, :4], plain.descriptors, atol=2e-4, rtol=0)
    for name in ("world_from_camera", "intrinsics", "scale"):
        torch.testing.assert_close(
            getattr(padded, name), getattr(plain, name), atol=2e-4, rtol=2e-4
        )


def test_every_parameter_gets_a_gradient(network):
    out = network(photos(1, 3, 16, 16))
    total = sum((value * torch.randn_like(value)).sum() for value in outputs(out).values())
    network.zero_grad()
    total.backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@torch.inference_mode()
def test_an_opacity_for_meaning_is_one_more_output(network):
    images = photos(1, 2, 16, 16)
    both = network(images)
    plain = FFSplat(replace(TINY, meaning_opacity=False)).eval()
    weights = network.state_dict()
    for name in ("pixel_head.linear.weight", "pixel_head.linear.bias"):
        weights[name] = weights[name][:-1]  # it stands last
    plain.load_state_dict(weights, strict=True)
    single = plain(images)
    assert single.meaning_opacities is None
    close(single, replace(both, meaning_opacities=None), 1e-6)
    assert both.meaning_opacities.shape == both.opacities.shape
    assert 0 < both.meaning_opacities.min() < both.meaning_opacities.max() < 1
    assert not torch.allclose(both.meaning_opacities, both.opacities, atol=1e-2)


def test_a_new_head_starts_at_the_same_opacity_for_both():
    head = FFSplat(TINY).pixel_head
    raw = head(torch.zeros(1, 1, 1, 1, 8))
    values = activate_gaussians(raw, torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1, 3))
    assert values["meaning_opacities"].item() == values["opacities"].item() > 0.89


def test_what_is_drawn_of_meaning_teaches_its_own_opacity(network):
    # Equation 4 of 3D Vision-Language Gaussian Splatting: meaning does not see that for colour.
    prediction = network(photos(1, 2, 16, 16))
    world = gaussians_from_prediction(prediction)
    view = rasterize(
        world.means[0], world.quaternions_wxyz[0], world.scales[0],
        prediction.meaning_opacities.flatten(), prediction.whole_logits.reshape(-1, 5).softmax(-1),
        prediction.world_from_camera[0, :1], prediction.intrinsics[0, :1], 16, 16,
    )  # fmt: skip
    wanted = torch.rand(view.features.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(
        (view.features * wanted).sum(), network.pixel_head.linear.weight
    )
    rows = dict(
        zip(
            network.pixel_head.sizes,
            gradient.split(list(network.pixel_head.sizes.values())),
            strict=True,
        )
    )
    assert rows["meaning_opacity"].abs().sum() > 0
    assert not rows["opacity"].any()
    assert not rows["color"].any()


@torch.inference_mode()
def test_bfloat16_agrees(network):
    # Stated bound: 2 % of the depth, 0.02 in poses and unit vectors.
    images = photos(1, 2, 16, 16)
    exact = network(images)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(images)
    assert (rough.depth / exact.depth).log().abs().median() < 0.02
    assert (rough.world_from_camera - exact.world_from_camera).abs().max() < 0.02
    assert (rough.descriptors - exact.descriptors).abs().median() < 0.02


@torch.inference_mode()
def test_code_pixels_are_a_subset(network):
    images = photos(1, 2, 16, 16)
    part = network(images, code_pixels=(slice(1, None, 2), slice(0, None, 2)))
    whole = network(images)
    torch.testing.assert_close(part.whole_logits, whole.whole_logits[:, :, 1::2, 0::2])


def test_size_of_the_default_network():
    with torch.device("meta"):
        network = FFSplat(ModelConfig())
    count = sum(p.numel() for p in network.parameters())
    # Half precision must stay under 16 MB with the codebook beside it.
    assert 3e6 < count < 7.5e6
