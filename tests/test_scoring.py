"""Scoring: what a method gets, what its rows say, and what it may not return, on clips whose answer is known."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from vae4d.clips.clip import Clip
from vae4d.errors import MethodError
from vae4d.evaluation import scoring
from vae4d.evaluation.methods import PairMethod, blend, repeat
from vae4d.evaluation.scoring import COLUMNS, clean, score_method


def make_clip(frames: np.ndarray, cuts=(), duplicates=()) -> Clip:
    return Clip("c", Path("c"), "test", Fraction(25), frames, np.arange(len(frames)) / 25, tuple(cuts), tuple(duplicates), "0", Path("c"))


@pytest.fixture
def ramp() -> Clip:
    """Frames that brighten by 10 grey levels each: linear blending is exact, repeating is not."""
    return make_clip(np.full((9, 16, 16, 3), 20, np.uint8) + 10 * np.arange(9, dtype=np.uint8)[:, None, None, None])


METHODS = {"repeat": PairMethod(repeat), "linear blend": PairMethod(blend)}


def scored(clip: Clip, gap: int, lpips: torch.nn.Module | None = None) -> pd.DataFrame:
    """The scores of both baselines."""
    return pd.concat([score_method(clip, gap, name, method, lpips) for name, method in METHODS.items()], ignore_index=True)


def test_baselines_on_a_ramp(ramp):
    table = scored(ramp, 4)
    assert list(table.columns) == COLUMNS and len(table) == 12
    rows = table.set_index(["method", "frame"])
    assert np.isinf(rows.loc["linear blend", "psnr"]).all() and (rows.loc["linear blend", "ssim"] == 1).all()
    assert rows.loc["repeat", "mse"].tolist() == [100, 400, 100, 100, 400, 100]
    assert rows.loc[("repeat", 2), "psnr"] == pytest.approx(10 * np.log10(255**2 / 400))
    assert table["t"].tolist() == [0.25, 0.5, 0.75] * 4 and table["start"].tolist() == [0, 0, 0, 4, 4, 4] * 2
    assert set(table["clip"]) == {"c"} and set(table["size"]) == {16} and set(table["gap"]) == {4}
    assert table["lpips"].isna().all()


def test_pairs_across_cuts_and_repeats_are_scored_and_kept_apart(ramp):
    table = score_method(make_clip(ramp.frames, cuts=[5], duplicates=[1]), 2, "blend", PairMethod(blend), label="film")
    assert table["cut"].tolist() == [False, False, True, False] and table["repeated"].tolist() == [True, False, False, False]
    assert clean(table)["frame"].tolist() == [3, 7] and set(table["clip"]) == {"film"}


def test_motion_is_the_length_of_the_flow():
    pytest.importorskip("cv2")
    base = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    wide = np.kron(base, np.ones((8, 8, 1))).astype(np.uint8)  # 192 px of 8 px blocks
    wide = np.stack([np.convolve(row, np.ones(9) / 9, "same") for row in wide.reshape(192, -1, 3).transpose(0, 2, 1).reshape(-1, 192)])
    wide = wide.reshape(192, 3, 192).transpose(0, 2, 1).astype(np.uint8)
    clip = make_clip(np.stack([wide[:128, 3 * i : 3 * i + 128] for i in range(3)]))  # to the left by 3 px a frame
    assert score_method(clip, 2, "repeat", PairMethod(repeat))["motion"][0] == pytest.approx(6, abs=1)
    still = make_clip(np.stack([wide[:128, :128]] * 3))
    assert score_method(still, 2, "repeat", PairMethod(repeat))["motion"][0] < 0.05


def test_a_method_sees_the_given_frames_alone_and_shared_frames_once(ramp):
    seen = []

    class Spy:
        settings = {}  # noqa: RUF012

        def __call__(self, pairs):
            for pair in pairs:
                seen.append(pair)
                yield blend(pair.first, pair.second, pair.times)

    score_method(ramp, 4, "spy", Spy())
    assert [float(x.mean() * 255) for pair in seen for x in (pair.first, pair.second)] == pytest.approx([20, 60, 60, 100])
    assert seen[0].second is seen[1].first and seen[1].follows(seen[0])


def test_memory_is_constant_a_method_that_streams_holds_one_pair(ramp, monkeypatch):
    decoded = []
    original = Clip.tensor
    monkeypatch.setattr(Clip, "tensor", lambda self, index: decoded.append(index) or original(self, index))

    class Streaming:
        settings = {}  # noqa: RUF012

        def __call__(self, pairs):
            for pair in pairs:
                assert max(i for i in decoded if isinstance(i, int)) == pair.start + pair.gap  # nothing was read ahead
                yield blend(pair.first, pair.second, pair.times)

    score_method(ramp, 2, "streaming", Streaming())
    assert decoded == [0, 2, [1], 4, [3], 6, [5], 8, [7]]


def test_a_method_may_read_ahead(ramp):
    class Ahead:
        settings = {}  # noqa: RUF012

        def __call__(self, pairs):
            return [blend(pair.first, pair.second, pair.times) for pair in list(pairs)]

    assert np.isinf(score_method(ramp, 2, "ahead", Ahead())["psnr"]).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda a, b, t: torch.zeros(len(t), 3, 8, 8), "shape"),
        (lambda a, b, t: torch.zeros(len(t) + 1, 3, 16, 16), "4 frames, not 3"),
        (lambda a, b, t: torch.zeros(len(t), 3, 16, 16, dtype=torch.uint8), "uint8"),
        (lambda a, b, t: torch.full((len(t), 3, 16, 16), torch.nan), "not finite"),
        (lambda a, b, t: None, "NoneType"),
    ],
)
def test_wrong_predictions_name_the_method_and_the_clip(ramp, wrong, message):
    with pytest.raises(MethodError, match=rf"Method 'mine' returned .*{message}.* for c \("):
        score_method(ramp, 4, "mine", PairMethod(wrong))


@pytest.mark.parametrize(("change", "word"), [(lambda made: made[:-1], "fewer"), (lambda made: made + made[:1], "more")])
def test_too_few_and_too_many_predictions(ramp, change, word):
    class Counting:
        settings = {}  # noqa: RUF012

        def __call__(self, pairs):
            return change([repeat(pair.first, pair.second, pair.times) for pair in pairs])

    with pytest.raises(MethodError, match=f"Method 'counting' returned {word} predictions than"):
        score_method(ramp, 2, "counting", Counting())


def test_a_prediction_before_any_pair_was_read(ramp):
    class Early:
        settings = {}  # noqa: RUF012

        def __call__(self, pairs):
            yield torch.zeros(1, 3, 16, 16)

    with pytest.raises(MethodError, match="more predictions than the pairs it read"):
        score_method(ramp, 2, "early", Early())


def test_threads_are_as_before_also_after_a_failure(ramp):
    threads = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        score_method(ramp, 2, "broken", PairMethod(lambda a, b, t: 1 / 0))
    assert torch.get_num_threads() == threads


def test_lpips_is_the_same_in_batches_over_pairs(ramp, weights, monkeypatch):
    pytest.importorskip("lpips")
    from vae4d.perceptual import load_lpips

    big, model = make_clip(np.repeat(np.repeat(ramp.frames, 4, 1), 4, 2)), load_lpips(weights)
    table = scored(big, 2, model)
    values = table.set_index("method")["lpips"]
    assert values["linear blend"].abs().max() < 1e-6 < values["repeat"].min()
    monkeypatch.setattr(scoring, "LPIPS_BATCH", 3)
    assert scored(big, 2, model)["lpips"].to_numpy() == pytest.approx(table["lpips"].to_numpy(), abs=1e-6)
