"""The perceptual loss against a loop over pixels, through tiny networks of timm."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from ffsplat.errors import CheckpointError, UsageError
from train import losses


@pytest.fixture(scope="module")
def network():
    return losses.FeatureNetwork("test_resnet", "random", layers=(0, 1))


def pictures(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, 16, 20, generator=generator), torch.rand(
        2, 3, 16, 20, generator=generator
    )


def slow_distance(one: list[np.ndarray], other: list[np.ndarray], weights) -> float:
    """One image, pixel by pixel: maps are (c, y, x)."""
    layers = []
    for a, b, w in zip(one, other, weights, strict=True):
        pixels = []
        for y in range(a.shape[1]):
            for x in range(a.shape[2]):
                p, q = a[:, y, x], b[:, y, x]
                p, q = p / np.linalg.norm(p), q / np.linalg.norm(q)
                pixels.append((w * (p - q) ** 2).sum())
        layers.append(np.mean(pixels))
    return float(np.mean(layers))


@pytest.mark.parametrize("weighted", [False, True])
def test_feature_distance_by_loops(weighted):
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 4, 3, 5), (2, 6, 2, 2)
    one, other = ([torch.randn(s, generator=generator) for s in shapes] for _ in range(2))
    weights = [torch.rand(s[1], generator=generator) for s in shapes] if weighted else None
    distance = losses.feature_distance(one, other, weights)
    rows = weights or [torch.ones(s[1]) for s in shapes]
    for image in range(2):
        expected = slow_distance(
            [x[image].numpy() for x in one], [x[image].numpy() for x in other],
            [w.numpy() for w in rows],
        )  # fmt: skip
        assert distance[image].item() == pytest.approx(expected, rel=1e-5)
    # Without weights it is 2 - 2 cosine.
    cosine = torch.cosine_similarity(one[0], other[0], dim=1).mean((1, 2))
    torch.testing.assert_close(losses.feature_distance(one[:1], other[:1]), 2 - 2 * cosine)


def test_perceptual_loss_is_the_distance_of_the_networks_features(network):
    image, truth = pictures()
    bare = timm.create_model("test_resnet", features_only=True, out_indices=(0, 1))
    bare.load_state_dict(network.network.state_dict())
    bare.eval()
    features = [bare((x - 0.5) / 0.5) for x in (image, truth)]
    expected = losses.feature_distance(*features).mean()
    torch.testing.assert_close(losses.perceptual_loss(image, truth, network), expected)
    # Any number of leading axes.
    views = losses.perceptual_loss(image[None], truth[None], network)
    torch.testing.assert_close(views, expected)


def test_perceptual_loss_moves_the_image_alone(network):
    image, truth = (picture.requires_grad_() for picture in pictures())
    network.train()
    loss = losses.perceptual_loss(image, truth, network)
    loss.backward()
    assert image.grad.isfinite().all()
    assert image.grad.abs().max() > 0
    assert truth.grad is None
    assert not network.network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    same = truth.detach().clone().requires_grad_()
    loss = losses.perceptual_loss(same, truth, network)
    assert loss.item() == pytest.approx(0, abs=1e-10)
    assert torch.autograd.grad(loss, same)[0].isfinite().all()


def test_random_weights_are_those_of_their_seed():
    random_state = torch.random.get_rng_state()
    first, again, other = (
        losses.FeatureNetwork("test_resnet", "random", seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(random_state, torch.random.get_rng_state())
    image, truth = pictures()
    values = [losses.perceptual_loss(image, truth, network) for network in (first, again, other)]
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_weights_come_from_a_file(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        whole = timm.create_model("test_resnet")
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    network = losses.FeatureNetwork("test_resnet", tmp_path / "weights.safetensors", layers=(4,))
    image, _ = pictures()
    with torch.no_grad():
        expected = whole.eval().forward_features((image - 0.5) / 0.5)
    torch.testing.assert_close(network(image)[0], expected)
    with pytest.raises(CheckpointError, match="do not fit"):
        losses.FeatureNetwork("resnet18", tmp_path / "weights.safetensors")


def test_what_is_not_a_network_or_its_weights_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no_such_network"):
        losses.FeatureNetwork("no_such_network", "random")
    with pytest.raises(UsageError, match="feature maps"):
        losses.FeatureNetwork("test_resnet", "random", layers=(9,))
    torch.save({}, tmp_path / "weights.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"0123456789" * 10)
    for name in ("weights.pth", "absent.safetensors", "broken.safetensors"):
        with pytest.raises(CheckpointError):
            losses.FeatureNetwork("test_resnet", tmp_path / name)
