"""Views of what the sharp model says of a moment: what is drawn, on which scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_views import grey, images_of

from vae4d import views
from vae4d.errors import ConfigError
from vae4d.views.moments import depth_limits, full_colour


def test_scales_of_depth_and_motion():
    low, high = depth_limits(np.linspace(0.5, 2, 1000).reshape(10, 100))
    assert low == pytest.approx(1 / 1.97, abs=0.01) and high == pytest.approx(1 / 0.53, abs=0.02)
    assert depth_limits(np.full((4, 4), 2.0)) == pytest.approx((0.475, 0.525))  # a wall: a tenth of its inverse depth
    motion = np.zeros((2, 10, 10))
    assert full_colour(motion) == 0.1
    motion[0], motion[1] = 3, 4
    assert full_colour(motion) == pytest.approx(5)


def test_inverse_depths_share_the_first_ones_scale():
    depths = torch.stack([torch.linspace(1, 2, 64).view(8, 8), torch.full((8, 8), 4.0)])
    first, second = images_of(views.inverse_depths(depths, ["a", "b"]))[:2]
    assert first.get_clim() == second.get_clim() and first.get_clim()[1] == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose(second.get_array(), 0.25)
    assert images_of(views.inverse_depths(depths, ["a", "b"], (0, 2)))[0].get_clim() == (0, 2)
    with pytest.raises(ConfigError, match="depth of 0 and 1 titles"):
        views.inverse_depths(torch.zeros(1, 8, 8), ["a"])


def test_share_maps_go_from_nothing_to_all_and_say_their_mean():
    fig = views.share_maps(grey(0.5)[0], {"from frame 0": torch.full((8, 8), 0.25), "invented": torch.zeros(8, 8)})
    shown = images_of(fig)
    assert shown[1].get_clim() == shown[2].get_clim() == (0, 1) and float(shown[1].get_array().max()) == 0.25
    assert [ax.get_xlabel() for ax in fig.axes[:3]] == ["", "mean 25.0%", "mean 0.0%"]
    with pytest.raises(ConfigError, match=r"shares\['x'\] must be \(8, 8\)"):
        views.share_maps(grey(0.5)[0], {"x": torch.zeros(4, 4)})
    with pytest.raises(ConfigError, match="from 2 to 2"):
        views.share_maps(grey(0.5)[0], {"x": torch.full((8, 8), 2.0)})
    with pytest.raises(ConfigError, match="at least one map"):
        views.share_maps(grey(0.5)[0], {})


def test_density_planes_say_how_far_they_are():
    density = torch.zeros(4, 6, 8)
    density[2] = 1
    fig = views.density_planes(density, torch.tensor([0.25, 0.5, 1.0, 2.0]))
    assert [ax.get_title() for ax in fig.axes[:4]] == ["depth 0.5, near (0%)", "depth 1 (100%)", "depth 2 (0%)", "depth 4, far (0%)"]
    assert {image.get_clim() for image in images_of(fig)[:4]} == {(0, 1)}
    with pytest.raises(ConfigError, match=r"inverse_depths must have the shape \(4,\)"):
        views.density_planes(density, torch.ones(3))


def strip(**changes):
    given = {"images": grey(0, 0.25, 0.5, 0.75, 1), "titles": list("abcde"), "depth": torch.ones(8, 8), "motion": torch.ones(2, 8, 8)}
    return views.moment_strip(**(given | {"more": {"left": grey(0.3)[0], "right": grey(0.4)[0]}} | changes))


def test_moment_strip_has_what_is_between_above_and_what_is_believed_below():
    fig = strip()
    titles = [ax.get_title() for ax in fig.axes if ax.get_title()]
    assert titles == ["a", "b", "c", "d", "e", "depth (bright: near)", "motion", "left", "right"]
    assert any("1.4 px" in text.get_text() for ax in fig.axes for text in ax.texts)
    left = next(ax for ax in fig.axes if ax.get_title() == "left")
    np.testing.assert_allclose(left.images[0].get_array(), 0.3, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [{"titles": ["a"]}, {"images": grey(0, 1), "titles": ["a", "b"]}, {"more": {str(i): grey(0)[0] for i in range(4)}},
     {"depth": torch.zeros(8, 8)}, {"depth": torch.ones(4, 8)}, {"motion": torch.ones(3, 8, 8)}, {"more": {"a": torch.zeros(3, 4, 4)}}],
)  # fmt: skip
def test_moment_strip_refuses_what_does_not_fit(changes):
    with pytest.raises(ConfigError, match=r"moment_strip needs|must have the shape"):
        strip(**changes)
