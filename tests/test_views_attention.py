"""What a pixel hangs on: on paper, in both families, and drawn; and boxes on pictures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from test_views import grey, images_of
from torch import nn

from vae4d import Encoded, Synthesis, build_model, views
from vae4d.attention import attention
from vae4d.errors import ConfigError


class OneVoxel(nn.Module):
    """A pixel is three channels of one voxel of frame 0's code, on slice 2; a voxel is the mean of its 4 x 4 pixels."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def encode(self, frame):
        code = nn.functional.avg_pool2d(frame, 4)[:, :, None].expand(-1, -1, 5, -1, -1)
        return Encoded(frame, code * self.weight)

    def synthesise(self, first, second, t):
        image = first.code[:, :, 2].repeat_interleave(4, 2).repeat_interleave(4, 3)
        return Synthesis(image.clamp(0, 1), None, torch.zeros(1, 6), (first.code, second.code, first.code))


def frames(size: int = 32) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_a_pixel_of_one_voxel_hangs_on_that_voxel_alone():
    model, (first, second) = OneVoxel(), frames(16)
    found = attention(model, first, second, (9, 6))
    want = torch.zeros(5, 4, 4)
    want[2, 2, 1] = 3  # three channels, each one to one
    assert torch.equal(found.voxels[0], want) and not found.voxels[1].any()
    there = torch.zeros(16, 16)
    there[8:12, 4:8] = 3 / 16
    torch.testing.assert_close(found.pixels[0], there)
    assert not found.pixels[1].any() and found.planes is None and found.weights is None and found.sources is None
    assert model.weight.grad is None, "the weights' gradients are left alone"


def test_the_sharp_model_gives_back_its_frames_and_begins_as_their_mean():
    model, (first, second) = build_model("sharp", seed=1).eval(), frames()
    with torch.inference_mode():  # as a notebook may call it
        ends, half = (attention(model, first, second, (10, 20), t) for t in (0.0, 0.5))
    torch.testing.assert_close(ends.pixels[0][10, 20], torch.tensor(3.0), rtol=1e-3, atol=1e-3)
    assert float(ends.pixels[0].sum()) == pytest.approx(3, abs=1e-2) and float(ends.pixels[1].sum()) < 1e-2
    assert [float(part.sum()) for part in half.pixels] == pytest.approx([1.5, 1.5], abs=1e-2)
    assert half.planes.shape == (model.config.planes,) and float(half.planes.sum()) == pytest.approx(1, abs=1e-5)
    assert float(half.weights.sum()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(half.sources, torch.tensor([[10.0, 20.0], [10.0, 20.0]]))
    torch.testing.assert_close(half.image, (first + second) / 2, atol=0.01, rtol=0)


def test_the_faithful_model_hangs_on_its_codes():
    model = build_model("small", seed=1).eval()
    found = attention(model, *frames(), (16, 16), 0.5, use_flow=False)
    assert found.voxels[0].shape == (model.config.depth, 8, 8) and found.voxels[0].sum() > 0 and found.planes is None


def test_a_pixel_outside_is_refused():
    with pytest.raises(ConfigError, match=r"pixel \(16, 0\) is not in a picture of 16 x 16 px"):
        attention(OneVoxel(), *frames(16), (16, 0))


def test_both_codes_and_both_frames_share_a_scale():
    first, second = frames(16)
    found = attention(OneVoxel(), first, second, (9, 6))
    fig = views.pixel_attention(found, first, second)
    titles = {ax.get_title(): ax for sub in fig.subfigs for ax in sub.axes}
    for name in ("front", "from above"):
        one, two = (titles[f"code {i}, {name}"].images[0] for i in range(2))
        assert one.get_clim() == two.get_clim() and one.get_clim()[1] == pytest.approx(3**0.5)
    assert titles["code 0, front"].images[0].get_array()[2, 1] == pytest.approx(3**0.5)
    assert titles["code 0, from above"].images[0].get_array()[2, 1] == pytest.approx(3**0.5)
    assert titles["frame 0: ink where it counts"].get_xlabel() == "100% of all importance"
    with pytest.raises(ConfigError, match=r"of \(16, 16\) pixels"):
        views.pixel_attention(found, *frames(32))


@pytest.mark.parametrize("planes, near", [(None, 1), (torch.tensor([0.0, 0, 0, 0, 1]), 1)])
def test_slices_of_both_families_are_counted_from_near(planes, near):
    """The sharp model's planes go from far to near, the slices of the faithful one from near to far."""
    first, second = frames(16)
    voxels = torch.zeros(5, 4, 4)
    voxels[near, 0, 0] = 1
    found = dataclasses.replace(attention(OneVoxel(), first, second, (9, 6)), voxels=(voxels, voxels), planes=planes)
    axes = {ax.get_title(): ax for sub in views.pixel_attention(found, first, second).subfigs for ax in sub.axes}
    above = axes["code 0, from above"]
    assert above.get_ylabel() == axes["by slice"].get_ylabel() == "z (0: near)"
    assert int(above.images[0].get_array()[:, 0].argmax()) == (near if planes is None else 4 - near)
    if planes is not None:
        assert [bar.get_width() for bar in axes["by slice"].patches] == planes.flip(0).tolist()


def test_regions_are_where_they_say():
    fig = views.regions(grey(0.2, 0.8), [{"A": (1, 2, 3, 4)}, {}], ["one", "two"])
    (box,) = fig.axes[0].patches
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (1.5, 0.5, 4, 3)
    assert [text.get_text() for text in fig.axes[0].texts] == ["A"] and not fig.axes[1].patches
    with pytest.raises(ConfigError, match="Box 'A' is"):
        views.regions(grey(0.2), [{"A": (6, 0, 4, 4)}], ["one"])
    with pytest.raises(ConfigError, match="boxes and a title for each of 1"):
        views.regions(grey(0.2), [], ["one"])


def test_a_volume_from_above_is_a_histogram_of_depth():
    volume = torch.zeros(4, 6, 8)
    volume[1, :3], volume[3, 3:] = 1, 1  # the upper half of the picture on plane 1, the lower one on plane 3
    other = torch.full((4, 6, 8), 0.25)
    fig = views.density_projections({"truth": volume, "model": other}, torch.tensor([0.25, 0.5, 1.0, 2.0]))
    front, top, side, front2, top2, side2 = images_of(fig)[:6]
    assert np.array_equal(front.get_array(), np.ones((6, 8))) and np.allclose(front2.get_array(), 0.25)
    assert np.allclose(top.get_array(), np.array([0, 0.5, 0, 0.5])[:, None].repeat(8, 1))
    assert np.array_equal(side.get_array()[0], [0, 0, 1, 0]) and np.array_equal(side.get_array()[5], [1, 0, 0, 0])  # near on the left
    assert top.get_clim() == side.get_clim() == top2.get_clim() == side2.get_clim() == (0, 1)
    with pytest.raises(ConfigError, match="of one shape"):
        views.density_projections({"a": volume, "b": other[:2]}, torch.ones(4))
