"""Procedural rooms: intersections, culling, shadows, cameras and labels against oracles."""

import colorsys
import itertools

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

TENSOR_MODULES = "cameras caster checks primitives render scene sensor shading sheet textures"

with install_import_hook(
    [f"data.rooms.{name}" for name in TENSOR_MODULES.split()], "beartype.beartype"
):
    from data.rooms import (
        PART_NAMES,
        SPLITS,
        WHOLE_NAMES,
        RoomBatch,
        caster,
        primitives,
        render_rooms,
        shading,
        templates,
    )
    from data.rooms import cameras as cameras_module
    from data.rooms.checks import reprojection
    from data.rooms.labels import WHOLE_INDEX
    from data.rooms.layout import furnish
    from data.rooms.materials import rgb_from_hsv
    from data.rooms.render import SAMPLES
    from data.rooms.scene import build_scenes
    from data.rooms.sensor import encode
    from data.rooms.splits import split_seeds, splits_of
    from data.rooms.styles import WALK

SEEDS = range(SPLITS["preview"][100], SPLITS["preview"][100] + 24)


@pytest.fixture(scope="module")
def batch() -> RoomBatch:
    """24 rooms, four views each."""
    return RoomBatch.concatenate([render_rooms([seed], 4, 48, 64) for seed in SEEDS])


def _axes(rows: np.ndarray) -> tuple[torch.Tensor, ...]:
    """(n, 3) as the three (n, 1) tensors that the kernels take."""
    return torch.from_numpy(rows).float()[..., None].unbind(1)


