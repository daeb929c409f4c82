"""Procedural worlds as notebook 01 shows and checks them, and their view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vae4d import views
from vae4d.errors import ConfigError, MissingInputError
from vae4d.workbook import worlds


@pytest.fixture(scope="module")
def gallery():
    return worlds.draw(3, 64, "", seed=0)


def test_a_gallery_is_timed_and_named(gallery):
    assert len(gallery.views) == 5 and gallery.views[0].image.shape == (3, 3, 64, 64)
    assert len(gallery.titles()) == 3 and gallery.titles()[0].startswith("camera ")
    assert replace(gallery, seconds=0.5).frames_per_second == 30
    other = worlds.draw(3, 64, "", seed=1)
    assert not torch.equal(gallery.views[0].image, other.views[0].image)
    assert torch.equal(gallery.views[0].image[:1], worlds.draw(1, 64, "", seed=0).views[0].image)


def test_the_liveliest_world_moves_in_both_ways(gallery):
    motions = replace(gallery.world, camera_motion=torch.tensor([9.0, 2.0, 0.0]), object_motion=torch.tensor([1.0, 3.0, 9.0]))
    assert replace(gallery, world=motions).liveliest() == 1


def test_the_path_starts_at_the_first_camera(gallery):
    path = gallery.path(1)
    torch.testing.assert_close(path[0], torch.eye(3, 4, dtype=torch.float64))
    point = torch.tensor([0.1, -0.2, 3.0], dtype=torch.float64)
    world = gallery.views[4].camera.pose[1, :, :3] @ point + gallery.views[4].camera.pose[1, :, 3]
    first = gallery.views[0].camera.pose[1]
    torch.testing.assert_close(first[:, :3] @ (path[4, :, :3] @ point + path[4, :, 3]) + first[:, 3], world)


def test_the_true_flow_rebuilds_and_another_does_not(gallery):
    found = worlds.rebuilt_psnr(gallery)
    assert found.shape == (3,) and found.min() > 38
    off = replace(gallery, forward=replace(gallery.forward, flow=gallery.forward.flow + 0.5))
    assert (worlds.rebuilt_psnr(off) < found - 5).all()


def test_rebuilding_by_whole_pixels_on_paper(gallery):
    flow = torch.zeros(3, 2, 64, 64)
    flow[:, 0], flow[:, 1] = 2, -1  # taken from two pixels to the right and one above
    image = gallery.views[0].image
    made = worlds.rebuilt(gallery.views[0], flow)
    torch.testing.assert_close(made[:, :, 1:, :-2], image[:, :, :-1, 2:], rtol=0, atol=1e-4)


def test_rows_of_pairs_are_rebuilt_inside_their_masks(gallery):
    number = gallery.liveliest()
    pairs = worlds.pairs(gallery, number)
    assert pairs.rows == ["back in time", "on in time", "from aside\nat one time"]
    given, truth, made = pairs.columns.values()
    assert torch.equal(given[0], gallery.views[4].image[number]) and torch.equal(truth[1], given[0])
    assert torch.equal(given[2], truth[0]) and not torch.equal(truth[2], truth[0])
    for true, image, mask in zip(truth, made, pairs.mask, strict=True):
        assert 0.4 < mask.float().mean() < 1
        assert (true - image).abs().mean(0)[mask].mean() < 0.5 * (true - image).abs().mean(0)[~mask].mean()
    assert views.masked_views(pairs.columns, pairs.mask, pairs.rows, {}).axes[0].get_title() == "given"


def test_textures_of_ones_own_and_what_is_wrong_with_them(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(6):  # by their bytes, some of them train
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    drawn = worlds.draw(1, 32, str(tmp_path), seed=0)
    assert not torch.equal(drawn.views[0].image, worlds.draw(1, 32, "", seed=0).views[0].image)
    with pytest.raises(MissingInputError, match="no folder"):
        worlds.draw(1, 32, str(tmp_path / "none"), seed=0)


@pytest.mark.parametrize("content", ["tiny", "text"])
def test_a_bad_texture_is_named(tmp_path, content):
    """Whatever split its bytes put it into: several are written, with different bytes."""
    for number in range(12):
        path = tmp_path / f"bad{number}.png"
        path.write_text(f"no image {number}") if content == "text" else Image.new("RGB", (20, 20), (number, 0, 0)).save(path)
    with pytest.raises(ConfigError, match=r"The texture .*bad\d+\.png (cannot be read|has 20 x 20 px).*: .*(remove|give)"):
        worlds.draw(1, 32, str(tmp_path), seed=0)


def test_the_view_of_the_truth(gallery):
    view, move = gallery.views[0], gallery.forward
    names = ["a", "b", "c"]
    fig = views.world_truth(view.image, view.ids, view.depth, move.scene_flow, names)
    assert [ax.get_title() for ax in fig.axes[:4]] == ["picture", "object", "inverse depth\n(bright: near)", "motion in space"]
    assert [ax.get_ylabel() for ax in fig.axes[12:14]] == ["1 / world units", "world units"]
    maps = [ax for ax in fig.axes if ax.images and ax.images[0].get_array().ndim == 2]
    np.testing.assert_allclose(maps[0].images[0].get_array(), 1 / view.depth[0], rtol=1e-5)
    np.testing.assert_allclose(maps[1].images[0].get_array(), move.scene_flow[0].norm(dim=0), rtol=1e-5)
    colours = fig.axes[1].images[0].get_array()
    assert (colours[view.ids[0].numpy() == 0] == 1).all() and (colours[view.ids[0].numpy() > 0] < 1).any(axis=-1).all()
    fig.canvas.draw()
    sizes = {tuple(round(v, 2) for v in ax.get_position().size) for ax in fig.axes[:12]}
    assert len(sizes) == 1  # what is to be compared has one size
    with pytest.raises(ConfigError, match="world_truth needs 2 pictures"):
        views.world_truth(view.image, view.ids, view.depth, move.scene_flow, names[:2])
    with pytest.raises(ConfigError, match="one per row"):
        views.world_truth(view.image, view.ids, view.depth[:, :32], move.scene_flow, names)


def test_objects_have_different_colours():
    from vae4d.views.worlds import id_colours

    colours = id_colours(13)
    assert len(np.unique(colours.round(3), axis=0)) == 13 and (colours[0] == 1).all()


def test_nothing_moves_in_space(gallery):
    still = torch.zeros_like(gallery.forward.scene_flow)
    fig = views.world_truth(gallery.views[0].image, gallery.views[0].ids, gallery.views[0].depth, still, ["a", "b", "c"])
    assert fig.axes[3].images[0].get_clim() == (0, 1)
