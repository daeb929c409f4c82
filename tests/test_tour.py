"""Notebook 07: the two pairs of frames, the parts of their motion, and exercises that know right from wrong."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from test_showcase import make_clip, sample_clip

from vae4d import build_model
from vae4d.errors import ConfigError
from vae4d.sharp.volume import plane_depths
from vae4d.workbook import exercises, tour, trials
from vae4d.workbook.tour import Parts, TourSettings


@pytest.fixture(scope="module")
def worlds():
    return tour.worlds(TourSettings(input_size=32, motion=(8.0, 16.0)))


@pytest.fixture(scope="module")
def untrained():
    """A sharp model that blends: it sees no motion, and one depth."""
    return build_model("sharp", seed=1).eval()


def constant(x: float, y: float, size: int = 16) -> torch.Tensor:
    return torch.tensor([x, y]).view(2, 1, 1).expand(2, size, size).clone()


def proves(exercise) -> bool:
    return exercise.proof() == {"solution": "right", "wrong answer": "wrong", "no answer": "open"}


# --- exercises -----------------------------------------------------------------------------------------------------


def test_an_exercise_says_what_is_expected_and_never_raises(capsys):
    exercise = exercises.direction(constant(3, 0), (0, 0, 4, 4))
    assert exercise.check(None) == exercise.check(...) == "open"
    out = capsys.readouterr().out
    assert "one of 'left'" in out and "solution" not in out and "3.00" not in out  # answer first
    assert exercise.check(None, reveal=True) == "open"
    out = capsys.readouterr().out
    assert "The solution: 'right'." in out and "3.00 px to the right" in out
    assert exercise.check("right") == "right"
    assert "3.00 px to the right" in capsys.readouterr().out
    assert exercise.check("up") == "wrong"
    assert "Not right: 'up'. It is 'right'." in capsys.readouterr().out
    assert [exercise.check(answer) for answer in ("north", 7, [], {})] == ["unreadable"] * 4
    assert "3.00" not in capsys.readouterr().out


def test_a_direction_between_two_is_either():
    exercise = exercises.direction(constant(-2, -2), (4, 4, 8, 8))
    assert [exercise.verdict(name) for name in ("left", "up", "right", "down")] == ["right", "right", "wrong", "wrong"]
    assert exercise.why == "The mean motion in box X is 2.00 px to the left and 2.00 px up."
    still = exercises.direction(constant(0.05, 0), (0, 0, 4, 4))
    assert still.verdict("nowhere") == "right" and still.verdict("right") == "wrong"
    assert proves(exercise) and proves(still)


def test_the_liveliest_box_is_where_it_moves():
    motion = constant(0, 0)
    motion[0, 8:12, 4:8] = 5
    assert exercises.liveliest(motion) == (8, 4, 4, 4)


def test_which_box_is_nearer():
    depth = torch.full((16, 16), 2.0)
    depth[:4, :4], depth[12:, 12:] = 1, 8
    boxes = exercises.near_and_far(depth)
    assert boxes == {"A": (0, 0, 4, 4), "B": (12, 12, 4, 4)}
    mirrored = exercises.near_and_far(depth.flip(1))
    exercise = exercises.nearer(depth, boxes, depth.flip(1), 3 * depth, mirrored)
    assert exercise.solution == ["A", "B"] and "contradicts" in exercise.why
    assert exercise.verdict(["A", "A"]) == "wrong" and exercise.verdict("A") == exercise.verdict(["C", "A"]) == "unreadable"
    flat = exercises.nearer(torch.ones(16, 16), boxes, depth, depth, boxes)
    assert flat.solution == ["neither", "A"] and "agrees" in flat.why
    assert proves(exercise) and proves(flat)


def test_the_cameras_share():
    whole = constant(3, 4)
    alone, none, half = Parts(whole, whole), Parts(whole, 0 * whole), Parts(whole, whole / 2)
    assert [parts.share for parts in (alone, none, half)] == [1, 0, 0.5] and math.isnan(Parts(0 * whole, 0 * whole).share)
    assert torch.equal(half.all()[1] + half.all()[2], half.all()[0])
    exercise = exercises.camera_shares({"one": alone, "two": none}, {"one": half, "two": none})
    assert exercise.verdict([0.85, 0.1]) == "right" and exercise.verdict([0.1, 0.9]) == "wrong"
    assert exercise.verdict([1.0]) == exercise.verdict([2, 0]) == exercise.verdict(0.5) == "unreadable"
    assert "one: truth 100%, the model says 50%" in exercise.why and proves(exercise)


def test_the_worst_box():
    error, hint = torch.zeros(16, 16), torch.zeros(16, 16)
    for i, (row, column) in enumerate([(1, 2), (3, 3), (0, 0), (2, 2)]):
        error[4 * row, 4 * column] = 4 - i
    hint[4:8, 8:12] = 1
    exercise = exercises.largest_error(error, hint)
    assert exercise.solution == [1, 2] and proves(exercise)
    assert [exercise.verdict(list(at)) for at in ((3, 3), (0, 0), (2, 2))] == ["right", "right", "wrong"]
    assert exercise.verdict([4, 0]) == exercise.verdict(3) == "unreadable"
    assert "is largest in (1, 2), which is one of them" in exercise.why and "holds 40% of the whole error" in exercise.why


def test_the_gap_at_which_it_fails():
    def better_up_to(last: int):
        return exercises.failing_gap(lambda gap: trials.Trial(gap, 30.0, 20.0, 0.0 if gap <= last else 3.0))

    exercise = better_up_to(5)
    assert exercise.solution == 8 and proves(exercise)
    assert [exercise.verdict(gap) for gap in (5, 6, 32, 0)] == ["wrong", "right", "right", "wrong"]
    assert "gap 6: 30.0 dB, linear blend 20.0 dB, flow off by 3.00 px <- fails" in exercise.why()
    assert [exercise.verdict(answer) for answer in (33, -1, 2.5, "8", True, math.inf, math.nan)] == ["unreadable"] * 7
    never = better_up_to(99)
    assert never.solution == 0 and proves(never)


# --- what is looked at ---------------------------------------------------------------------------------------------


def test_frames_lie_within_one_shot():
    clip = make_clip(20, cuts=(6,))
    assert tour.frames_of(clip, -1, 4) == (11, 13, 15)
    assert tour.frames_of(clip, 2, 4) == (2, 3, 4)  # the shot ends with frame 5
    assert tour.frames_of(clip, -1, 99) == (7, 13, 19)
    sample = sample_clip()
    assert tour.frames_of(sample, -1, 4) == (222, 224, 226) and tour.frames_of(sample, -1, 99) == (222, 231, 240)
    with pytest.raises(ConfigError, match="start is 5"):
        tour.frames_of(clip, 5, 4)
    with pytest.raises(ConfigError, match="start is 50"):
        tour.frames_of(clip, 50, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel": (0.5,)}, "two numbers"), ({"pixel": (0.5, 1.0)}, "to below 1"), ({"gap": 1}, "gap is 1"), ({"start": -2}, "start is -2"),
        ({"motion": (0.0, 0.0)}, r"motion is \[0\.0, 0\.0\]: give the least and the most in px, above 0, such as"),
        ({"motion": (8.0, 4.0)}, "motion is"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ConfigError, match=message):
        TourSettings(**changes)


def test_true_parts_of_a_world_are_its_cameras_and_its_objects(worlds):
    both, camera, objects = (tour.true_parts(worlds[kind]) for kind in ("both", "camera", "objects"))
    assert camera.share == pytest.approx(1, abs=1e-4) and objects.share == 0
    moving = objects.whole.norm(dim=0) > 0
    assert 0.05 < moving.float().mean() < 0.9 and 0 < both.share < 1
    torch.testing.assert_close(both.camera, camera.whole)  # the same world, the same camera
    assert float(both.own[:, ~(both.own.norm(dim=0) > 1e-3)].abs().sum()) < 1 and (both.own.norm(dim=0) > 1e-3).float().mean() < 0.9


def test_a_model_that_sees_no_motion_has_no_share(untrained):
    frames = torch.rand(2, 3, 40, 32)  # padded within
    parts = tour.model_parts(untrained, *frames)
    assert parts.whole.shape == parts.camera.shape == (2, 40, 32)
    assert not parts.whole.any() and float(parts.camera.abs().max()) < 1e-3 and math.isnan(parts.share)


def test_occupancy_puts_a_pixel_on_its_nearest_plane():
    planes = plane_depths(8)
    depth = torch.full((8, 8), float(1 / planes[2]))
    depth[:, 6:] = float(1 / planes[5]) * 1.05
    volume = tour.occupancy(depth, 8)
    assert volume.shape == (8, 2, 2)
    assert volume[2, 0].tolist() == [1, 0.5] and volume[5, 0].tolist() == [0, 0.5] and float(volume.sum()) == 4


def test_doubt_is_a_spread_of_log_depth():
    density = torch.zeros(8, 1, 2)
    density[3, 0, 0] = 1
    density[[3, 4], 0, 1] = 0.5
    step = float(plane_depths(8).log().diff()[0])
    torch.testing.assert_close(tour.doubt(density), torch.tensor([[0.0, step / 2]]))


def test_an_untrained_model_is_scored_as_the_blend_that_it_is(worlds, untrained):
    case = worlds["both"]
    one = trials.world_trial(untrained, case, 8)
    assert one.psnr == pytest.approx(one.blend, abs=0.1)
    assert one.epe == pytest.approx(case.motion, rel=1e-3)
    off = trials.errors(case, tour.said(untrained, case.frames[0], case.frames[-1]))
    assert off["epe"] == one.epe and off.keys() == {"epe", "outliers", "depth", "depth_rank", "doubt_rank"}
    hints = tour.hints(tour.said(untrained, case.frames[0], case.frames[-1], 0.5))
    assert all(part.shape == (32, 32) and part.min() >= 0 and part.max() <= 1 for part in hints.values())


def test_gaps_of_a_clip_stay_in_its_shot(untrained):
    clip = make_clip(20, cuts=(6,))
    made = trials.clip_pictures(untrained, clip, 10, (2, 4, 8, 16))
    assert list(made) == [2, 4, 8]
    scores = [trials.trial(gap, pictures, clip.tensor(10)) for gap, pictures in made.items()]
    assert [one.gap for one in scores] == [2, 4, 8] and all(math.isnan(one.epe) for one in scores)
    assert len(trials.strip(made, clip.tensor(10)).axes) == 5 * 3 + 1
    assert [ax.get_title() for ax in trials.curves(scores).axes] == ["model (dB), linear blend (dB)"]


def test_without_k3d_the_tour_goes_on(untrained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "k3d", None)
    made = tour.said(untrained, *torch.rand(2, 3, 32, 32))
    assert tour.show_space(SimpleNamespace(folder=tmp_path, name="07_x"), made, "voxels", True) is None
    assert "pip install k3d" in capsys.readouterr().out and not list(tmp_path.iterdir())
