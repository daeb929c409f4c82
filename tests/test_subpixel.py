"""Motions below a cell, from the pictures' gradients."""

import pytest
import torch

from vae4d.sharp.camera import jacobian, rays, solve_twist
from vae4d.sharp.model import REFINED, ROUNDS
from vae4d.sharp.subpixel import Subpixel, correction, grey
from vae4d.sharp.tiles import part

HALF = torch.full((1, 1, 1, 1), 0.5)


def cloth(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A smooth pattern that is known at every point, (1, 1, H, W) in [0, 1]."""
    waves = torch.sin(0.35 * x + 0.13 * y) + torch.sin(0.41 * y - 0.2 * x + 1) + 0.5 * torch.sin(0.7 * x + 2) * torch.sin(0.63 * y)
    return (0.5 + 0.15 * waves)[None, None]


@pytest.fixture(scope="module")
def grid():
    return torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="xy")


@pytest.fixture(scope="module")
def shifted(grid):
    """Two pictures of a cloth that moves by (0.37, -1.2) px, each in its own frame."""
    x, y = grid
    return cloth(x + 0.185, y - 0.6), cloth(x - 0.185, y + 0.6), torch.tensor([0.37, -1.2]).view(1, 2, 1, 1)


@pytest.mark.parametrize("start", [0.0, 0.7])
def test_a_motion_below_a_pixel_is_found(shifted, start):
    first, second, motion = shifted
    missing, told = correction(first, second, torch.full((1, 2, 12, 16), start), HALF)
    inside = (..., slice(2, -2), slice(2, -2))
    error = (start + missing - motion)[inside].abs()
    assert error.mean() < 0.04 and error.max() < 0.15
    assert told[inside].median() > 0.8


def test_frames_exchanged_turn_the_motion_round_and_equal_ones_have_none(shifted):
    first, second, _ = shifted
    motion = torch.full((1, 2, 12, 16), 0.3)
    there, back = correction(first, second, motion, HALF)[0], correction(second, first, -motion, HALF)[0]
    torch.testing.assert_close(there, -back, atol=1e-5, rtol=0)
    assert not correction(first, first, torch.zeros_like(motion), HALF)[0].any()


def test_where_nothing_tells_a_motion_there_is_none():
    missing, told = correction(torch.full((1, 1, 48, 64), 0.5), torch.full((1, 1, 48, 64), 0.6), torch.zeros(1, 2, 12, 16), HALF)
    assert not missing.any() and told.max() < 1e-3


def test_a_part_is_corrected_as_in_the_whole(shifted):
    first, second, _ = shifted
    motion, t = torch.full((1, 2, 12, 16), 0.2), torch.full((1, 1, 1, 1), 0.3)
    whole = correction(first, second, motion, t)[0]
    window = (8, 16, 40, 48)
    piece = correction(first, second, part(motion, 4, window), t, window[:2])[0]
    torch.testing.assert_close(part(whole, 4, window)[..., 4:-1, 4:-1], piece[..., 4:-1, 4:-1], atol=1e-5, rtol=0)


def test_untrained_it_is_not_trusted(shifted):
    first, second, motion = shifted
    layer, start = Subpixel(), torch.zeros(1, 2, 12, 16)
    assert torch.equal(layer(first, second, start, HALF)[0], start)
    torch.nn.init.ones_(layer.trust)
    assert (layer(first, second, start, HALF)[0] - motion).abs().median() < 0.05


def test_grey_keeps_what_has_one_colour():
    torch.testing.assert_close(grey(torch.full((2, 3, 16, 16), 0.3)), torch.full((2, 1, 16, 16), 0.3))


def test_the_camera_bears_wrong_depths():
    """Depths wrong by a third turn the camera of plain least squares by a degree, and this one by less than a quarter of that."""
    rng = torch.Generator().manual_seed(0)
    ray, depth = rays(16, 16, torch.ones(1)), torch.exp(0.6 * torch.randn(1, 16, 16, generator=rng))
    xi = torch.tensor([[0.06, 0.01, 0.02, 0.004, -0.01, 0.003]])
    motion = torch.einsum("bckhw,bk->bchw", jacobian(ray, depth), xi)
    guessed = depth * torch.exp(0.35 * torch.randn(depth.shape, generator=rng))
    rows = jacobian(ray, guessed)[0].permute(0, 2, 3, 1).reshape(-1, 6)
    plain = torch.linalg.lstsq(rows, motion[0].reshape(-1, 1)).solution.T
    found = plain
    for _ in range(ROUNDS * REFINED):
        found = solve_twist(motion, ray, guessed, torch.ones_like(depth), found)
    error, before = (torch.rad2deg((x - xi)[:, 3:].norm()) for x in (found, plain))
    assert before > 1 and error < before / 4


def test_no_motion_gives_no_twist():
    ray = rays(16, 16, torch.ones(1))
    ones = torch.ones(1, 16, 16)
    assert not solve_twist(torch.zeros_like(ray), ray, ones, ones, torch.zeros(1, 6)).any()