def _inside(shape: str, p: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Which p (..., 3) are in the solid."""
    if shape == "box":
        return np.abs(p).max(-1) <= 1
    if shape == "ball":
        return (p**2).sum(-1) <= 1
    radius = (ends[0] + ends[1]) / 2 + (ends[1] - ends[0]) / 2 * p[..., 2]
    return (np.hypot(p[..., 0], p[..., 1]) <= radius) & (np.abs(p[..., 2]) <= 1)


@pytest.mark.parametrize(
    ("shape", "ends"),
    [("box", (1, 1)), ("ball", (1, 1)), ("cylinder", (1, 1)), ("cone", (1, 0)), ("pot", (0.6, 1))],
)
def test_first_hit_agrees_with_marching_along_the_ray(shape, ends):
    rng = np.random.default_rng(0)
    origin = rng.normal(size=(400, 3))
    origin *= rng.uniform(2.5, 4, (400, 1)) / np.linalg.norm(origin, axis=1, keepdims=True)
    direction = rng.uniform(-1.7, 1.7, (400, 3)) - origin
    t = np.linspace(0, 2.5, 5001)
    path = origin[:, None] + t[:, None] * direction[:, None]
    inside = _inside(shape, path, ends)
    expected = np.where(inside.any(1), t[inside.argmax(1)], np.inf)
    if shape == "box":
        hit = primitives.hit_box(_axes(origin), _axes(direction))
    elif shape == "ball":
        hit = primitives.hit_ball(_axes(origin), _axes(direction))
    else:
        radii = torch.tensor(ends).float().expand(400, 2)
        hit = primitives.hit_frustum(_axes(origin), _axes(direction), radii, torch.zeros(400, 2))
    found = hit[:, 0].numpy()
    grazing = inside.sum(1) < 5
    assert (np.isfinite(expected) & ~grazing).sum() > 100
    clear = inside.any(1) & ~grazing
    np.testing.assert_allclose(found[clear], expected[clear], atol=1e-3)
    missed = ~inside.any(1)
    assert missed.sum() > 30
    assert np.isinf(found[missed]).mean() > 0.97, "but for rays that only touch an edge"


def test_hits_computed_by_hand():
    x, down = np.array([[1.0, 0, 0]]), np.array([[0, 0, -2.0]])
    left, above = np.array([[-3.0, 0, 0]]), np.array([[0, 0, 5.0]])
    radii, closed = torch.tensor([[1.0, 0.5]]), torch.zeros(1, 2)
    assert primitives.hit_box(_axes(left), _axes(x)).item() == pytest.approx(2)
    assert primitives.hit_box(_axes(-left), _axes(x)).item() == np.inf
    assert primitives.hit_ball(_axes(left), _axes(x)).item() == pytest.approx(2)
    assert primitives.hit_room(_axes(0 * left), _axes(x)).item() == pytest.approx(1)
    side = primitives.hit_frustum(_axes(left), _axes(x), radii, closed)
    assert side.item() == pytest.approx(3 - 0.75)
    cap = primitives.hit_frustum(_axes(above), _axes(down), radii, closed)
    assert cap.item() == pytest.approx(2)
    cup = primitives.hit_frustum(_axes(above), _axes(down), radii, torch.tensor([[0.0, 1]]))
    assert cup.item() == pytest.approx(3), "through the open top to the bottom"
    pipe = primitives.hit_frustum(_axes(above), _axes(down), radii, torch.ones(1, 2))
    assert pipe.item() == np.inf
    far_wall = primitives.hit_frustum(_axes(0 * left), _axes(x), radii, torch.ones(1, 2))
    assert far_wall.item() == pytest.approx(0.75), "from inside"


def test_small_far_cylinder_is_hit_precisely():
    """A 1 cm pole at 8 m: the unit frame is 800 radii away."""
    origin = np.array([[-800.0, 0.3, 0]])
    hit = primitives.hit_frustum(
        _axes(origin), _axes(np.array([[800.0, 0, 0]])), torch.ones(1, 2), torch.zeros(1, 2)
    )
    assert hit.item() * 800 == pytest.approx(800 - np.sqrt(1 - 0.09), abs=5e-3)


def test_normals_are_gradients_of_the_surface():
    generator = torch.Generator().manual_seed(0)
    half = torch.tensor([0.3, 0.5, 0.8])
    angle = torch.rand(50, generator=generator) * 6.28
    z = torch.rand(50, generator=generator) * 1.8 - 0.9
    ends = torch.tensor([1.0, 0.4])
    for shape in (templates.BALL, templates.FRUSTUM):
        ring = (1 - z**2).sqrt() if shape == templates.BALL else 0.7 - 0.3 * z
        point = torch.stack([ring * angle.cos(), ring * angle.sin(), z])
        metric = (point * half[:, None]).requires_grad_()
        x, y, w = metric / half[:, None]
        edge = (1 - w**2).sqrt() if shape == templates.BALL else 0.7 - 0.3 * w
        ((x**2 + y**2).sqrt() - edge).sum().backward()
        expected = metric.grad / metric.grad.norm(dim=0)
        normal = primitives.local_normal(
            point,
            half[:, None].expand(3, 50),
            torch.full((50,), shape),
            ends[:, None].expand(2, 50),
        )
        torch.testing.assert_close(normal, expected, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def small():
    """One room with cameras, its tiles and what every ray meets."""
    scenes, layouts = build_scenes([SEEDS[0]])
    cameras = cameras_module.choose_cameras(scenes, layouts, [SEEDS[0]], 2, 24, 24)
    tiles = caster.make_tiles(cameras, SAMPLES[:1])
    return scenes, cameras, tiles, *caster.cast(scenes, cameras, tiles)


def _all_hits(scenes, origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """t of every ray (n, 3) against every primitive (n, p), in float64 and without culling."""
    rows = []
    for slot in range(scenes.shape.shape[1]):
        frame = (scenes.rotation[0, slot] / scenes.half[0, slot]).double()
        o = ((origin - scenes.centre[0, slot]) @ frame)[..., None].unbind(1)
        d = (direction @ frame)[..., None].unbind(1)
        shape = int(scenes.shape[0, slot])
        index = torch.full((len(origin),), slot)
        rows.append(caster.hit_pairs(shape, scenes, index, o, d)[:, 0])
    return torch.stack(rows, 1)


def test_culling_loses_no_hit(small):
    scenes, cameras, tiles, depth, slot = small
    image, slots = (caster.untile(x, tiles, 1, 24, 24)[0, :, 0] for x in (depth, slot))
    for view in range(2):
        pose = cameras.world_from_camera[0, view].double()
        y, x = np.mgrid[:24, :24] + 0.5
        f = float(cameras.focal[0])
        rays = torch.from_numpy(np.stack([(x - 12) / f, (y - 12) / f, np.ones_like(x)], -1))
        direction = rays.reshape(-1, 3) @ pose[:3, :3].T
        hits = _all_hits(scenes, pose[:3, 3].expand(len(direction), 3), direction)
        nearest, winner = hits.min(1)
        error = (image[view].reshape(-1) / nearest - 1).abs()
        assert (error < 1e-4).float().mean() > 0.995, "only edges may differ by rounding"
        assert (slots[view].reshape(-1) == winner).float().mean() > 0.99


def test_shadow_culling_loses_no_shadow(small):
    scenes, cameras, tiles, depth, slot = small
    everything = slice(None)
    hit = shading.surface(scenes, cameras, tiles, everything, everything, depth, slot)
    point, normal = (x.T.reshape(*depth.shape, 3) for x in (hit.point, hit.normal))
    visible = shading.light_visibility(scenes, tiles, point, normal).flatten(1)
    casts = scenes.materials[0, scenes.material[0], 14] > 0
    casts[0] = False
    start = hit.point.T + shading.SHADOW_BIAS * hit.normal.T
    for light in range(2):
        origin = scenes.light_position[0, light]
        hits = _all_hits(scenes, origin.double().expand(len(start), 3), (start - origin).double())
        blocked = (hits[:, casts] < 1).any(1)
        faces = ((origin - start) * hit.normal.T).sum(1) > 0
        assert 0.02 < blocked.float().mean() < 0.98
        assert ((visible[light] == 0) == blocked)[faces].float().mean() > 0.995


def test_same_seed_gives_the_same_clip_alone_and_in_a_batch():
    seeds = list(SEEDS[:2])
    together, alone = render_rooms(seeds, 2, 32, 32), render_rooms(seeds[1:], 2, 32, 32)
    again = render_rooms(seeds[1:], 2, 32, 32)
    for name, value in vars(alone).items():
        assert torch.equal(value, getattr(again, name)), name
        difference = (value.float() - getattr(together, name)[1:].float()).abs()
        assert (difference < 2e-3).float().mean() > 0.999, name
    other = render_rooms([SEEDS[5]], 2, 32, 32)
    assert not torch.equal(other.depth, alone.depth)


def test_views_agree_with_each_other(batch):
    agreement = reprojection(batch)
    assert agreement.depth_error < 0.005
    assert agreement.whole > 0.98
    assert agreement.part > 0.96
    assert agreement.instance > 0.98
    assert agreement.normal_cosine > 0.9999
    wrong = RoomBatch(**vars(batch) | {"whole": batch.whole.flip(-1)})
    assert reprojection(wrong).whole < 0.9, "the check can fail"


def test_normals_agree_with_depth(batch):
    focal = batch.intrinsics[:, :, 0, 0][:, :, None, None]
    y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    d = batch.depth
    points = torch.stack([(x - 32) / focal * d, (y - 24) / focal * d, d], -1)
    across = points[:, :, 1:-1, 2:] - points[:, :, 1:-1, :-2]
    down = points[:, :, 2:, 1:-1] - points[:, :, :-2, 1:-1]
    expected = torch.nn.functional.normalize(torch.linalg.cross(down, across), dim=-1)
    cosine = (expected * batch.normals[:, :, 1:-1, 1:-1]).sum(-1)
    assert cosine.median() > 0.9999
    assert (cosine > 0.99).float().mean() > 0.75
    torch.testing.assert_close(batch.normals.norm(dim=-1), torch.ones_like(d))


def test_arrays_are_in_range(batch):
    assert batch.image.min() >= 0
    assert batch.image.max() <= 1
    assert batch.image.flatten(1).std(1).min() > 0.01, "no picture is flat"
    assert (batch.depth > 0).all()
    assert batch.depth.max() < 10
    assert batch.whole.max() < len(WHOLE_NAMES)
    assert batch.part.max() < len(PART_NAMES)
    structure = torch.tensor([WHOLE_INDEX[name] for name in ("wall", "floor", "ceiling")])
    is_structure = torch.isin(batch.whole, structure.to(torch.uint8))
    assert torch.equal(batch.instance == 0, is_structure)


def test_an_instance_has_one_class(batch):
    for whole, instance in zip(batch.whole, batch.instance, strict=True):
        for number in instance.unique()[1:]:
            assert len(whole[instance == number].unique()) == 1


def test_many_classes_and_parts_are_seen(batch):
    assert len(batch.whole.unique()) >= 40
    assert len(batch.part.unique()) >= 40


def test_every_name_of_the_lexicon_is_built():
    wholes, parts = {"floor", "ceiling"}, set()
    for row in (29, 27, 61, 23, 58, 12, *range(80)):  # those with rare things first
        scenes, _ = build_scenes([SPLITS["preview"][row]])
        real = scenes.shape >= 0
        wholes |= {WHOLE_NAMES[i] for i in scenes.whole[real].unique()}
        parts |= {PART_NAMES[i] for i in scenes.part[real].unique()}
        if (wholes, parts) == (set(WHOLE_NAMES), set(PART_NAMES)):
            break
    assert wholes == set(WHOLE_NAMES)
    assert parts == set(PART_NAMES)


def test_cameras_stay_in_their_ranges(batch):
    pose = batch.world_from_camera.double()
    rotation = pose[..., :3, :3]
    identity = torch.eye(3).double().expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.mT, identity, atol=1e-5, rtol=0)
    assert torch.linalg.det(rotation).min() > 0.999
    pitch = torch.rad2deg(torch.asin(rotation[..., 2, 2]))
    assert pitch.min() >= WALK.pitch[0] - 1e-3
    assert pitch.max() <= WALK.pitch[1] + 1e-3
    roll = torch.rad2deg(torch.asin(rotation[..., 2, 0] / torch.cos(torch.deg2rad(pitch))))
    assert roll.abs().max() <= WALK.roll + 1e-3
    assert pose[..., 2, 3].min() >= WALK.eye_height[0] - 1e-5
    assert pose[..., 2, 3].max() <= WALK.eye_height[1] + 1e-5
    fov = torch.rad2deg(2 * torch.atan(32 / batch.intrinsics[..., 0, 0]))
    assert fov.min() >= WALK.field_of_view[0]
    assert fov.max() <= WALK.field_of_view[1]
    assert (fov.amax(1) == fov.amin(1)).all(), "one lens a clip"


def test_views_overlap_with_the_first(batch):
    fov = 2 * torch.atan(32 / batch.intrinsics[:, 0, 0, 0])
    square = batch.depth[:, :, :, 8:56]
    narrow = 2 * torch.atan(torch.tan(fov / 2) * 48 / 64)
    seen = cameras_module.overlap(square, batch.world_from_camera, narrow)
    torch.testing.assert_close(seen[:, 0], torch.ones(len(seen)))
    inside = (seen[:, 1:] > 0.15) & (seen[:, 1:] < 0.99)
    assert inside.float().mean() > 0.85


def test_overlap_of_opposite_views_is_zero():
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    poses[0, 1, :3, :3] = torch.diag(torch.tensor([-1.0, 1, -1]))
    seen = cameras_module.overlap(torch.full((1, 2, 16, 16), 2.0), poses, torch.tensor([1.0]))
    torch.testing.assert_close(seen, torch.tensor([[1.0, 0.0]]))


def test_blocked_views_are_recognised():
    wall, room = torch.full((16, 16), 0.5), torch.full((16, 16), 2.0)
    table = torch.linspace(0.5, 1.2, 256).reshape(16, 16)
    touching = torch.full((16, 16), 0.2)
    clear = cameras_module.is_clear(torch.stack([wall, room, table, touching]))
    assert clear.tolist() == [False, True, True, False]


def test_objects_stay_in_the_room_and_apart():
    for seed in range(20):
        layout = furnish(np.random.default_rng(seed))
        for item in layout.items:
            assert np.all(np.abs(item.position[:2]) <= layout.room[:2] / 2)
            assert item.position[2] + item.size[2] <= layout.room[2] + 1e-6
        assert 5 <= len(layout.items) <= 90


def test_templates_compile_to_the_boxes_in_the_table():
    chair = templates.templates()[0]
    values = chair.base + chair.slope @ np.zeros(templates.VARIABLES)
    np.testing.assert_allclose(values[0, :6], [-0.97, -0.84, -0.97, -0.84, 0, 0.46])
    np.testing.assert_allclose(values[1, :6], [0.84, 0.97, -0.97, -0.84, 0, 0.46])
    values = chair.base + chair.slope @ np.ones(templates.VARIABLES)
    np.testing.assert_allclose(values[4, 4:6], [0.52 - 0.05, 0.52], err_msg="seat on its legs")
    for template in templates.templates():
        low = template.base - np.minimum(template.slope, 0).sum(-1)
        assert np.all(low[:, 1:6:2] >= template.base[:, 0:6:2] - 1e-9), template.label


def test_hue_saturation_value_agrees_with_the_standard_library():
    for hsv in np.random.default_rng(0).random((50, 3)):
        np.testing.assert_allclose(rgb_from_hsv(*hsv), colorsys.hsv_to_rgb(*hsv), atol=1e-12)


def test_encoding_is_srgb_and_saturates_softly():
    values = encode(torch.tensor([0.0, 0.002, 0.2, 0.8, 100.0]))
    expected = [0.0, 12.92 * 0.002, 0.48453, 0.90633, 1.0]
    torch.testing.assert_close(values, torch.tensor(expected), atol=1e-4, rtol=0)


def test_splits_are_disjoint_and_guarded():
    ranges = sorted(SPLITS.values(), key=lambda seeds: seeds.start)
    assert all(a.stop <= b.start for a, b in itertools.pairwise(ranges))
    assert SPLITS["heldout_v1"] == range(2**30, 2**30 + 4096), "a published split never changes"
    assert SPLITS["heldout_v2"] == range(2**30 + 8192, 2**30 + 12288)
    assert SPLITS["train"] == range(2**30)
    assert split_seeds("heldout_v1", 10, 2) == range(2**30 + 10, 2**30 + 12)
    for arguments in (("train", 2**30 - 1, 2), ("train", -1, 2), ("heldout_v1", 4096, 1)):
        with pytest.raises(ValueError, match="do not fit"):
            split_seeds(*arguments)
    with pytest.raises(ValueError, match="unknown split"):
        split_seeds("test", 0, 1)


def test_seeds_know_their_splits():
    assert splits_of(range(5)) == ["train"]
    assert splits_of(range(2**30 - 1, 2**30 + 1)) == ["train", "heldout_v1"]
    assert splits_of(range(2**30 + 8191, 2**30 + 8192)) == ["preview"]
    assert splits_of(range(2**30 + 8192, 2**30 + 12288)) == ["heldout_v2"]
    assert splits_of(range(2**30 + 12288, 2**30 + 13312)) == ["walks_v1"]
    assert splits_of(range(2**30 + 13312, 2**40)) == []
    assert splits_of(range(3, 3)) == []
