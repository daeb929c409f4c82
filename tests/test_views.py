"""Every view on synthetic data: axes, labels, exact limits, exact pixels known on paper, and clear errors."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver

from vae4d import views
from vae4d.errors import ConfigError, MissingInputError
from vae4d.views.charts import angles, smoothed
from vae4d.views.figures import as_array, as_images, pick, spread
from vae4d.views.frames import flow_colours, frame_differences
from vae4d.views.tables import best_of, written
from vae4d.views.volumes import in_voxels, principal_colours, strongest


def images_of(fig: Figure) -> list[matplotlib.image.AxesImage]:
    return [image for ax in fig.axes for image in ax.images]


def quivers_of(ax) -> list[Quiver]:
    return [part for part in ax.collections if isinstance(part, Quiver)]


def grey(*levels: float) -> torch.Tensor:
    """One flat 8 x 8 frame per level."""
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 3, 8, 8).clone()


# --- shared pieces -------------------------------------------------------------------------------------------------


def test_images_of_every_kind_become_the_same_floats():
    want = np.full((2, 8, 8, 3), 51 / 255, np.float32)
    assert np.array_equal(as_images(grey(0.2, 0.2)).round(6), want.round(6))
    assert np.array_equal(as_images(grey(0.2, 0.2).bfloat16()).round(2), want.round(2))
    assert np.array_equal(as_images(np.full((2, 8, 8, 3), 51, np.uint8)), want)
    assert np.array_equal(as_images([torch.full((3, 8, 8), 51, dtype=torch.uint8)] * 2), want)
    assert as_images(grey(-0.5, 1.5)).min() == 0 and as_images(grey(-0.5, 1.5)).max() == 1


@pytest.mark.parametrize(
    "bad", [torch.zeros(3, 8, 8), np.zeros((2, 4, 8, 8)), [], [np.zeros((3, 8, 8)), np.zeros((3, 8, 9))], torch.zeros(0, 3, 8, 8)]
)
def test_wrong_image_shapes_name_the_expected_one(bad):
    with pytest.raises(ConfigError, match=r"\(N, 3, H, W\)|\(N, H, W, 3\)"):
        as_images(bad)


def test_grey_levels_as_floats_and_nan_are_refused():
    with pytest.raises(ConfigError, match="divide by 255"):
        as_images(grey(200.0))
    with pytest.raises(ConfigError, match="not finite"):
        as_images(grey(float("nan")))
    with pytest.raises(ConfigError, match=r"must have the shape \(D, h, w, 3\), not \(2, 2, 2, 4\)"):
        as_array(np.zeros((2, 2, 2, 4)), "flow", "(D, h, w, 3)")


def test_pick_keeps_both_ends_and_spread_takes_middles():
    assert pick(10, 4).tolist() == [0, 3, 6, 9]
    assert pick(3, 8).tolist() == [0, 1, 2]
    assert spread(32, 8).tolist() == [2, 6, 10, 14, 18, 22, 26, 30]
    assert spread(3, 8).tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match="count"):
        spread(3, 0)


def test_save_is_atomic_and_repeatable(tmp_path):
    for name in "ab":
        path = views.save(views.frame_strip(grey(0.1, 0.9)), tmp_path / "new" / f"{name}.png")
        assert path.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "new/a.png").read_bytes() == (tmp_path / "new/b.png").read_bytes()
    with pytest.raises(ConfigError, match=r"\.png"):
        views.save(views.frame_strip(grey(0.1)), tmp_path / "a.pdf")

    class Broken(Figure):
        def savefig(self, *args, **kwargs):
            raise RuntimeError("drawing failed")

    before = (tmp_path / "new/a.png").read_bytes()
    with pytest.raises(RuntimeError):
        views.save(Broken(), tmp_path / "new/a.png")
    assert (tmp_path / "new/a.png").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.png", "b.png"]


def test_views_need_no_pyplot_and_show_themselves():
    code = (
        "import sys, numpy as np\nfrom vae4d import views\nfig = views.frame_strip(np.zeros((2, 3, 8, 8)))\n"
        "assert fig._repr_mimebundle_()['image/png'].startswith(b'\\x89PNG')\nassert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_style_does_not_leak_and_is_not_taken_from_the_caller():
    with matplotlib.rc_context({"font.size": 3, "axes.titlesize": 3}):
        fig = views.frame_strip(grey(0.1), titles=["one"])
        assert matplotlib.rcParams["font.size"] == 3
    assert fig.axes[0].title.get_fontsize() == 13


# --- frames --------------------------------------------------------------------------------------------------------


def test_frame_strip_rows_titles_and_gaps():
    fig = views.frame_strip({"truth": grey(0, 0.5, 1), "model": [None, grey(0.25)[0], None]}, titles=["a", "b", "c"])
    assert len(fig.axes) == 6
    assert [ax.get_title() for ax in fig.axes] == ["a", "b", "c", "", "", ""]
    assert [fig.axes[i].get_ylabel() for i in (0, 3)] == ["truth", "model"]
    assert [len(ax.images) for ax in fig.axes] == [1, 1, 1, 0, 1, 0]
    assert all(image.get_clim() == (0, 1) for image in images_of(fig))
    assert images_of(fig)[3].get_array()[0, 0, 0] == 0.25


def test_frame_strip_takes_one_row_or_a_stack_of_rows_and_breaks_long_ones():
    assert len(views.frame_strip(grey(0, 1)).axes) == 2
    assert len(views.frame_strip(list(grey(0, 1))).axes) == 2
    assert len(views.frame_strip(torch.stack([grey(0, 1), grey(1, 0)]), rows=["x", "y"]).axes) == 4
    fig = views.frame_strip(torch.zeros(23, 3, 8, 8), titles=[str(i) for i in range(23)])
    assert len(fig.axes) == 24 and len(images_of(fig)) == 23
    assert [ax.get_title() for ax in fig.axes] == [*map(str, range(23)), ""]


def test_frame_strip_refuses_what_does_not_fit():
    with pytest.raises(ConfigError, match="same number"):
        views.frame_strip([grey(0, 1), grey(0)])
    with pytest.raises(ConfigError, match="2 texts"):
        views.frame_strip(grey(0, 1), titles=["one"])
    with pytest.raises(ConfigError, match="1 names"):
        views.frame_strip(grey(0, 1), rows=["one", "two"])
    with pytest.raises(ConfigError, match=r"\(N, 3, H, W\)"):
        views.frame_strip(torch.zeros(8, 8))


def test_comparison_strip_errors_are_signed_and_share_one_scale():
    truth = grey(100 / 255, 100 / 255)
    fig = views.comparison_strip(truth, {"blend": grey(110 / 255, 95 / 255), "model": grey(140 / 255, 100 / 255)}, t=[0.25, 0.75])
    assert len(fig.axes) == 5 * 2 + 1
    assert [fig.axes[i].get_ylabel() for i in range(0, 10, 2)] == ["truth", "blend", "model", "blend\nminus truth", "model\nminus truth"]
    assert [ax.get_title() for ax in fig.axes[:2]] == ["t = 0.25", "t = 0.75"]
    maps = [ax.images[0] for ax in fig.axes[6:10]]
    assert np.allclose([part.get_array()[3, 3] for part in maps], [10, -5, 40, 0], atol=1e-4)
    assert np.allclose([part.get_clim() for part in maps], [(-40, 40)] * 4, atol=1e-4)  # a quarter of the pixels are at 40
    assert [ax.get_xlabel() for ax in fig.axes[6:10]] == ["mean |e| 10.0", "mean |e| 5.0", "mean |e| 40.0", "mean |e| 0.0"]
    assert "grey levels" in fig.axes[-1].get_ylabel()


def test_comparison_strip_limits_given_or_at_least_one_grey_level():
    same = views.comparison_strip(grey(0.5), {"model": grey(0.5)}, t=0.5)
    assert same.axes[2].images[0].get_clim() == (-1, 1)
    given = views.comparison_strip(grey(0.5), {"model": grey(0.1)}, t=0.5, limit=20)
    assert given.axes[2].images[0].get_clim() == (-20, 20)


def test_comparison_strip_refuses_what_does_not_fit():
    with pytest.raises(ConfigError, match=r"predictions\['model'\].*truth's shape"):
        views.comparison_strip(grey(0, 1), {"model": grey(0)}, t=0.5)
    with pytest.raises(ConfigError, match="2 times"):
        views.comparison_strip(grey(0, 1), {"model": grey(0, 1)}, t=[0.5])
    with pytest.raises(ConfigError, match="at least one method"):
        views.comparison_strip(grey(0, 1), {}, t=0.5)


def stepped_clip() -> SimpleNamespace:
    """Six frames at grey levels 0, 1, 1, 101, 102, 104: a repeat at 2, a cut at 3."""
    frames = np.array([0, 1, 1, 101, 102, 104], np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 8, 8, 3), np.uint8)
    return SimpleNamespace(frames=frames, cuts=[3], duplicates=[2], name="steps")


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_frame_differences_are_exact_whatever_the_chunk(chunk):
    assert frame_differences(stepped_clip().frames, chunk).tolist() == [1, 0, 100, 1, 2]


def test_shot_timeline_marks_cuts_and_repeats():
    fig = views.shot_timeline(stepped_clip())
    ax = fig.axes[-1]
    curve, cut, repeat = ax.lines
    assert curve.get_xdata().tolist() == [1, 2, 3, 4, 5] and curve.get_ydata().tolist() == [1, 0, 100, 1, 2]
    assert list(cut.get_xdata()) == [3, 3] and cut.get_linestyle() == "--"
    assert repeat.get_xdata().tolist() == [2] and repeat.get_marker() == "x"
    assert ax.get_xlim() == (0, 6) and np.allclose(ax.get_ylim(), (0, 118))
    assert ax.get_title(loc="left") == "steps: 6 frames, 1 cuts, 1 repeated"
    assert [a.get_title() for a in fig.axes[:2]] == ["frame 0", "frame 3"] and len(images_of(fig)) == 2


def test_photographs_are_shown_as_jpeg():
    noise = np.random.default_rng(0).random((2, 3, 256, 256))
    shown = views.frame_strip(noise)._repr_mimebundle_()
    assert list(shown) == ["image/jpeg"] and shown["image/jpeg"].startswith(b"\xff\xd8")
    assert list(views.frame_strip(np.zeros((2, 3, 8, 8)))._repr_mimebundle_()) == ["image/png"]


def test_names_with_dollar_signs_are_no_formulas(tmp_path):
    clip = SimpleNamespace(name="a $b^^$ c", frames=np.zeros((3, 16, 16, 3), np.uint8), cuts=(), duplicates=())
    name = "a $b^^$ c"
    strip = views.frame_strip({name: grey(0.2, 0.4), "d": grey(0.2, 0.4)}, titles=[name, "e"])
    for fig in (views.shot_timeline(clip), strip):
        assert views.save(fig, tmp_path / "a $b^^$ c.png").stat().st_size and fig._repr_mimebundle_()
    assert name in views.shot_timeline(clip).subfigs[1].axes[0].get_title(loc="left")


def test_shot_timeline_of_differences_alone_and_errors():
    fig = views.shot_timeline([1.0, 5.0, 2.0], cuts=[2])
    assert len(fig.axes) == 1 and len(fig.axes[0].lines) == 2
    with pytest.raises(ConfigError, match="cuts must be frame numbers from 1 to 3"):
        views.shot_timeline([1.0, 5.0, 2.0], cuts=[4])
    with pytest.raises(ConfigError, match=r"\(N-1,\)"):
        views.shot_timeline(np.zeros((2, 2)))
    with pytest.raises(ConfigError, match=r"uint8 frames of the shape \(N, H, W, 3\)"):
        frame_differences(np.zeros((4, 8, 8, 3)))


def test_image_flow_shares_one_scale_with_its_wheel():
    flow = torch.zeros(2, 2, 16, 16)
    flow[0, 0], flow[1, 1] = 4.0, 2.0
    fig = views.image_flow(flow, titles=["right", "down"])
    assert len(fig.axes) == 3 and [ax.get_title() for ax in fig.axes[:2]] == ["right", "down"]
    wheel = fig.axes[-1]
    assert wheel.images[0].get_extent() == [-4, 4, 4, -4] and wheel.get_xlabel() == "pixels right"
    right, down, legend = (np.asarray(image.get_array()).astype(int) for image in images_of(fig))
    assert np.abs(right[5, 5] - legend[100, 200]).max() <= 2  # at full length, on the wheel's right edge
    assert np.abs(down[5, 5] - legend[150, 100]).max() <= 2  # at half length, half way to the bottom
    assert quivers_of(fig.axes[0])[0].scale == quivers_of(fig.axes[1])[0].scale == 4.0  # 4 pixels span a spacing of 1


def test_image_flow_limit_and_no_motion():
    still = views.image_flow(np.zeros((2, 8, 8)))
    assert still.axes[-1].images[0].get_extent() == [-1, 1, 1, -1]
    assert (np.asarray(still.axes[0].images[0].get_array()) == 255).all()
    far = np.zeros((1, 2, 4, 4), np.float32)
    far[:, 0] = 10
    assert np.array_equal(flow_colours(far, 5.0), flow_colours(far / 2, 5.0))  # longer ones are drawn as the limit
    assert not np.array_equal(flow_colours(far, 20.0), flow_colours(far, 10.0))
    for bad in (np.zeros((3, 8, 8)), np.zeros((8, 8)), np.zeros((1, 8, 8, 2))):
        with pytest.raises(ConfigError, match=r"\(2, H, W\)|\(N, 2, H, W\)"):
            views.image_flow(bad)
    with pytest.raises(ConfigError, match="limit"):
        views.image_flow(np.zeros((2, 8, 8)), limit=-1)


# --- volumes -------------------------------------------------------------------------------------------------------


def point_code() -> np.ndarray:
    """(C, D, h, w) = (2, 4, 6, 8), one voxel at z 1, y 2, x 5 with channels 3 and 4: energy 5."""
    code = np.zeros((2, 4, 6, 8), np.float32)
    code[:, 1, 2, 5] = 3, 4
    return code


def test_code_slices_show_energy_on_one_scale():
    fig = views.code_slices(torch.from_numpy(point_code()), count=4)
    assert len(fig.axes) == 2 * 4 + 1
    assert [ax.get_title() for ax in fig.axes[:4]] == ["z (0: near)\n0", "1", "2", "3"]
    assert all(ax.images[0].get_clim() == (0, 5) for ax in fig.axes[:4])
    assert fig.axes[1].images[0].get_array()[2, 5] == 5 and fig.axes[0].images[0].get_array().max() == 0
    assert fig.axes[4].images[0].get_array().shape == (6, 8, 3)
    assert len(views.code_slices(point_code(), count=2).axes) == 5
    assert views.code_slices(point_code(), limit=9).axes[0].images[0].get_clim() == (0, 9)


def test_principal_colours_follow_the_strongest_direction():
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, 4 * 6 * 8).reshape(4, 6, 8)
    code = np.stack([10 * ramp, 0.01 * rng.normal(size=ramp.shape), 10 * ramp, np.zeros_like(ramp)])
    colours, share = principal_colours(code)
    assert share == pytest.approx(1) and colours.shape == (4, 6, 8, 3)
    assert np.corrcoef(colours[..., 0].ravel(), ramp.ravel())[0, 1] > 0.99
    assert colours[0, 0, 0, 0] == 0 and colours[-1, -1, -1, 0] == 1
    flat, share = principal_colours(np.ones((5, 2, 2, 2)))
    assert (flat == 0.5).all() and share == 1


def test_code_projections_look_along_each_axis():
    fig = views.code_projections(point_code())
    front, top, side, bar = fig.axes
    assert [ax.get_xlabel() for ax in (front, top, side)] == ["x (columns)", "x (columns)", "z (0: near)"]
    assert [ax.get_ylabel() for ax in (front, top, side)] == ["y (rows)", "z (0: near)", "y (rows)"]
    arrays = [np.asarray(ax.images[0].get_array()) for ax in (front, top, side)]
    assert [array.shape for array in arrays] == [(6, 8), (4, 8), (6, 4)]
    assert arrays[0][2, 5] == arrays[1][1, 5] == arrays[2][2, 1] == 5 and [array.sum() for array in arrays] == [5, 5, 5]
    assert all(ax.images[0].get_clim() == (0, 5) for ax in (front, top, side)) and bar.get_ylabel() == "largest channel norm"


def point_flow() -> np.ndarray:
    """(D, h, w, 3) = (4, 6, 8, 3); the voxel z 1, y 3, x 5 moves by (1, -1, 2) voxels."""
    flow = np.zeros((4, 6, 8, 3), np.float32)
    flow[1, 3, 5] = 1 * 2 / 8, -1 * 2 / 6, 2 * 2 / 4
    return flow


def test_voxels_per_axis():
    assert np.allclose(in_voxels(point_flow())[1, 3, 5], [1, -1, 2])


def test_voxel_flow_slices_arrows_in_the_slice_colour_through_it():
    fig = views.voxel_flow_slices(torch.from_numpy(point_flow()), count=4)
    panels = [ax for ax in fig.axes if ax.images]
    assert len(panels) == 4 and [ax.get_title() for ax in panels] == ["z = 0 (0: near)", "z = 1", "z = 2", "z = 3"]
    assert all(np.allclose(ax.images[0].get_clim(), (-2, 2)) for ax in panels)
    assert np.isclose(panels[1].images[0].get_array()[3, 5], 2)
    arrow = quivers_of(panels[1])[0]
    assert np.allclose([arrow.X[0], arrow.Y[0], arrow.U[0], arrow.V[0]], [5, 3, 1, -1]) and len(arrow.U) == 1
    assert [len(quivers_of(ax)[0].U) for ax in panels] == [0, 1, 0, 0]
    assert len({quivers_of(ax)[0].scale for ax in panels}) == 1
    assert "longest arrow: 1.41 voxels" in fig.get_supxlabel()
    assert fig.axes[-1].get_ylabel() == "z part, through the slice (voxels)"


def test_voxel_flow_projections_show_the_longest_vector():
    fig = views.voxel_flow_projections(point_flow())
    front, top, side = fig.axes[:3]
    longest = np.sqrt(6)
    for ax, place, across, down in ((front, (3, 5), 1, -1), (top, (1, 5), 1, 2), (side, (3, 1), 2, -1)):
        shown = ax.images[0]
        assert np.allclose(shown.get_clim(), (0, longest)) and np.isclose(shown.get_array()[place], longest)
        arrow = quivers_of(ax)[0]
        assert np.allclose([arrow.X[0], arrow.Y[0], arrow.U[0], arrow.V[0]], [place[1], place[0], across, down])
    assert "longest arrow: 2.45 voxels" in fig.get_supxlabel()


def test_voxel_flow_arrows_start_at_the_strongest_voxels():
    fig = views.voxel_flow_arrows(point_flow())
    ax = fig.axes[0]
    shaft = np.asarray(ax.collections[0]._segments3d)[0]
    assert np.allclose(shaft.min(0), np.minimum(shaft[0], shaft[1])) and [5, 1, 3] in shaft.round(4).tolist()
    direction = shaft[1] - shaft[0]
    assert np.allclose(direction / direction[0], [1, 2, -1])  # matplotlib's axes are x, depth, rows
    assert (ax.get_xlim(), ax.get_ylim(), ax.get_zlim()) == ((0, 8), (0, 4), (6, 0))
    assert [ax.get_xlabel(), ax.get_ylabel(), ax.get_zlabel()] == ["x (columns)", "z (0: near)", "y (rows)"]
    assert isinstance(ax.collections[0], LineCollection)


def test_strongest_keeps_to_the_count_and_covers_the_volume():
    voxels = np.random.default_rng(0).normal(size=(32, 16, 16, 3))
    places = strongest(voxels, 512)
    assert len(places) == 512 and len({tuple(place) for place in places}) == 512
    assert len(strongest(voxels, 511)) == 343 and len(strongest(voxels, 1)) == 1
    assert tuple(strongest(voxels, 1)[0]) == np.unravel_index(np.linalg.norm(voxels, axis=-1).argmax(), (32, 16, 16))


@pytest.mark.parametrize("draw", [views.voxel_flow_slices, views.voxel_flow_projections, views.voxel_flow_arrows])
def test_arrows_say_which_way_they_point(draw):
    assert draw(point_flow()).get_supxlabel().endswith("an arrow points to where a voxel is sampled from")
    assert draw(point_flow(), forward=True).get_supxlabel().endswith("an arrow points to where a voxel goes")


def test_zero_flow_is_drawn_not_divided_by():
    still = np.zeros((4, 6, 8, 3))
    for draw in (views.voxel_flow_slices, views.voxel_flow_projections, views.voxel_flow_arrows):
        fig = draw(still)
        assert fig._repr_mimebundle_() and fig.get_supxlabel() == "no flow anywhere"
    still[..., 2] = 0.1
    assert views.voxel_flow_slices(still).get_supxlabel() == "no flow along these slices"


def test_flow_has_one_map_of_colours_and_numbers_with_room():
    flow = np.random.default_rng(0).normal(size=(8, 32, 32, 3))
    flat, space = views.voxel_flow_projections(flow), views.voxel_flow_arrows(flow)
    assert flat.axes[0].images[0].cmap.name == space.axes[1].collections[-1].cmap.name
    space.draw_without_rendering()
    assert len(space.axes[0].get_yticks()) <= 3 < len(space.axes[0].get_xticks())


@pytest.mark.parametrize("draw", [views.code_slices, views.code_projections])
def test_wrong_code_shapes(draw):
    with pytest.raises(ConfigError, match=r"code must have the shape \(C, D, h, w\), not \(1, 2, 4, 6, 8\)"):
        draw(point_code()[None])


@pytest.mark.parametrize("draw", [views.voxel_flow_slices, views.voxel_flow_projections, views.voxel_flow_arrows])
def test_wrong_voxel_flow_shapes(draw):
    with pytest.raises(ConfigError, match=r"flow must have the shape \(D, h, w, 3\), not \(3, 4, 6, 8\)"):
        draw(np.moveaxis(point_flow(), -1, 0))
    if draw is not views.voxel_flow_projections:
        with pytest.raises(ConfigError, match="count"):
            draw(point_flow(), count=0)


# --- charts --------------------------------------------------------------------------------------------------------


def test_smoothing_is_an_unbiased_average():
    assert np.allclose(smoothed(np.full(5, 3.0), 0.9), 3)
    assert np.allclose(smoothed(np.array([0.0, 3.0]), 0.5), [0, 2])  # (0.5 * 0 * 0.5 + 0.5 * 3) / 0.75
    assert smoothed(np.array([1.0, 7.0]), 0).tolist() == [1, 7]


def test_loss_curves_train_and_validation(tmp_path):
    steps = np.arange(100)
    train = pd.DataFrame({"step": steps, "loss": 2.0, "l1": np.where(steps % 2, np.nan, 1.0)})
    train.to_csv(tmp_path / "train.csv", index=False)
    valid = pd.DataFrame({"step": [50, 99], "loss": [3.0, 2.5]})
    fig = views.loss_curves([tmp_path / "train.csv", valid], ["loss", "l1"], labels=["train", "validation"])
    loss, l1 = fig.axes
    assert (loss.get_title(), l1.get_title(), loss.get_xlabel()) == ("loss", "l1", "step")
    raw, mean, validation = loss.lines
    assert raw.get_alpha() == 0.25 and np.allclose(mean.get_ydata(), 2) and mean.get_label() == "train"
    assert validation.get_ydata().tolist() == [3, 2.5] and validation.get_marker() != "None"
    assert validation.get_linestyle() != mean.get_linestyle()
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train", "validation"]
    assert l1.lines[0].get_xdata().tolist() == list(range(0, 100, 2))  # empty rows are left out
    group = views.loss_curves(train, [["loss", "l1"]], log=True).axes
    assert len(group) == 1 and group[0].get_yscale() == "log"
    for top in (1.5, 3e3):  # within a decade the minor ticks have the labels, else the major ones
        fig = views.loss_curves(pd.DataFrame({"step": [1, 2], "loss": [1.0, top]}), ["loss"], log=True)
        views.save(fig, tmp_path / "log.png")
        labels = [tick.get_text() for which in ("major", "minor") for tick in fig.axes[0].yaxis.get_ticklabels(which=which)]
        assert any(labels) and not any("$" in label for label in labels)
    assert [text.get_text() for text in group[0].get_legend().get_texts()] == ["loss", "l1"]


def test_curves_of_a_training_name_both_tables_and_leave_out_the_validations_loss(tmp_path):
    pd.DataFrame({"step": np.arange(60), "loss": 2.0}).to_csv(tmp_path / "losses.csv", index=False)
    assert list(views.training_tables(tmp_path)) == ["training"]
    pd.DataFrame({"step": [0, 59], "psnr": [20.0, 21.0], "loss": [9.0, 8.0]}).to_csv(tmp_path / "validation.csv", index=False)
    loss, psnr = views.loss_curves(views.training_tables(tmp_path), ["loss", "psnr"]).axes
    named = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in (loss, psnr)]
    assert named == [["training"], ["validation"]] and (loss.get_ylabel(), psnr.get_ylabel()) == ("", "dB")
    assert max(line.get_ydata().max() for line in loss.lines) == pytest.approx(2)


def test_loss_curves_refuse_what_does_not_fit(tmp_path):
    table = pd.DataFrame({"step": [1, 2], "loss": [3.0, 2.5]})
    with pytest.raises(ConfigError, match=r"no loss column 'l2': choose from loss, step"):
        views.loss_curves(table, ["l2"])
    with pytest.raises(MissingInputError, match=r"none\.csv: run the training first"):
        views.loss_curves(tmp_path / "none.csv", ["loss"])
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ConfigError, match=r"empty\.csv is not a readable CSV"):
        views.loss_curves(tmp_path / "empty.csv", ["loss"])
    with pytest.raises(ConfigError, match="smoothing"):
        views.loss_curves(table, ["loss"], smoothing=1.0)
    with pytest.raises(ConfigError, match="labels must hold 1"):
        views.loss_curves(table, ["loss"], labels=["a", "b"])
    with pytest.raises(ConfigError, match="at least one"):
        views.loss_curves(table, [])


def turn(axis: int, degrees: float) -> np.ndarray:
    """Right-handed rotation about x, y or z."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i], matrix[j, j], matrix[i, j], matrix[j, i] = c, c, -s, s
    return matrix


