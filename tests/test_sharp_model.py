"""The sharp model: its interface, what holds by construction, and bad input."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from vae4d import SharpSynthesis, Synthesis, build_model, load_model
from vae4d.checkpoint import convert, read_checkpoint, save_checkpoint
from vae4d.config import SharpConfig
from vae4d.errors import CheckpointError, ConfigError
from vae4d.geometry import offset_in_cube, theta_to_euler
from vae4d.sharp import tiles
from vae4d.sharp.model import SharpAutoencoder4D, level_count

SMALL = SharpConfig(
    "sharp", 64, planes=4, code_channels=4, feature_channels=(8, 8), hidden_channels=4, matching_channels=16,
    geometry_channels=(8, 8, 8, 8), volume_channels=8, fusion_channels=8,
)  # fmt: skip


def perturbed(config: SharpConfig = SMALL, size: float = 0.02) -> SharpAutoencoder4D:
    """A model that believes something: with heads at zero, as they start, everything would hold trivially."""
    torch.manual_seed(0)
    model = SharpAutoencoder4D(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += size * torch.randn_like(parameter)
        model.subpixel.trust.fill_(1)  # one number among so many: chance would leave the gradients out
    return model


def frames(*size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two smooth random frames (1, 3, *size), the second moved and mixed with another."""
    torch.manual_seed(seed)
    a, b = (F.avg_pool2d(torch.rand(1, 3, *size), 5, 1, 2) for _ in range(2))
    return a, 0.9 * torch.roll(a, (2, 3), (2, 3)) + 0.1 * b


@pytest.fixture(scope="module")
def model() -> SharpAutoencoder4D:
    return perturbed()


@pytest.mark.parametrize(("field", "value"), [("planes", 0), ("geometry_channels", (8, 8)), ("geometry_channels", 48), ("planes", (4, 4))])
def test_wrong_sizes_are_named(field, value):
    with pytest.raises(ConfigError, match=rf"{field} is .*: give (a|4) whole numbers? above 0"):
        dataclasses.replace(SMALL, **{field: value})


@pytest.mark.parametrize("name", ["sharp", "sharp-large"])
def test_an_untrained_model_is_the_linear_blend(name):
    a, b = frames(40, 56)
    with torch.no_grad():
        made = build_model(name).synthesise(a, b, 0.3)
    assert (made.image - (0.7 * a + 0.3 * b)).abs().max() < 3e-3  # what the voxels draw has a share of a hundredth at most
    assert made.pose.abs().max() == 0
    assert all(motion.abs().max() == 0 for motion in made.motion)


def test_outputs_are_typed_and_their_sizes_are_those_of_the_frames(model):
    a, b = (x.repeat(2, 1, 1, 1) for x in frames(50, 70))
    with torch.no_grad():
        made = model(a, b, torch.tensor([0.2, 0.8]), torch.tensor([0.01, 0, 0, 0.05, 0, 0]))
    assert isinstance(made, SharpSynthesis) and isinstance(made, Synthesis)
    assert made.image.shape == (2, 3, 50, 70) and made.image.min() >= 0 and made.image.max() <= 1
    assert made.depth.shape == made.own.shape == (2, 50, 70) and made.depth.min() > 0
    assert [motion.shape for motion in made.motion] == [(2, 2, 50, 70)] * 2
    assert made.weights.shape == (2, 3, 50, 70) and torch.allclose(made.weights.sum(1), torch.ones(2, 50, 70), atol=1e-5)
    assert made.density.shape[:2] == (2, 4) and torch.allclose(made.density.sum(1), torch.ones_like(made.density[:, 0]), atol=1e-5)
    assert made.voxel_flow.shape == (2, 4, *made.density.shape[2:], 3) and made.pose.shape == (2, 6)
    assert made.visible.shape == (2, 2, 50, 70) and made.visible.min() >= 0 and made.visible.max() <= 1
    assert made.focal.tolist() == [1.0, 1.0]


