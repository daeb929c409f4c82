"""The voxels in space: where they stand, that the page stands alone, and what is said where k3d is missing."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch

from vae4d import views
from vae4d.errors import ConfigError
from vae4d.views.space import cell_places, packed


def scene():
    """A picture of 16 x 16 px, half red, half blue; red on the farther of two planes."""
    image = torch.zeros(3, 16, 16)
    image[0, :, :8], image[2, :, 8:] = 1, 1
    density = torch.zeros(2, 4, 4)
    density[0, :, :2], density[1, :, 2:] = 1, 1
    return image, density, torch.tensor([0.5, 2.0])


def test_voxels_stand_on_their_rays():
    places = cell_places(np.array([0.5, 2.0]), 4, 4, 1.0, 16)
    np.testing.assert_allclose(places[0, 0, 0], [-0.75, 2, 0.75])  # the middle of the first cell: 6 px left of and above the centre
    np.testing.assert_allclose(places[1, 3, 3], [0.1875, 0.5, -0.1875])
    assert packed(np.array([1.0, 0.5, 0.0])) == 0xFF8000


def test_without_k3d_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "k3d", None)  # importing it raises
    with pytest.raises(ConfigError, match="pip install k3d"):
        views.voxel_space(*scene())


def test_the_plot_holds_the_voxels_that_are_there_and_their_flow(tmp_path):
    pytest.importorskip("k3d", reason="the view in space is optional")
    flow = torch.zeros(2, 4, 4, 3)
    flow[1, 0, 3, 0] = 0.5  # a quarter of the picture to the right, on the near plane
    plot = views.voxel_space(*scene(), flow)
    points, arrows = plot.objects
    assert points.positions.shape == (16, 3)
    assert sorted(set(np.asarray(points.colors).tolist())) == [0x0000FF, 0xFF0000]
    far = np.asarray(points.positions)[np.asarray(points.colors) == 0xFF0000]
    assert np.allclose(far[:, 1], 2) and (far[:, 0] < 0).all()
    assert arrows.origins.shape == (1, 3)
    np.testing.assert_allclose(arrows.vectors[0], [0.06, 0, 0], atol=1e-6)  # the longest: 0.12 of its depth
    page = views.save_space(plot, tmp_path / "new" / "space.html").read_text()
    assert page.lower().startswith("<!doctype html") and not re.search(r"<(script|link|img)[^>]*(src|href)=[\"']?https?:", page)
    with pytest.raises(ConfigError, match=r"\.html"):
        views.save_space(plot, tmp_path / "space.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"density": torch.ones(2, 2, 2)}, "must cover the picture"), ({"least": 0.0}, "least share"), ({"focal": 0}, "above 0")],
)
def test_what_does_not_fit_is_refused(change, message):
    pytest.importorskip("k3d", reason="the view in space is optional")
    image, density, planes = scene()
    with pytest.raises(ConfigError, match=message):
        views.voxel_space(**({"image": image, "density": density, "inverse_depths": planes} | change))
