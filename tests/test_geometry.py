"""Poses and warps, against answers known on paper."""

from __future__ import annotations

import math

import pytest
import torch

from vae4d.errors import ConfigError
from vae4d.geometry import accumulate, compose, euler_to_theta, flow_warp, invert, relative_pose, theta_to_euler, warp

QUARTER = math.pi / 2


@pytest.fixture
def code():
    return torch.randn(1, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def pose(*numbers: float) -> torch.Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


def test_zero_pose_is_the_identity(code):
    theta = euler_to_theta(pose(0, 0, 0, 0, 0, 0))
    assert torch.equal(theta[0], torch.eye(3, 4, dtype=torch.float64))
    torch.testing.assert_close(warp(code, theta), code, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("numbers", "source"),
    [  # where the target's x axis (or y axis for a turn about x) comes from, right-handed
        ((QUARTER, 0, 0, 0, 0, 0), ([1, 0, 0], [0, 0, -1])),  # about y: x -> -z
        ((0, QUARTER, 0, 0, 0, 0), ([0, 1, 0], [0, 0, 1])),  # about x: y -> z
        ((0, 0, QUARTER, 0, 0, 0), ([1, 0, 0], [0, 1, 0])),  # about z: x -> y
    ],
)
def test_elementary_rotations_are_right_handed(numbers, source):
    point, image = (torch.tensor(x, dtype=torch.float64) for x in source)
    torch.testing.assert_close(euler_to_theta(pose(*numbers))[0, :, :3] @ point, image, rtol=0, atol=1e-12)


def test_order_of_rotations_is_x_y_z():
    y, x, z = 0.3, -0.2, 0.5
    parts = [euler_to_theta(pose(*p, 0, 0, 0))[0, :, :3] for p in ((0, x, 0), (y, 0, 0), (0, 0, z))]
    torch.testing.assert_close(euler_to_theta(pose(y, x, z, 0, 0, 0))[0, :, :3], parts[0] @ parts[1] @ parts[2])


def test_quarter_turn_about_z_is_rot90(code):
    # out(x, y) = code(-y, x): row i, column j comes from row j, column n - 1 - i.
    expected = torch.rot90(code, 1, dims=(3, 4))
    torch.testing.assert_close(warp(code, euler_to_theta(pose(0, 0, QUARTER, 0, 0, 0))), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("axis", "component"), [(4, 3), (3, 4), (2, 5)])  # x moves columns, y rows, z slices
def test_translation_by_one_voxel_shifts_and_pads_with_zeros(code, axis, component):
    numbers = [0.0] * 6
    numbers[component] = 2 / 4  # the cube is 2 wide and 4 voxels long
    expected = torch.roll(code, -1, dims=axis)
    expected.select(axis, -1).zero_()
    torch.testing.assert_close(warp(code, euler_to_theta(pose(*numbers))), expected, rtol=0, atol=1e-9)


def test_flow_of_one_voxel_equals_the_translation(code):
    offset = torch.zeros(1, 4, 4, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(flow_warp(code, offset), code, rtol=0, atol=1e-12)
    offset[..., 1] = 0.5
    torch.testing.assert_close(flow_warp(code, offset), warp(code, euler_to_theta(pose(0, 0, 0, 0, 0.5, 0))), rtol=0, atol=1e-9)


def test_theta_to_euler_inverts_euler_to_theta():
    limits = torch.tensor([QUARTER, math.pi, math.pi, 2, 2, 2])  # the y rotation comes first
    numbers = (torch.rand(200, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1) * limits
    torch.testing.assert_close(theta_to_euler(euler_to_theta(numbers)), numbers, rtol=0, atol=1e-9)


@pytest.mark.parametrize("y", [QUARTER, -QUARTER])
def test_theta_to_euler_finds_a_rotation_also_in_gimbal_lock(y):
    theta = euler_to_theta(pose(y, 0.7, -0.4, 1, 2, 3))
    numbers = theta_to_euler(theta)
    assert numbers[0, 2] == 0
    torch.testing.assert_close(euler_to_theta(numbers), theta, rtol=0, atol=1e-9)


def test_compose_and_invert():
    a, b = (euler_to_theta(pose(*p)) for p in ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), (-0.3, 0.1, 0.2, 0.1, -0.2, 0.3)))
    x = torch.tensor([0.1, -0.7, 0.4, 1.0], dtype=torch.float64)
    once = torch.cat([(b @ x)[0], x[3:]])
    torch.testing.assert_close(compose(a, b) @ x, a @ once)
    torch.testing.assert_close(compose(a, invert(a))[0], torch.eye(3, 4, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(compose(a, relative_pose(a, b)), b)


def test_accumulate_keeps_the_published_order():
    turn, step = euler_to_theta(pose(0, 0, QUARTER, 0, 0, 0))[0], euler_to_theta(pose(0, 0, 0, 1, 0, 0))[0]
    path = accumulate(turn, torch.stack([step, step]))
    # t <- t + R d with the first turn: x goes to y.
    torch.testing.assert_close(path[2, :, 3], torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-12)
    assert path.shape == (3, 3, 4)


def test_gradients(code):
    small = code[:, :1].clone().requires_grad_()
    numbers = pose(0.1, -0.05, 0.2, 0.03, 0.04, -0.02).requires_grad_()
    assert torch.autograd.gradcheck(lambda c, p: warp(c, euler_to_theta(p)), (small, numbers))


def test_mixed_precision_keeps_geometry_in_float32():
    numbers = pose(0.1, -0.05, 0.2, 0.03, 0.04, -0.02).float()
    volume = torch.randn(1, 2, 8, 8, 8)
    theta = euler_to_theta(numbers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(euler_to_theta(numbers), theta, rtol=0, atol=0)
        torch.testing.assert_close(warp(volume, theta), warp(volume, theta))
        half = warp(volume.bfloat16(), theta)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), warp(volume.bfloat16().float(), theta).bfloat16().float(), rtol=0, atol=0)


def test_a_pose_of_five_numbers_is_refused():
    with pytest.raises(ConfigError, match=r"\(B, 6\)"):
        euler_to_theta(torch.zeros(1, 5))


def test_a_theta_of_another_shape_is_refused():
    with pytest.raises(ConfigError, match=r"\(B, 3, 4\)"):
        theta_to_euler(torch.zeros(3, 4))