def test_both_ends_are_given_back_and_equal_frames_say_nothing(model):
    a, b = frames(48, 64)
    with torch.no_grad():
        assert (model(a, b, 0.0).image - a).abs().max() < 1e-5
        assert (model(a, b, 1.0).image - b).abs().max() < 1e-5
        still = model(a, a, 0.5)
    assert (still.image - a).abs().max() < 1e-5
    assert still.pose.abs().max() == 0 and still.voxel_flow.abs().max() == 0
    assert all(motion.abs().max() == 0 for motion in still.motion)


@pytest.mark.parametrize("t", [0.25, 0.5, 0.9])
def test_swapping_the_frames_mirrors_time(model, t):
    a, b = frames(48, 64)
    with torch.no_grad():
        one, two = model(a, b, t), model(b, a, 1 - t)
    assert torch.allclose(one.image, two.image, atol=1e-6)
    assert torch.allclose(one.motion[0], two.motion[1], atol=1e-5) and torch.allclose(one.voxel_flow, -two.voxel_flow, atol=1e-6)
    assert torch.allclose(one.weights, two.weights[:, [1, 0, 2]], atol=1e-6)
    assert model(a, b).pose.abs().max() > 1e-5  # there is something to mirror
    first, second = (model.twist(model.encode(x), model.encode(y), torch.ones(1)) for x, y in ((a, b), (b, a)))
    assert torch.equal(first, -second)


@pytest.mark.parametrize("order", ["first", "second"])
def test_where_one_order_is_wrong_about_the_camera_the_other_is_not_drawn_along(model, monkeypatch, order):
    a, b = (model.encode(frame) for frame in frames(48, 64))
    wrong = torch.tensor([[0.3, -0.2, 0.1, 0.05, 0.1, -0.1]])
    one_way = SharpAutoencoder4D.one_way

    def misled(self, first, second, focal):
        pair = one_way(self, first, second, focal)
        return dataclasses.replace(pair, xi=wrong) if first is (a if order == "first" else b) else pair

    with torch.no_grad():
        right = model.twist(a, b, torch.ones(1))
        monkeypatch.setattr(SharpAutoencoder4D, "one_way", misled)
        found = model.pair(a, b, torch.ones(1))[0].xi
    assert (found - right).norm() < 0.5 * (wrong / 2).norm()  # by as much the mean of both orders would be off


def test_a_batch_is_its_samples(model):
    pairs = [frames(48, 64, seed=seed) for seed in range(3)]
    a, b = (torch.cat(side) for side in zip(*pairs, strict=True))
    t = torch.tensor([0.2, 0.5, 0.7])
    with torch.no_grad():
        whole = model(a, b, t)
        for i in range(3):
            one = model(a[i : i + 1], b[i : i + 1], float(t[i]))
            # gradients of noise amplify the order in which floats are added
            assert torch.allclose(whole.image[i], one.image[0], atol=1e-4)
            assert torch.allclose(whole.motion[0][i], one.motion[0][0], atol=1e-3)


def test_the_moments_of_a_pair_share_what_it_says(model, monkeypatch):
    a, b = (model.encode(frame) for frame in frames(48, 64))
    calls = []
    one_way = SharpAutoencoder4D.one_way
    monkeypatch.setattr(SharpAutoencoder4D, "one_way", lambda *args: calls.append(1) or one_way(*args))
    with torch.no_grad():
        shared = [model(a, b, t).image for t in (0.25, 0.5, 0.75)]
        assert len(calls) == 2  # both orders, once
        model(a, b, 0.5, focal=1.2)
        assert len(calls) == 4
        fresh = model(model.encode(a.frame), model.encode(b.frame), 0.25).image
    assert torch.equal(shared[0], fresh)


