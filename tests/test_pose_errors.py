"""Errors of camera paths: what alignment removes, what it leaves, and evo against the formula."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from vae4d.errors import ClipError, MissingInputError
from vae4d.evaluation.pose_errors import ape, rotation_error, similarity
from vae4d.geometry import compose, euler_to_theta, invert

NAMES = ("rmse", "mean", "max")


@pytest.fixture
def evo():
    """A bare GPU server lacks it."""
    pytest.importorskip("evo")


needs_evo = pytest.mark.usefixtures("evo")


def path(count: int = 12, seed: int = 0) -> torch.Tensor:
    return euler_to_theta(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def moved(poses: torch.Tensor, scale: float = 1.0, *pose: float) -> torch.Tensor:
    """The whole path scaled, then turned and shifted by a pose."""
    scaled = torch.cat([poses[:, :, :3], scale * poses[:, :, 3:]], dim=2)
    return compose(euler_to_theta(torch.tensor([pose], dtype=torch.float64)), scaled)


def at(positions) -> torch.Tensor:
    """Upright cameras at `positions` (T, 3)."""
    positions = torch.as_tensor(np.asarray(positions), dtype=torch.float64)
    return torch.cat([torch.eye(3, dtype=torch.float64).expand(len(positions), 3, 3), positions[:, :, None]], dim=2)


@needs_evo
def test_scale_rotation_and_shift_are_no_error():
    estimated = moved(path(), 0.01, 0.4, -2.0, 1.1, 5.0, -3.0, 8.0)
    assert max(ape(estimated, path()).values()) < 1e-12
    assert max(rotation_error(estimated.numpy(), path().numpy()).values()) < 1e-6


@needs_evo
def test_a_known_shift_of_one_corner():
    # Corners of a square, one of each opposite pair lifted: the best plane stays, and every point is off by 0.1.
    square = np.array([[1.0, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])
    lifted = square + 0.1 * np.array([[0, 0, 1], [0, 0, -1], [0, 0, 1], [0, 0, -1]])
    # The squares' scale: sum of x.y over sum of x.x = 8 / (8 + 4 * 0.01), by which the heights shrink too.
    scale = 8 / 8.04
    expected = math.hypot(math.sqrt(2) * (1 - scale), scale * 0.1)
    assert ape(at(lifted), at(square)) == pytest.approx(dict.fromkeys(NAMES, expected), abs=1e-12)
    assert ape(at(square), at(lifted)) == pytest.approx(dict.fromkeys(NAMES, 0.1), abs=1e-12)


@needs_evo
def test_rmse_mean_and_max_are_of_the_frames():
    # On a line: points 0, 1, 2 against 0, 1, 5; by least squares the scale is 5 / 2 and the residuals 0.5, -1, 0.5.
    found = ape(at([[0, 0, 0], [1, 0, 0], [2, 0, 0]]), at([[0, 0, 0], [1, 0, 0], [5, 0, 0]]))
    assert found == pytest.approx({"rmse": math.sqrt(0.5), "mean": 2 / 3, "max": 1.0}, abs=1e-12)


@needs_evo
@pytest.mark.parametrize("seed", range(5))
def test_evo_is_umeyamas_formula(seed):
    estimated, true = path(20, seed), path(20, seed + 100)
    matrix = similarity(estimated[:, :, 3].numpy(), true[:, :, 3].numpy())
    left = np.linalg.norm(estimated[:, :, 3].numpy() @ matrix[:3, :3].T + matrix[:3, 3] - true[:, :, 3].numpy(), axis=1)
    expected = {"rmse": math.sqrt((left**2).mean()), "mean": left.mean(), "max": left.max()}
    assert ape(estimated, true) == pytest.approx(expected, rel=1e-9)
    rotation = matrix[:3, :3] / np.cbrt(np.linalg.det(matrix[:3, :3]))
    assert np.allclose(rotation @ rotation.T, np.eye(3))  # and not mirrored: its determinant is positive
    turns = euler_to_theta(1e-3 * torch.randn(50, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).numpy()
    for turn, scale in zip(turns, np.linspace(0.99, 1.01, 50), strict=True):  # no other one nearby is better
        other = scale * estimated[:, :, 3].numpy() @ (turn[:, :3] @ matrix[:3, :3]).T + matrix[:3, 3] + turn[:, 3]
        assert np.linalg.norm(other - true[:, :, 3].numpy()) > np.linalg.norm(left)


@needs_evo
@pytest.mark.parametrize("step", [[1.0, 2, 3], [1.0, 0, 0], [1e-3, 1e-3, 0]])
def test_straight_paths_are_scored_whatever_evo_says_of_their_rank(step):
    line = np.outer(np.arange(10.0), step)
    bent = line + 0.01 * np.linspace(0, 1, 10)[:, None] ** 2
    for estimated, true in ((line * 0.1, line), (line, line[:, ::-1] * 7 + 1), (line * 3, np.outer(np.arange(10.0), [0, 0, 1]))):
        assert max(ape(at(estimated), at(true)).values()) < 1e-12 * np.abs(true).max() + 1e-14
    assert 1e-5 < ape(at(bent), at(line))["rmse"] < 1e-2


@needs_evo
def test_a_path_that_stands_still_has_no_scale():
    for still in (at(np.zeros((12, 3))), at(np.full((12, 3), 0.1))):
        for pair in ((still, path()), (path(), still), (still, still)):
            assert all(math.isnan(value) for value in ape(*pair).values())
        assert rotation_error(still, path())["mean"] > 1  # of which rotations need nothing


def test_a_known_rotation_error():
    true = path(5)
    turned = true.clone()
    turned[3] = compose(true[3], euler_to_theta(torch.tensor([[0, math.radians(30), 0, 0, 0, 0]], dtype=torch.float64))[0])
    expected = {"rmse": 15.0, "mean": 7.5, "max": 30.0}  # one of the frames 1 to 4
    assert rotation_error(turned, true) == pytest.approx(expected, abs=1e-9)


def test_drift_adds_up_over_frames():
    still = at(np.zeros((5, 3)))
    drifting = euler_to_theta(torch.tensor([[0, 0, math.radians(2.0 * i), 0, 0, 0] for i in range(5)], dtype=torch.float64))
    assert rotation_error(drifting, still) == pytest.approx({"rmse": math.sqrt(30), "mean": 5.0, "max": 8.0})


def test_rotations_agree_with_evo():
    metrics, trajectory = pytest.importorskip("evo.core.metrics"), pytest.importorskip("evo.core.trajectory")
    estimated, true = path(9, 3), path(9, 4)
    last = torch.tensor([[[0.0, 0, 0, 1]]], dtype=torch.float64).expand(9, 1, 4)
    evo = [trajectory.PosePath3D(poses_se3=list(torch.cat([poses, last], dim=1).numpy())) for poses in (true, estimated)]
    evo[1].align_origin(evo[0])
    measure = metrics.APE(metrics.PoseRelation.rotation_angle_deg)
    measure.process_data(tuple(evo))
    assert rotation_error(estimated, true)["mean"] == pytest.approx(measure.error[1:].mean(), rel=1e-6)


@needs_evo
def test_world_to_camera_taken_for_poses_is_an_error():
    assert ape(invert(path()), path())["rmse"] > 0.1 and rotation_error(invert(path()), path())["mean"] > 1


@pytest.mark.parametrize("score", [ape, rotation_error])
def test_paths_that_do_not_fit_are_refused(score):
    with pytest.raises(ClipError, match="has 11 poses, the true one 12: give the same frames"):
        score(path(11), path(12))
    with pytest.raises(ClipError, match="2 poses cannot be aligned and scored: give at least 3"):
        score(path(2), path(2))
    with pytest.raises(ClipError, match=r"The estimated path has the shape \(12, 4, 4\), not \(T, 3, 4\)"):
        score(np.tile(np.eye(4), (12, 1, 1)), path(12))
    with pytest.raises(ClipError, match="The true path: pose 0 has rows that are not orthonormal"):
        score(path(), 1.1 * path())
    with pytest.raises(ClipError, match="The estimated path: pose 4 has a matrix with values that are not finite"):
        score(torch.cat([path(4), path(8) * math.nan]), path())


def test_without_evo_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "evo.core", None)
    with pytest.raises(MissingInputError, match="needs the package evo, which is not installed: pip install evo"):
        ape(path(), path())
    assert rotation_error(path(), path())["max"] == 0  # needs no evo
