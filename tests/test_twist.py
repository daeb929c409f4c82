"""The search for the camera's twist: whatever the depth, and in spite of what moves by itself."""

import math

import pytest
import torch

from vae4d.sharp.camera import best_twist, displacement, evidence, rays, search_twist, twist_matrix

TURN = torch.tensor([[0.01, -0.02, 0.005], [0.0, 0.015, -0.01]])
SLIDE = torch.tensor([[0.05, 0.0, 0.02], [-0.01, 0.04, 0.0]])


def degrees(xi: torch.Tensor) -> float:
    """The largest error of a rotation."""
    return math.degrees(float((xi[:, 3:] - TURN).norm(dim=1).max()))


@pytest.fixture
def pair():
    """Rays and inverse depths of 2 pairs of 24 x 32 cells, and the motion between their cameras, seen half-way, as matching gives it."""
    ray = rays(24, 32, torch.tensor([1.0, 1.3]))
    z = 0.5 + torch.rand(2, 24, 32, generator=torch.Generator().manual_seed(0))
    z = z / z.flatten(1).median(1).values[:, None, None]
    half = torch.cat([SLIDE, TURN], dim=1) / 2
    return ray, z, displacement(twist_matrix(half).inverse(), ray, z) - displacement(twist_matrix(half), ray, z)


def test_the_camera_is_found_whatever_the_depth(pair):
    ray, z, motion = pair
    xi = search_twist(motion, ray)
    assert degrees(xi) < 0.4 and torch.allclose(xi[:, :3], SLIDE, atol=0.008)  # a search on a grid: near, not exact
    again = search_twist(motion, ray, (torch.ones_like(z), xi))
    assert degrees(again) < 0.06
    log, told, *_, x, y = evidence(motion, ray, again).unbind(1)
    sure = told > 0.9
    assert sure.float().mean() > 0.5
    assert ((log / told).exp() / z)[sure].log().abs().median() < 0.15 and torch.hypot(x, y)[sure].max() < 0.1


def test_what_moves_by_itself_misleads_until_it_is_known(pair):
    ray, z, motion = pair
    still = torch.ones_like(z)
    still[:, 6:22, 4:22] = 0  # two fifths of the picture
    own = motion + (1 - still)[:, None] * torch.tensor([0.02, -0.03])[None, :, None, None]
    xi = search_twist(own, ray)
    again = search_twist(own, ray, (still, xi))
    assert degrees(xi) > 0.3 > 0.06 > degrees(again)


def test_what_a_round_before_found_is_tried_too(pair):
    ray, _, motion = pair
    true = torch.cat([SLIDE, TURN], dim=1)
    assert degrees(search_twist(motion, ray, (torch.ones_like(ray[:, 0]), true))) < 0.01


@pytest.mark.parametrize("seed", range(4))
def test_swapped_frames_find_the_opposite_camera_exactly(pair, seed):
    ray, z, motion = pair
    draw = torch.Generator().manual_seed(seed)
    noisy = motion + 0.003 * torch.randn(motion.shape, generator=draw)
    weight = torch.rand(z.shape, generator=draw)
    before = torch.cat([SLIDE, TURN], dim=1) * torch.tensor([[1.0], [-1.0]])  # forwards in the one pair, backwards in the other
    assert torch.equal(search_twist(-noisy, ray), -search_twist(noisy, ray))
    assert torch.equal(search_twist(-noisy, ray, (weight, -before)), -search_twist(noisy, ray, (weight, before)))


def test_the_best_of_some_twists_is_chosen_for_each_pair_by_what_stands_still(pair):
    ray, _, motion = pair
    true = torch.cat([SLIDE, TURN], dim=1)
    still = torch.ones_like(ray[:, 0])
    still[:, :14] = 0  # more than half of the picture, and all of it moves as if another camera saw it
    other = displacement(twist_matrix(-true / 2).inverse(), ray, 1 + 0 * still) - displacement(twist_matrix(-true / 2), ray, 1 + 0 * still)
    own = torch.where(still[:, None] > 0, motion, other)
    mixed = torch.stack([true[0], -true[1]])
    assert torch.equal(best_twist(own, ray, still, (mixed, -mixed)), true)
    assert torch.equal(best_twist(-own, ray, still, (mixed, -mixed)), -true)
    assert torch.equal(best_twist(own, ray, 1 - still, (mixed, -mixed)), -true)


def test_no_motion_is_no_twist(pair):
    ray, *_ = pair
    xi = search_twist(torch.zeros_like(ray), ray)
    assert not xi[:, 3:].any() and xi.abs().max() < 1e-5
    assert evidence(torch.zeros_like(ray), ray, xi).abs().max() < 1e-3


def test_what_moves_by_itself_is_left_over(pair):
    """Across the way in which the camera's translation moves a pixel, no depth explains a motion."""
    ray, _, motion = pair
    true = torch.cat([SLIDE, TURN], dim=1)
    _, told, _, x, y = evidence(motion + torch.tensor([0.0, 0.02]).view(1, 2, 1, 1), ray, true).unbind(1)
    assert told[0].min() > 0.5 and torch.hypot(x, y)[0].median() > 0.4