def test_a_moved_camera_moves_a_point_at_the_median_depth_as_in_the_cube():
    """At t = 0 a wall at the median depth: the offset's truth is a homography that anybody can compute."""
    config = dataclasses.replace(SMALL, planes=1)
    torch.manual_seed(0)
    model = SharpAutoencoder4D(config).eval()
    a, _ = frames(64, 64)
    focal, shift = 1.2, 0.05  # widths; of the depth
    offset = torch.eye(3, 4)[None].clone()
    offset[0, 0, 3] = shift
    cube = theta_to_euler(offset_in_cube(offset, focal * 64, 1.0, 64))
    with torch.no_grad():
        made = model(a, a, 0.0, cube, focal=focal)
    assert torch.allclose(made.motion[0][0, 0], torch.full((64, 64), shift * focal * 64), atol=1e-3)
    assert made.motion[0][0, 1].abs().max() < 1e-3
    inner = slice(8, -8)
    # the moved camera shows at x what the first one shows at x + 3.84 px
    assert (made.image[0, :, inner, 8:48] - shifted(a, shift * focal * 64)[0, :, inner, 8:48]).abs().max() < 0.02


def shifted(picture: Tensor, pixels: float) -> Tensor:
    """A picture at x + pixels."""
    x = (torch.arange(picture.shape[-1]) + 0.5 + pixels) * (2 / picture.shape[-1]) - 1
    y = (torch.arange(picture.shape[-2]) + 0.5) * (2 / picture.shape[-2]) - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
    return F.grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=False)


def test_no_offset_is_an_offset_of_nothing(model):
    a, b = frames(48, 64)
    with torch.no_grad():
        plain, moved = model(a, b, 0.4), model(a, b, 0.4, torch.zeros(6))
    assert torch.allclose(plain.image, moved.image, atol=1e-4) and torch.allclose(plain.depth, moved.depth, atol=1e-4)


def test_without_flow_the_camera_alone_moves(model):
    a, b = frames(48, 64)
    with torch.no_grad():
        made = model(a, b, 0.5, use_flow=False)
    xi = model.twist(model.encode(a), model.encode(b), torch.ones(1))
    assert xi.abs().max() > 1e-5
    assert made.motion[0].abs().max() < model(a, b, 0.5).motion[0].abs().max()


def test_levels_grow_with_the_size():
    assert [level_count(side, side) for side in (16, 64, 128, 256, 720, 1080)] == [2, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("size", "levels", "grid"),
    [
        ((16, 16), None, (4, 4)), ((128, 128), None, (32, 32)), ((256, 300), None, (32, 40)), ((130, 520), None, (36, 132)),
        ((264, 264), 2, (33, 33)), ((536, 264), 2, (67, 33)), ((520, 520), 2, (65, 65)),  # no cell is cut off where levels are few
    ],
)  # fmt: skip
def test_geometry_sees_a_scene_on_as_many_cells_as_in_training_whatever_the_size(model, monkeypatch, size, levels, grid):
    seen = []
    forward = type(model.geometry).forward
    monkeypatch.setattr(type(model.geometry), "forward", lambda *args: seen.append(args[1].flow.shape[-2:]) or forward(*args))
    a, b = (model.encode(frame, levels) for frame in frames(*size))
    with torch.no_grad():
        pair = model.one_way(a, b, torch.ones(1))
    assert set(seen) == {grid}
    assert pair.rounds[-1].on(pair.motion).prior.shape == pair.motion[:, 0].shape


@pytest.mark.parametrize("offset", [None, torch.tensor([0.01, 0.0, 0.0, 0.04, 0.0, 0.03])])
def test_tiles_show_no_seam(model, offset):
    a, b = frames(200, 472)
    with torch.no_grad():
        whole, tiled = (model(a, b, 0.3, offset, tile=tile) for tile in (None, 64))
        assert (whole.image - tiled.image).abs().max() < 1e-4
        assert (whole.motion[0] - tiled.motion[0]).abs().max() < 1e-3 and (whole.depth - tiled.depth).abs().max() < 1e-4
        assert torch.allclose(whole.voxel_flow, tiled.voxel_flow, atol=1e-5) and torch.allclose(whole.pose, tiled.pose)