def test_angles_undo_the_rotation_and_do_not_jump():
    path = np.stack([turn(0, 10) @ turn(1, -20) @ turn(2, degrees) for degrees in (0, 120, 240, 359)])
    assert np.allclose(angles(path), [[10, -20, 0], [10, -20, 120], [10, -20, 240], [10, -20, 359]])


def test_camera_path_panels():
    trajectory = np.stack([np.concatenate([turn(1, 5 * i), [[0.1 * i], [0], [0.2 * i]]], axis=1) for i in range(6)])
    fig = views.camera_path(torch.from_numpy(trajectory), cameras=3)
    space, top, translation, rotation = fig.axes
    assert space.get_zlabel() == "y (down)" and top.get_ylabel() == "z (forward)" and rotation.get_xlabel() == "frame"
    assert len(space.lines) == 1 + 3 * 5  # the path, and a rim and four edges per camera
    assert np.allclose(top.lines[0].get_xdata(), 0.1 * np.arange(6)) and np.allclose(top.lines[0].get_ydata(), 0.2 * np.arange(6))
    arrow = quivers_of(top)[0]
    assert np.allclose(arrow.U, np.sin(np.radians([0, 10, 25]))) and np.allclose(arrow.V, np.cos(np.radians([0, 10, 25])))
    assert [line.get_label() for line in translation.lines] == ["x", "y", "z"]
    assert np.allclose(rotation.lines[1].get_ydata(), 5 * np.arange(6))
    assert len({line.get_linestyle() for line in rotation.lines}) == 3
    assert np.allclose(top.get_xlim(), (-0.5, 1.0)) and np.allclose(top.get_ylim(), (-0.25, 1.25))


def test_camera_path_of_one_frame_and_wrong_shape():
    assert views.camera_path(np.eye(4)[None, :3])._repr_mimebundle_()
    with pytest.raises(ConfigError, match=r"trajectory must have the shape \(T, 3, 4\), not \(3, 4\)"):
        views.camera_path(np.eye(4)[:3])


def test_the_best_value_carries_a_star():
    values = pd.Series([24.314, 27.906, np.nan])
    assert [written(value, 2, best_of(values, True)) for value in values] == ["24.31", "27.91 ★", "n/a"]
    assert best_of(values, False) == 24.314 and best_of(pd.Series([np.nan]), True) is None
    assert written(np.inf, 2, best_of(pd.Series([30.0, np.inf]), True)) == "∞ ★"
