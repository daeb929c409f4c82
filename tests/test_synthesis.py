"""Synthesis over clips: counts, streaming, encoding once, and closed camera paths."""

from __future__ import annotations

import pytest
import torch
from golden_recipe import golden_model

from vae4d import build_model
from vae4d.errors import ClipError, ConfigError
from vae4d.geometry import compose, euler_to_theta
from vae4d.synthesis import (
    between,
    follow_trajectory,
    interpolate,
    middle_frames,
    novel_views,
    options_of,
    orbit,
    reconstruct,
    trajectory,
    view_synthesis,
)


@pytest.fixture(scope="module")
def model():
    model = golden_model("small", scale_rotate=1.0, scale_translate=1.0)
    model.flow_trained = True
    return model


@pytest.fixture(scope="module")
def frames():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_interpolation_counts_and_keeps_the_given_frames(model, frames, factor):
    out = list(interpolate(model, iter(frames), factor))
    assert len(out) == 3 * factor + 1
    for i, frame in enumerate(frames):
        assert torch.equal(out[i * factor], frame)


def test_interpolation_encodes_every_frame_once_and_streams(model, frames, monkeypatch):
    encoded, read = [], []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda frame: encoded.append(1) or encode(frame))
    stream = interpolate(model, (read.append(1) or frame for frame in frames), 3)
    next(stream)
    assert len(read) == 1  # nothing is read ahead
    list(stream)
    assert len(encoded) == len(frames)


def test_interpolation_equals_the_single_call(model, frames):
    out = list(interpolate(model, frames, 4, semantics="published"))
    with torch.no_grad():
        single = model(frames[1:2], frames[2:3], 0.75, semantics="published").image[0]
    torch.testing.assert_close(out[7], single, rtol=1e-4, atol=1e-5)


def test_moments_between_two_frames(model, frames, monkeypatch):
    expected = torch.cat([model(frames[:1], frames[1:2], t).image for t in (0.25, 0.5)])
    encode, calls = model.encode, []
    monkeypatch.setattr(model, "encode", lambda frame: calls.append(1) or encode(frame))
    assert torch.allclose(between(model, frames[0], frames[1], (0.25, 0.5)), expected, atol=1e-5) and len(calls) == 2


def test_counts_of_the_other_modes(model, frames):
    assert len(list(middle_frames(model, frames))) == 2
    assert len(list(reconstruct(model, frames))) == len(list(view_synthesis(model, frames))) == 3
    assert trajectory(model, frames).shape == (4, 3, 4) and trajectory(model, frames[:1]).shape == (1, 3, 4)


def test_reinit_changes_what_the_scene_is(model, frames):
    kept = torch.stack(list(reconstruct(model, frames, reinit_k=12, use_flow=False)))
    fresh = torch.stack(list(reconstruct(model, frames, reinit_k=1, use_flow=False)))
    assert torch.equal(kept[0], fresh[0]) and not torch.allclose(kept[1], fresh[1], atol=1e-4)


def test_orbit_keeps_its_point_fixed_and_starts_at_the_given_camera():
    offsets = orbit(8, angle=0.2, depth=0.5)
    assert torch.equal(offsets[0], torch.zeros(6)) and offsets.shape == (8, 6)
    point = torch.tensor([0.0, 0.0, 0.5, 1.0])
    torch.testing.assert_close(euler_to_theta(offsets) @ point, point[:3].expand(8, 3), rtol=0, atol=1e-6)
    assert offsets[:, 0].abs().max() == pytest.approx(0.2, abs=1e-6)


def test_novel_views_start_with_the_unmoved_camera(model, frames):
    views = list(novel_views(model, frames[0], frames[1], orbit(3, 0.3), t=0.25))
    with torch.no_grad():
        torch.testing.assert_close(views[0], model(frames[:1], frames[1:2], 0.25).image[0], rtol=1e-4, atol=1e-5)
    assert len(views) == 3 and not torch.allclose(views[0], views[1], atol=1e-3)


def test_following_a_path_starts_at_the_frame_itself(model, frames):
    path = trajectory(model, frames)
    views = list(follow_trajectory(model, frames[3], path))
    with torch.no_grad():
        still = model.decode(model.encode(frames[3:]).code).clamp(0, 1)[0]
    assert len(views) == 4
    torch.testing.assert_close(views[0], still, rtol=1e-4, atol=1e-5)