def test_a_quarter_of_the_margin_would_show_a_seam(model, monkeypatch):
    a, b = frames(200, 472)
    monkeypatch.setattr("vae4d.sharp.model.MARGIN", tiles.MARGIN // 4 // 8 * 8)
    with torch.no_grad():
        whole, tiled = (model(a, b, 0.3, tile=tile) for tile in (None, 64))
    assert (whole.motion[0] - tiled.motion[0]).abs().max() > 3e-4


# Bad input.


def sentence(caught) -> str:
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".") and ": " in text
    return text


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m, a, b: m(a, b, 1.5), "t is"),
        (lambda m, a, b: m(a, b, -0.1), "t is"),
        (lambda m, a, b: m(a, b, float("nan")), "t is"),
        (lambda m, a, b: m(a, b, torch.tensor([0.1, 0.2])), "2 moments for 1"),
        (lambda m, a, b: m(a, b[..., :-4]), "differ in shape"),
        (lambda m, a, b: m((a * 255).byte(), b), "floats"),
        (lambda m, a, b: m(a[:, :1], b), "Frames are"),
        (lambda m, a, b: m(a[..., :8], b[..., :8]), "at least 16 px"),
        (lambda m, a, b: m(a, b, focal=0), "focal is"),
        (lambda m, a, b: m(a, b, 0.5, torch.zeros(3)), "offset has shape"),
        (lambda m, a, b: m(a, b, 0.5, torch.full((6,), float("inf"))), "not finite"),
        (lambda m, a, b: m(a, b, tile=100), "multiple of 8"),
        (lambda m, a, b: m(a, b, tile=0), "multiple of 8"),
        (lambda m, a, b: m(a * float("nan"), b), "not finite"),
    ],
)
def test_bad_input_is_named_with_its_remedy(model, call, said):
    a, b = frames(48, 64)
    with torch.no_grad(), pytest.raises(ConfigError) as caught:
        call(model, a, b)
    assert said in sentence(caught)


def test_a_frame_too_large_for_the_memory_is_refused_with_the_tile_option(model, monkeypatch):
    psutil = pytest.importorskip("psutil")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 17_000_000})())
    a, b = frames(200, 472)
    with torch.no_grad():
        with pytest.raises(ConfigError, match="tile=512") as caught:
            model(a, b)
        assert "472 x 200 px" in sentence(caught)
        model(a, b, tile=64)


def test_float16_overflow_is_told(model):
    a, b = frames(48, 64)
    loud = perturbed()
    with torch.no_grad():
        for parameter in loud.encoder.parameters():
            parameter *= 1e4
        with torch.autocast("cpu", torch.float16), pytest.raises(ConfigError, match="float16"):
            loud(a, b)


def test_a_checkpoint_comes_back_whole_and_damage_is_told(tmp_path, model):
    trained = build_model("sharp")
    path = save_checkpoint(tmp_path / "sharp.safetensors", trained, "sharp", {"data": []})
    again = load_model(path, "sharp")
    assert isinstance(again, SharpAutoencoder4D)
    assert all(torch.equal(x, y) for x, y in zip(again.parameters(), trained.parameters(), strict=True))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(cut)
    meta, tensors = read_checkpoint(path)
    del tensors["volume.lift.weight"]
    save_file(tensors, tmp_path / "less.safetensors", metadata={"vae4d": json.dumps(meta)})
    with pytest.raises(CheckpointError, match=r"volume\.lift\.weight is missing"):
        load_model(tmp_path / "less.safetensors")
    with pytest.raises(ConfigError, match="faithful model"):
        load_model(path, scale_rotate=0.1)
    with pytest.raises(CheckpointError, match="'small'"):
        load_model(path, "small")
    with pytest.raises(ConfigError, match="the original system does not know"):
        convert(path, tmp_path / "sharp.ckpt")
