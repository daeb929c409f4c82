"""Scoring: which frames are scored, and with what, on clips whose answer is known."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_recipe import golden_model

from vae4d.clips.clip import Clip
from vae4d.errors import ClipError, ConfigError
from vae4d.evaluate import ModelMethod, blend, gaps, moments, repeat, score, summary, write_table


def make_clip(frames: np.ndarray, cuts=(), duplicates=(), times=None) -> Clip:
    times = np.arange(len(frames)) / 25 if times is None else np.asarray(times)
    return Clip("c", Path("c"), "test", Fraction(25), frames, times, tuple(cuts), tuple(duplicates), "0", Path("c"))


@pytest.fixture
def ramp() -> Clip:
    """Frames that brighten by 10 grey levels each: linear blending is exact, repeating is not."""
    return make_clip(np.full((9, 16, 16, 3), 20, np.uint8) + 10 * np.arange(9, dtype=np.uint8)[:, None, None, None])


def test_pairs_stay_within_shots_and_follow_each_other(ramp):
    assert gaps(ramp, 2) == [0, 2, 4, 6] and gaps(ramp, 4) == [0, 4]
    assert gaps(make_clip(ramp.frames, cuts=[3]), 2) == [0, 3, 5]
    assert gaps(ramp, 2, limit=2) == [0, 6]
    with pytest.raises(ConfigError, match="gap is 1"):
        gaps(ramp, 1)


def test_moments_follow_the_time_stamps_and_leave_repeats_out(ramp):
    assert moments(ramp, 0, 4) == [(1, 0.25), (2, 0.5), (3, 0.75)]
    uneven = make_clip(ramp.frames, duplicates=[2], times=[0, 1, 2, 6, 10, 11, 12, 13, 14])
    assert moments(uneven, 0, 4) == [(1, 0.1), (3, 0.6)]


def test_baselines_on_a_ramp(ramp):
    table = score([ramp], {"repeat": repeat, "linear blend": blend}, gap=4)
    rows = table.set_index(["method", "frame"])
    assert rows.loc["linear blend", "psnr"].map(np.isinf).all()
    assert rows.loc[("repeat", 1), "mse"] == 100 and rows.loc[("repeat", 2), "mse"] == 400 and rows.loc[("repeat", 3), "mse"] == 100
    short = summary(table).set_index("method")
    assert short.loc["linear blend", "exact"] == 6 and short.loc["repeat", "frames"] == 6
    # Pooled: 10 log10(255^2 / 200); the mean over frames is higher.
    assert short.loc["repeat", "psnr_pooled"] == pytest.approx(10 * np.log10(255**2 / 200))
    expected = np.mean([10 * np.log10(255**2 / error) for error in (100, 400, 100)])
    assert short.loc["repeat", "psnr"] == pytest.approx(expected)
    assert short["lpips"].isna().all()


def test_a_model_is_a_method_and_encodes_a_shared_frame_once(monkeypatch):
    model = golden_model("small")
    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    clip, calls = make_clip(frames), []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda frame: calls.append(1) or encode(frame))
    table = score([clip], {"model": ModelMethod(model, use_flow=True)}, gap=2)
    assert len(calls) == 3 and len(table) == 2
    with torch.no_grad():
        image = model(clip.tensor(0)[None], clip.tensor(2)[None], 0.5, use_flow=True).image
    error = ((image * 255).round() - clip.tensor(1)[None] * 255).square().mean().item()
    assert table["mse"][0] == pytest.approx(error, rel=1e-4)


def test_lpips_is_used_when_given(ramp, weights):
    pytest.importorskip("lpips")
    from vae4d.perceptual import load_lpips

    big = make_clip(np.repeat(np.repeat(ramp.frames, 4, 1), 4, 2))
    table = score([big], {"linear blend": blend, "repeat": repeat}, gap=2, lpips=load_lpips(weights)).set_index("method")
    assert table.loc["linear blend", "lpips"].abs().max() < 1e-6 < table.loc["repeat", "lpips"].min()


def test_nothing_to_score_is_said(ramp):
    with pytest.raises(ClipError, match="longer clip"):
        score([ramp], {"repeat": repeat}, gap=16)
    with pytest.raises(ClipError, match="repeats the one before it, choose a larger gap"):
        score([make_clip(ramp.frames, duplicates=[1, 3, 5, 7])], {"repeat": repeat}, gap=2)


def test_tables_are_written_whole(ramp, tmp_path):
    write_table(summary(score([ramp], {"repeat": repeat})), tmp_path / "metrics.csv")
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == "clip,gap,method,frames,psnr,psnr_pooled,ssim,lpips,exact"
