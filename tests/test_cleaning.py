"""Cleaning by the base model's reconstruction error: what counts, what goes, and that test clips are left alone."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_recipe import golden_model
from torch import nn

from vae4d.clips.cleaning import Cleaned, clean, reconstruction_errors
from vae4d.clips.clip import Clip
from vae4d.errors import ClipError, ConfigError
from vae4d.faithful.model import Encoded

GREY = 51  # of 255: 0.2


def clip(name: str, level: int = GREY, split: str = "train", size: int = 80) -> Clip:
    """One clip: a flat first frame of grey `level`, then noise."""
    frames = np.random.default_rng(level).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    frames[0] = level
    return Clip(name, Path(name), split, Fraction(30), frames, np.arange(3) / 30, (), (), "", Path(name))


class AddsRed(nn.Module):
    """A stand-in for the base model that gives back its frame, with red too bright by the grey level."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.batches: list[int] = []
        self.eval()

    def encode(self, frames: torch.Tensor) -> Encoded:
        self.batches.append(len(frames))
        return Encoded(frames, frames)

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        return code * torch.tensor([2.0, 1.0, 1.0])[:, None, None]


def test_the_error_is_the_sum_of_the_channels_norms_of_the_corner():
    class Spot(AddsRed):
        def decode(self, code):
            code = code.clone()
            code[:, 0, 69, 69] += 0.3  # the last pixel that counts
            code[:, 0, 3, 4] += 0.4
            code[:, 2, 0, 0] -= 0.1
            code[:, :, 70, 0] += 0.5
            code[:, :, 0, 70] += 0.5
            return code

    assert reconstruction_errors(Spot(), [clip("a")]) == pytest.approx([0.5 + 0.1], abs=1e-6)


def test_flat_errors_are_known_on_paper():
    clips = [clip("a", 51), clip("b", 102), clip("small", 51, size=32), clip("white", 255)]
    assert reconstruction_errors(AddsRed(), clips) == pytest.approx([70 * 0.2, 70 * 0.4, 32 * 0.2, 0.0], abs=1e-5)  # white: clamped


def test_the_largest_error_is_210():
    class Inverts(AddsRed):
        def decode(self, code):
            return 10 - 20 * code

    assert reconstruction_errors(Inverts(), [clip("black", 0), clip("white", 255)]) == pytest.approx([210, 210])


def test_clips_are_read_in_batches_of_one_size():
    model, clips = AddsRed(), [clip(str(i), i) for i in range(5)] + [clip("small", size=32)]
    errors = reconstruction_errors(model, clips, batch=2)
    assert model.batches == [2, 2, 1, 1] and errors.shape == (6,) and errors.dtype == np.float64
    assert errors == pytest.approx(reconstruction_errors(model, clips, batch=100))
    assert reconstruction_errors(model, []).shape == (0,)


def test_a_model_of_the_package_is_scored_by_its_clamped_pictures():
    model = golden_model("small")
    found = reconstruction_errors(model, [clip("a", size=80), clip("b", 200, size=80)])
    with torch.no_grad():
        frame = clip("b", 200).tensor(0)[None]
        off = (model.decode(model.encode(frame).code).clamp(0, 1) - frame)[0, :, :70, :70]
    assert found[1] == pytest.approx(sum(torch.linalg.matrix_norm(channel).item() for channel in off), rel=1e-4)
    assert ((found > 0) & (found <= 210)).all()


CLIPS = (clip("good", 51), clip("bad", 102), clip("test good", 51, "test"), clip("test bad", 102, "test"), clip("watch", 102, "validate"))


def names(clips: list[Clip]) -> list[str]:
    return [clip.name for clip in clips]


def test_test_clips_are_neither_looked_at_nor_removed():
    model = AddsRed()
    found = clean(model, CLIPS, limit=20)
    assert isinstance(found, Cleaned) and found.limit == 20
    assert names(found.kept) == ["good", "test good", "test bad"] and names(found.removed) == ["bad", "watch"]
    assert sum(model.batches) == 3
    assert found.table.kept.tolist() == [True, False, True, True, False]
    assert found.table.error.isna().tolist() == [False, False, True, True, False]
    assert found.table["clip"].tolist() == names(CLIPS) and found.table.split[2] == "test"


def test_published_cleaning_chooses_test_clips_too():
    found = clean(AddsRed(), CLIPS, limit=20, own_splits=False)
    assert names(found.kept) == ["good", "test good"] and names(found.removed) == ["bad", "test bad", "watch"]
    assert found.table.error.tolist() == pytest.approx([14, 28, 14, 28, 28], abs=1e-5)


def test_the_limit_itself_is_removed_and_the_published_one_is_50():
    (exact,) = reconstruction_errors(AddsRed(), [CLIPS[1]])
    assert names(clean(AddsRed(), CLIPS[:2], limit=exact).removed) == ["bad"]
    assert names(clean(AddsRed(), CLIPS[:2], limit=np.nextafter(exact, 99)).removed) == []
    assert clean(AddsRed(), CLIPS).limit == 50 and clean(AddsRed(), CLIPS).table.kept.all()


def test_a_picture_that_is_not_finite_is_removed():
    class Breaks(AddsRed):
        def decode(self, code):
            return code * torch.where(code[:, :1] > 0.3, math.nan, 1.0)

    found = clean(Breaks(), CLIPS)
    assert names(found.removed) == ["bad", "watch"] and found.table.error[1] == math.inf


def test_what_cannot_be_cleaned_is_said():
    model = AddsRed()
    with pytest.raises(ClipError, match=r"remove all 3 clips \(the smallest error is 14, the limit 10\): load a trained base model"):
        clean(model, CLIPS, limit=10)
    with pytest.raises(ClipError, match="There is no clip to clean"):
        clean(model, CLIPS[2:4])
    for limit in (0, -1.0, math.nan):
        with pytest.raises(ConfigError, match="would remove every clip"):
            clean(model, CLIPS, limit=limit)
    with pytest.raises(ConfigError, match="batch = 0 is out of range"):
        reconstruction_errors(model, CLIPS, batch=0)
    with pytest.raises(ConfigError, match=r"in train mode: call model\.eval\(\) first"):
        clean(AddsRed().train(), CLIPS)
