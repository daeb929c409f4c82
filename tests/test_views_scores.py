"""Views of scores and of procedural truth, on tables and pictures whose marks are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import LineCollection

from vae4d import views
from vae4d.errors import ConfigError
from vae4d.views.scores import styles, wrapped
from vae4d.views.truth import rotation_vector

METHODS = ["linear blend", "DIS", "model"]


def table() -> pd.DataFrame:
    rows = [("below 1", "DIS", 2.0, 1.0, 3.0, 12), ("below 1", "model", -5.0, -6.0, -4.0, 12), ("1-2", "DIS", 0.5, np.nan, np.nan, 3)]
    return pd.DataFrame(rows, columns=["category", "method", "mean", "low", "high", "count"])


def test_intervals_are_bars_and_what_has_none_is_hollow():
    fig = views.interval_chart({"bikes": table()}, METHODS, "PSNR minus linear blend (dB)", "motion in px", zero=True)
    (ax,) = fig.axes
    bars = [segment[:, 1].tolist() for part in ax.collections if isinstance(part, LineCollection) for segment in part.get_segments()]
    assert sorted(bars) == [[-6.0, -4.0], [1.0, 3.0]]
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white" and len(line.get_ydata())]
    assert [line.get_ydata().tolist() for line in hollow] == [[0.5]]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["below 1\nn = 12", "1-2\nn = 3"]
    assert ax.get_ylabel() == "PSNR minus linear blend (dB)" and ax.get_xlabel() == "motion in px"
    names = [text.get_text() for text in fig.legends[0].get_texts()]
    assert names == ["DIS", "model", "hollow: interval not estimable"]  # linear blend is in no panel


def test_no_two_methods_look_alike():
    marks = styles([f"method {i}" for i in range(20)])
    assert len(set(marks.values())) == 20
    assert wrapped("carphone_pristine") == "carphone_\npristine" and wrapped("below 1") == "below 1"


def test_interval_charts_refuse_what_does_not_fit():
    with pytest.raises(ConfigError, match="nothing to draw"):
        views.interval_chart({}, METHODS, "dB")
    with pytest.raises(ConfigError, match="'a' of interval_chart lacks the column count"):
        views.interval_chart({"a": table().drop(columns="count")}, METHODS, "dB")
    with pytest.raises(ConfigError, match="not among DIS"):
        views.interval_chart({"a": table()}, ["DIS"], "dB")


def test_comparison_strips_take_titles():
    frames = torch.full((2, 3, 8, 8), 0.5)
    fig = views.comparison_strip(frames, {"DIS": frames}, [0.25, 0.5], titles=["best", "worst"])
    assert [ax.get_title() for ax in fig.axes[:2]] == ["best\nt = 0.25", "worst\nt = 0.50"]
    with pytest.raises(ConfigError, match="titles must hold 2 texts"):
        views.comparison_strip(frames, {"DIS": frames}, 0.5, titles=["best"])


def test_depth_is_aligned_and_flow_shares_the_scale_of_the_truth():
    frames = torch.zeros(1, 2, 3, 8, 8)
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0] = 2.0
    depth = torch.linspace(1, 4, 64).view(1, 8, 8)
    flows, depths = {"truth": flow, "half": flow / 2}, {"truth": depth, "thrice": 3 * depth}
    fig = views.flow_and_depth(frames, flows, depths, ["world"], {"flow half": ["EPE 1.00 px"]})
    pictures = [ax.images[0].get_array() for ax in fig.axes[:6]]
    assert np.allclose(pictures[4], pictures[5])  # up to one factor
    assert pictures[3].astype(int).sum() > pictures[2].astype(int).sum()  # half the length is paler
    assert fig.axes[2].get_xlabel() == "full colour 2 px" and fig.axes[3].get_xlabel() == "EPE 1.00 px"
    with pytest.raises(ConfigError, match="truth first"):
        views.flow_and_depth(frames, {}, depths, ["world"], {})


def test_rotations_are_drawn_in_degrees():
    turn = np.deg2rad(30)
    about_y = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    assert np.allclose(rotation_vector(about_y), [0, 30, 0]) and np.allclose(rotation_vector(np.eye(3)), 0)
    pose = np.hstack([about_y, [[1.0], [0], [0]]])
    fig = views.pose_comparison([pose], {"model": [np.eye(4)[:3]]}, ["world\n" * 6 + "last line"])
    fig.draw_without_rendering()
    assert fig.axes[0].title.get_window_extent().y1 <= fig.bbox.y1  # all lines are in the picture
    heights = [bar.get_height() for bar in fig.axes[1].patches]
    assert np.allclose(heights, [0, 30, 0, 0, 0, 0])
    with pytest.raises(ConfigError, match="1 poses of each method"):
        views.pose_comparison([pose], {"model": []}, ["world"])


def test_what_is_not_scored_is_washed_out_but_in_the_given_picture():
    black, mask = torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :, :4] = True
    fig = views.masked_views({"given": black, "model": black}, mask, ["world"], {"model": ["20.0 dB"]})
    given, model = (ax.images[0].get_array() for ax in fig.axes)
    assert given.max() == 0 and model[:, :4].max() == 0 and np.allclose(model[:, 4:], 0.75)
    assert fig.axes[1].get_xlabel() == "20.0 dB"
    with pytest.raises(ConfigError, match="1 pictures of each name"):
        views.masked_views({"given": black}, mask[:, :4], ["world"], {})


def test_the_histogram_of_cleaning_counts_what_is_removed():
    errors = [10.0, 11.0, 49.9, 50.0, 80.0, np.inf, np.nan, np.nan]
    fig = views.error_histogram(errors, 50.0)
    (ax,) = fig.axes
    assert ax.get_title() == "3 of 6 clips removed, 1 of them without a finite error; 2 test clips not looked at"
    bars = [bar for bar in ax.patches if bar.get_height()]
    kept, removed = ([bar for bar in bars if bool(bar.get_hatch()) == hatched] for hatched in (False, True))
    assert sum(bar.get_height() for bar in kept) == 3 and sum(bar.get_height() for bar in removed) == 2
    assert max(bar.get_x() + bar.get_width() for bar in kept) <= 50 + 1e-9 and min(bar.get_x() for bar in removed) >= 50 - 1e-9
    assert ax.lines[0].get_xdata()[0] == 50 and ax.get_xlim()[1] > 80


def test_the_histogram_shows_its_limit_where_nothing_is_removed():
    fig = views.error_histogram([3.0], 50.0)
    assert fig.axes[0].get_title() == "0 of 1 clips removed" and fig.axes[0].get_xlim()[1] > 50
    assert views.error_histogram([np.inf], 50.0).axes[0].get_title() == "1 of 1 clips removed, 1 of them without a finite error"
    for wrong in ([], [np.nan], np.ones((2, 2))):
        with pytest.raises(ConfigError, match="at least one number"):
            views.error_histogram(wrong, 50.0)
    with pytest.raises(ConfigError, match="limit must be a positive number, not nan"):
        views.error_histogram([3.0], np.nan)
