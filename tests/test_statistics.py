"""Means, differences and their intervals, on tables whose answer is known on paper or by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vae4d.errors import ConfigError
from vae4d.evaluation import statistics
from vae4d.evaluation.statistics import DIFFERENCES, MOTION_BINS, SUMMARY, block_means, difference_by_motion, differences, summary


def table(values: dict[str, list[float]], clip: str = "c", gap: int = 2, cuts=(), repeated=(), motion=None) -> pd.DataFrame:
    """Scores of methods by name, one value a frame (PSNR), gap - 1 frames a pair."""
    rows = []
    for method, numbers in values.items():
        for index, psnr in enumerate(numbers):
            pair, place = divmod(index, gap - 1)
            rows.append({"clip": clip, "size": 128, "gap": gap, "start": pair * gap, "frame": pair * gap + 1 + place, "t": 0.5,
                         "cut": pair in cuts, "repeated": index in repeated, "motion": 0.5 if motion is None else motion[pair],
                         "method": method, "mse": 255**2 / 10 ** (psnr / 10), "psnr": psnr, "ssim": psnr / 50, "lpips": np.nan})
    return pd.DataFrame(rows)


def test_summary_on_paper():
    scores = table({"a": [20.0, 30.0, np.inf, 50.0], "b": [10.0] * 4}, cuts=[1], repeated=[3])
    short = summary(scores)
    assert list(short.columns) == SUMMARY
    rows = short.set_index(["clip", "method", "rows"])
    one = rows.loc[("c", "a", "clean")]
    assert (one["pairs"], one["frames"], one["exact"]) == (2, 2, 1)
    assert one["psnr"] == 20 and one["psnr_pooled"] == pytest.approx(10 * np.log10(2 / 0.01))  # half of the frames have no error
    every = rows.loc[("c", "a", "cuts included")]
    assert (every["frames"], every["exact"]) == (4, 1) and every["psnr"] == pytest.approx(100 / 3)
    assert rows.loc[("c", "b", "clean"), "psnr_pooled"] == pytest.approx(10) and np.isnan(one["lpips"])


def test_a_clip_all_of_whose_pairs_span_cuts_has_no_clean_row():
    scores = table({"a": [20.0, 30.0], "b": [10.0] * 2}, cuts=[0, 1])
    short = summary(scores)
    assert set(short["rows"]) == {"cuts included"} and list(short["psnr"][short["method"] == "a"]) == [25, 25]  # the clip's and "all"
    assert differences(scores, "b").empty


def test_a_method_that_is_exact_everywhere_has_an_infinite_mean():
    row = summary(table({"a": [np.inf] * 3})).iloc[0]
    assert np.isinf(row["psnr"]) and np.isinf(row["psnr_pooled"]) and row["exact"] == 3


def test_over_all_each_video_counts_once_and_only_those_of_every_method():
    scores = pd.concat([table({"a": [20.0] * 30, "b": [21.0] * 30}, "x"), table({"a": [30.0] * 10, "b": [33.0] * 10}, "y"),
                        table({"a": [90.0] * 10}, "z")])
    short = summary(scores).set_index(["clip", "method", "rows"])
    a, b = short.loc[("all", "a", "clean")], short.loc[("all", "b", "clean")]
    assert (a["psnr"], b["psnr"], a["videos"], a["frames"]) == (25, 27, 2, 40)
    assert a["psnr_pooled"] == pytest.approx(10 * np.log10(2 / (0.01 + 0.001)))
    # a method that failed somewhere has no row over all, and does not take videos from the others
    failed = summary(scores, {(128, 2, "b")}).set_index(["clip", "method", "rows"])
    assert failed.loc[("all", "a", "clean"), "videos"] == 3 and ("all", "b", "clean") not in failed.index


def test_a_constant_difference_has_an_interval_of_no_width():
    psnr = np.random.default_rng(0).normal(30, 5, 40)
    row = differences(table({"b": list(psnr), "a": list(psnr + 1.5)}), "b").set_index("clip").loc["c"]
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((1.5, 1.5, 1.5), abs=1e-9)
    assert (row["videos"], row["pairs"], row["frames"], row["undefined"]) == (1, 40, 40, 0)


def test_differences_leave_cuts_and_repeats_out_and_count_what_is_undefined():
    a = [1.0, 99.0, 1.0, 99.0, np.inf, np.inf]
    row = differences(table({"b": [0.0, 0.0, 0.0, 0.0, np.inf, 0.0], "a": a}, cuts=[1], repeated=[3]), "b").iloc[0]
    assert (row["pairs"], row["frames"], row["undefined"]) == (3, 3, 1)
    assert row["mean"] == pytest.approx(2 / 3)  # 1, 1, and 0 where both are exact
    assert np.isnan(row["low"]) and np.isnan(row["high"])  # three pairs are too few


def test_frames_of_a_pair_are_averaged_before_resampling():
    one = differences(table({"b": [0.0] * 30, "a": list(np.arange(30.0))}), "b").iloc[0]
    three = differences(table({"b": [0.0] * 90, "a": list(np.repeat(np.arange(30.0), 3))}, gap=4), "b").iloc[0]
    assert (three["pairs"], three["frames"]) == (30, 90) and three["mean"] == one["mean"]
    # not three times as many independent values
    assert three["high"] - three["low"] == pytest.approx(one["high"] - one["low"], rel=0.1)


def test_the_seed_decides_and_nothing_else():
    rng = np.random.default_rng(0)
    scores = pd.concat([table({"b": list(rng.normal(30, 1, 20)), "a": list(rng.normal(30, 1, 20))}, clip) for clip in "xy"])
    first = differences(scores, "b")
    pd.testing.assert_frame_equal(first, differences(scores.sample(frac=1, random_state=1), "b"))
    alone = differences(scores[scores["clip"] == "y"], "b")
    assert alone.iloc[0].tolist() == first[first["clip"] == "y"].iloc[0].tolist()
    assert differences(scores, "b", seed=1)["low"][0] != first["low"][0]


def test_a_minus_b_mirrors_b_minus_a():
    rng = np.random.default_rng(0)
    scores = pd.concat([table({"b": list(rng.normal(30, 1, 20)), "a": list(rng.normal(31, 1, 20))}, f"v{i}") for i in range(8)])
    there, back = (differences(scores, reference).set_index("clip") for reference in "ab")
    for low, high in (("low", "high"), ("high", "low")):
        assert there[low].to_numpy() == pytest.approx(-back[high].to_numpy())


def series(n: int, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """A stationary first-order autoregressive series of mean 0 and variance 1."""
    x = np.empty(n)
    x[0] = rng.normal()
    for i in range(1, n):
        x[i] = correlation * x[i - 1] + np.sqrt(1 - correlation**2) * rng.normal()
    return x


def width(values: np.ndarray, runs=None) -> float:
    ones = np.ones(len(values))
    means = block_means(values, ones, np.zeros(len(values)) if runs is None else runs, np.random.default_rng(0), 2000)
    return float(np.subtract(*np.percentile(means, [97.5, 2.5])))


def test_intervals_of_independent_values_cover_the_truth():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        values = rng.normal(size=60)
        means = block_means(values, np.ones(60), np.zeros(60), rng, 2000)
        low, high = np.percentile(means, [2.5, 97.5])
        covered += low <= 0 <= high
    assert 0.86 <= covered / 200 <= 0.98  # percentile intervals of 12 blocks are a little narrow
    assert width(rng.normal(size=400)) == pytest.approx(2 * 1.96 / 20, rel=0.25)


def test_correlated_values_get_wider_intervals():
    rng = np.random.default_rng(0)
    ratios = [width(x) / (2 * 1.96 * x.std() / 20) for x in (series(400, 0.8, rng) for _ in range(10))]
    assert np.mean(ratios) > 1.5  # 3 would be right for infinitely long blocks, 1 is the naive interval


def test_blocks_never_cross_a_cut():
    # Two shots whose pairs cancel across the cut: blocks within shots keep the shots' means apart.
    values, runs = np.array([1.0] * 10 + [-1.0] * 10), np.repeat([0, 1], 10)
    ones = np.ones(20)
    drawn = block_means(values, ones, runs, np.random.default_rng(0), 2000)
    assert set(np.round(drawn, 6)) <= {-1.0, -0.5, 0.0, 0.5, 1.0}  # 4 whole blocks, each of one shot
    mixed = block_means(values, ones, np.zeros(20), np.random.default_rng(0), 2000)
    assert not set(np.round(mixed, 6)) <= {-1.0, -0.5, 0.0, 0.5, 1.0}


def test_runs_end_at_cuts_and_where_pairs_are_left_out():
    scores = table({"a": [1.0] * 8}, cuts=[3])
    runs = statistics._runs(scores[scores["start"] != 12])
    assert runs["start"].tolist() == [0, 2, 4, 6, 8, 10, 14]
    a, b, c, cut, d, e, f = runs["run"]
    assert a == b == c and len({a, cut, d, f}) == 4 and d == e


def test_every_pair_counts_alike_in_short_and_long_shots():
    values, runs = np.array([0.0] * 40 + [9.0, 9.0]), np.array([0] * 40 + [1, 1])
    drawn = block_means(values, np.ones(42), runs, np.random.default_rng(0), 20000)
    assert drawn.mean() == pytest.approx(values.mean(), rel=0.15)


def videos(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.concat([table({"b": [0.0] * 10, "a": list(rng.normal(i, 0.1, 10))}, f"v{i}") for i in range(count)])


def test_across_videos_seven_are_not_enough():
    seven = differences(videos(7), "b").set_index("clip").loc["all"]
    assert seven["videos"] == 7 and seven["mean"] == pytest.approx(3, abs=0.1) and np.isnan([seven["low"], seven["high"]]).all()
    eight = differences(videos(8), "b").set_index("clip").loc["all"]
    assert (eight["videos"], eight["pairs"]) == (8, 80)
    spread = 1.96 * np.arange(8).std() / np.sqrt(8)  # of the videos' means, not of their pairs
    assert (eight["low"], eight["high"]) == pytest.approx((3.5 - spread, 3.5 + spread), abs=0.3)


def test_differences_by_motion():
    motion = [0.5] * 10 + [1.0] * 10 + [5.0] * 4
    scores = table({"b": [0.0] * 24, "a": [1.0] * 10 + [2.0] * 10 + [3.0] * 4}, motion=motion)
    rows = difference_by_motion(scores, "b").set_index(["clip", "motion"])
    assert list(rows.loc["c"].index) == [MOTION_BINS[0], MOTION_BINS[1], MOTION_BINS[3]]
    assert rows.loc["c", "mean"].tolist() == [1, 2, 3] and rows.loc["c", "pairs"].tolist() == [10, 10, 4]
    assert rows.loc[("c", MOTION_BINS[0]), ["low", "high"]].tolist() == [1, 1] and np.isnan(rows.loc[("c", MOTION_BINS[3]), "low"])
    assert rows.loc["c", "frames"].sum() == differences(scores, "b").iloc[0]["frames"]


def test_wrong_requests():
    scores = table({"a": [1.0], "b": [2.0]})
    with pytest.raises(ConfigError, match="There is no method 'DIS' to compare with: scored are a, b"):
        differences(scores, "DIS")
    with pytest.raises(ConfigError, match="resamples is 100"):
        differences(scores, "a", resamples=100)
    with pytest.raises(ConfigError, match="metric is 'l1'"):
        differences(scores, "a", "l1")
    assert list(differences(scores, "a").columns) == DIFFERENCES