def test_bad_input(model, frames):
    with pytest.raises(ClipError, match="the clip has 1"):
        list(interpolate(model, frames[:1]))
    with pytest.raises(ClipError, match="the clip has 0"):
        list(reconstruct(model, frames[:0]))
    with pytest.raises(ConfigError, match="factor"):
        list(interpolate(model, frames, 0))
    with pytest.raises(ConfigError, match="reinit_k"):
        list(view_synthesis(model, frames, 0))
    with pytest.raises(ConfigError, match=r"\(T, 3, 4\)"):
        list(follow_trajectory(model, frames[0], torch.zeros(4, 12)))
    with pytest.raises(ClipError, match="one frame"):
        trajectory(model, frames[:0])


# --- the sharp model -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sharp():
    """Random weights with heads that are not at zero, so that pictures, motion and camera differ from the blend's."""
    model = build_model("sharp", seed=2)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        for weight in model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    return model


def test_both_families_take_the_same_calls(sharp, model, frames):
    assert options_of(sharp, "published", use_flow=False) == {"use_flow": False}
    assert options_of(model, "published", use_flow=False) == {"semantics": "published", "use_flow": False}
    out = list(interpolate(sharp, iter(frames), 3, **options_of(sharp, "repaired")))
    assert len(out) == 10 and all(torch.equal(out[3 * i], frame) for i, frame in enumerate(frames))
    ends = between(sharp, frames[0], frames[1], (0.0, 1.0))
    torch.testing.assert_close(ends, frames[:2], rtol=0, atol=1e-5)
    assert len(list(middle_frames(sharp, frames))) == 2
    seen = list(novel_views(sharp, frames[0], frames[1], orbit(3, 0.1)))
    assert len(seen) == 3 and not torch.allclose(seen[0], seen[1], atol=1e-3)


def test_sharp_interpolation_encodes_every_frame_once_and_streams(sharp, frames, monkeypatch):
    encoded, pairs, read = [], [], []
    encode, pair = sharp.encode, sharp.pair
    monkeypatch.setattr(sharp, "encode", lambda frame: encoded.append(1) or encode(frame))
    monkeypatch.setattr(sharp, "pair", lambda *given: pairs.append(1) or pair(*given))
    stream = interpolate(sharp, (read.append(1) or frame for frame in frames), 4)
    next(stream)
    assert len(read) == 1
    list(stream)
    assert (len(encoded), len(pairs)) == (4, 3)  # and what a pair says is found once for its three moments


def test_a_sharp_path_chains_the_poses_of_pairs(sharp, frames):
    path = trajectory(sharp, frames)
    with torch.no_grad():
        steps = [euler_to_theta(sharp(frames[i : i + 1], frames[i + 1 : i + 2]).pose)[0] for i in range(3)]
    assert torch.equal(path[0], torch.eye(3, 4)) and steps[0].sub(torch.eye(3, 4)).abs().max() > 1e-4
    torch.testing.assert_close(path[2], compose(steps[0], steps[1]), rtol=0, atol=1e-5)
    torch.testing.assert_close(trajectory(sharp, frames[:1].expand(3, -1, -1, -1)), torch.eye(3, 4).expand(3, 3, 4), rtol=0, atol=1e-5)
    with pytest.raises(ClipError, match="one frame"):
        trajectory(sharp, frames[:0])


def test_following_a_path_with_the_sharp_model_moves_the_one_frame(sharp, frames):
    path = euler_to_theta(torch.tensor([[0.3, 0, 0, 0, 0, 0.2], [0.3, 0, 0, 0, 0, 0.2], [0.3, 0, 0, 0.25, 0, 0.2]]))
    seen = list(follow_trajectory(sharp, frames[0], path))
    assert len(seen) == 3
    torch.testing.assert_close(seen[0], frames[0], rtol=0, atol=1e-4)  # the path is relative to its first entry
    torch.testing.assert_close(seen[1], frames[0], rtol=0, atol=1e-4)
    assert (seen[2] - frames[0]).abs().mean() > 0.05


def test_what_draws_from_codes_is_refused_to_the_sharp_model(sharp, frames):
    with pytest.raises(ConfigError, match=r"Reconstruction draws pictures from a kept code, and model 'sharp' moves pixels: take"):
        list(reconstruct(sharp, frames))
    with pytest.raises(ConfigError, match="View synthesis draws"):
        list(view_synthesis(sharp, frames))
