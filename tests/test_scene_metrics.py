"""Measures of flow, depth, pose and masked pictures, against answers known on paper."""

from __future__ import annotations

import math

import pytest
import torch

from vae4d.errors import ConfigError
from vae4d.evaluation.scene_metrics import depth_errors, direction_error, flow_errors, masked_psnr, rotation_error
from vae4d.geometry import euler_to_theta


def pose(*numbers: float) -> torch.Tensor:
    return euler_to_theta(torch.tensor([numbers], dtype=torch.float64))[0]


def test_flow_errors_of_a_3_4_5_triangle():
    truth, visible = torch.zeros(2, 4, 4), torch.zeros(4, 4, dtype=torch.bool)
    visible[0] = True
    flow = truth.clone()
    flow[:, 0, 0] = torch.tensor([3.0, 4.0])  # off by 5
    flow[0, 0, 1] = 0.5  # off by half a pixel: no outlier
    flow[:, 2] = 100.0  # not visible
    assert flow_errors(flow, truth, visible) == (5.5 / 4, 0.25)


def test_flow_errors_without_a_visible_pixel_are_undefined():
    assert all(map(math.isnan, flow_errors(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4), torch.zeros(4, 4, dtype=torch.bool))))


def test_depth_is_scored_up_to_one_factor():
    truth = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) + 1
    relative, correlation = depth_errors(truth * 7, truth)
    assert relative == pytest.approx(0, abs=1e-6)
    assert correlation == pytest.approx(1)


def test_depth_errors_on_paper():
    # ratios truth / depth are 2, 2, 1: the median aligns by 2, and the last is off by 6 / 6.
    relative, correlation = depth_errors(torch.tensor([[1.0, 2.0, 6.0]]), torch.tensor([[2.0, 4.0, 6.0]]))
    assert (relative, correlation) == (pytest.approx(1 / 3), pytest.approx(1))
    # ranks 1, 2, 3 against 1, 3, 2: 1 - 6 * 2 / (3 * 8)
    assert depth_errors(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 2.0]]))[1] == pytest.approx(0.5)


def test_inverted_depth_has_correlation_minus_one():
    truth = torch.linspace(1, 5, 16).view(4, 4)
    assert depth_errors(1 / truth, truth)[1] == pytest.approx(-1)


def test_depth_that_is_constant_or_not_positive_is_undefined():
    truth = torch.linspace(1, 5, 16).view(4, 4)
    relative, correlation = depth_errors(torch.ones(4, 4), truth)
    assert relative > 0
    assert math.isnan(correlation)
    assert all(map(math.isnan, depth_errors(truth - 1, truth)))


@pytest.mark.parametrize("degrees", [1e-5, 1.0, 90.0, 180.0])
def test_rotation_error_is_the_angle(degrees):
    angle = math.radians(degrees)
    assert rotation_error(pose(0, 0, angle, 1, 2, 3), pose(0, 0, 0, 0, 0, 0)) == pytest.approx(degrees, rel=1e-6)
    turned = pose(0.3, -0.2, 0.5, 0, 0, 0)
    assert rotation_error(turned[:, :3] @ pose(angle, 0, 0, 0, 0, 0), turned) == pytest.approx(degrees, rel=1e-6)


def test_direction_error_ignores_length_and_rotation():
    truth = pose(0, 0, 0, 1, 0, 0)
    assert direction_error(pose(0.3, 0, 0, 5, 0, 0), truth) == pytest.approx(0)
    assert direction_error(pose(0, 0, 0, 0, 0, 0.1), truth) == pytest.approx(90)
    assert direction_error(pose(0, 0, 0, -0.1, 0, 0), truth) == pytest.approx(180)


def test_direction_without_translation_is_undefined():
    still, moved = pose(0, 0, 0, 0, 0, 0), pose(0, 0, 0, 1, 0, 0)
    assert math.isnan(direction_error(still, moved))
    assert math.isnan(direction_error(moved, still))


def test_masked_psnr_sees_the_mask_alone():
    truth = torch.zeros(3, 4, 4)
    image, mask = truth.clone(), torch.zeros(4, 4, dtype=torch.bool)
    image[:, 0] = 1.0  # outside of the mask
    image[:, 1] = 51 / 255  # off by 51 grey levels: 10 log10(25)
    mask[1:3] = True  # half of whose pixels are right
    assert masked_psnr(image, truth, mask) == pytest.approx(10 * math.log10(50))
    mask[1] = False
    assert masked_psnr(image, truth, mask) == math.inf
    assert math.isnan(masked_psnr(image, truth, torch.zeros_like(mask)))


@pytest.mark.parametrize(
    "measure",
    [
        lambda: flow_errors(torch.zeros(2, 4, 4), torch.zeros(2, 8, 8), torch.ones(8, 8, dtype=torch.bool)),
        lambda: depth_errors(torch.ones(4, 4), torch.ones(1, 4, 4)),
        lambda: rotation_error(torch.eye(4), torch.eye(3, 4)),
        lambda: direction_error(torch.eye(4), torch.eye(3, 4)),
        lambda: masked_psnr(torch.zeros(3, 4, 4), torch.zeros(3, 8, 8), torch.ones(8, 8, dtype=torch.bool)),
    ],
)
def test_shapes_that_differ_are_refused(measure):
    with pytest.raises(ConfigError, match="estimate it at the picture's size"):
        measure()
