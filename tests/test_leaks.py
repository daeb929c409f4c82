"""The leak check: footage that shows up in two splits is found however it was encoded, and different footage is not."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from make_clips import encode, pictures
from PIL import Image

from vae4d.assets import SAMPLES as SAMPLE_CLIPS
from vae4d.clips.cache import prepare
from vae4d.clips.clip import SPLITS, Clip
from vae4d.evaluation.leaks import COLUMNS, SAMPLES, THRESHOLD, find_leaks, frame_hashes, leak_sentence

pytest.importorskip("imagehash")


def film(seed: int, split: str = "train", count: int = 24, name: str = "") -> Clip:
    frames = np.stack(pictures(count, 64, 64, seed))
    return Clip(name or f"film{seed}", Path("c"), split, Fraction(25), frames, np.arange(count) / 25, (), (), str(seed), Path("c"))


def changed(clip: Clip, frames, split: str = "test") -> Clip:
    return replace(clip, name="copy", split=split, frames=np.stack(list(frames)))


def test_different_footage_is_no_leak():
    table = find_leaks([film(0), film(1, "validate"), film(2, "test")])
    assert list(table.columns) == COLUMNS and len(table) == 3 and not table["leak"].any()
    assert table["distance"].is_monotonic_increasing and table["distance"][0] > THRESHOLD
    assert leak_sentence(table).startswith("Leak check: no footage of one split shows up in another")


@pytest.mark.parametrize(
    "change",
    [
        lambda frames: np.clip(frames * 1.2 + 10, 0, 255).astype(np.uint8),
        lambda frames: (frames * 0.6).astype(np.uint8),
        lambda frames: [np.asarray(Image.fromarray(f).resize((32, 32)).resize((64, 64))) for f in frames],
        lambda frames: frames[7:],
        lambda frames: frames[1::2],
        lambda frames: [np.asarray(Image.fromarray(f[2:-2, 2:-2]).resize((64, 64))) for f in frames],
    ],
    ids=["brighter", "darker", "smaller", "trimmed", "half the rate", "cropped"],
)
def test_changed_copies_are_caught(change):
    original = film(0)
    table = find_leaks([original, film(1, "test"), changed(original, change(original.frames))])
    assert table["leak"].tolist() == [True, False] and table["other"][0] == "copy" and table["frames alike"][0] > 0
    assert leak_sentence(table).startswith("LEAK: splits share footage: film0 (train) frame ")


def test_a_copy_encoded_again_is_caught(tmp_path):
    pytest.importorskip("av")
    original = film(0)
    path = encode(tmp_path / "copy.mp4", list(original.frames), options={"crf": "35", "preset": "veryfast"})
    assert find_leaks([original, prepare(path, tmp_path / "cache", 64, "test")])["leak"].tolist() == [True]


def test_one_split_has_no_leaks():
    table = find_leaks([film(0), changed(film(0), film(0).frames, "train")])
    assert table.empty and "nothing to compare" in leak_sentence(table)


def test_blank_frames_resemble_nothing():
    black = changed(film(0), np.zeros((5, 64, 64, 3), np.uint8), "train")
    table = find_leaks([black, changed(film(0), np.zeros((5, 64, 64, 3), np.uint8)), film(1, "validate")], ["a", "b", "c"])
    assert (table["distance"] == 64).all() and not table["leak"].any()


def test_the_sample_of_frames():
    clip = replace(film(0, count=200), cuts=(101,))
    numbers, hashes = frame_hashes(clip)
    assert SAMPLES <= len(numbers) <= 2 * SAMPLES and 101 in numbers and hashes.shape == (len(numbers), 64) and hashes.dtype == bool
    slow = replace(clip, fps=Fraction(2))  # 100 seconds: none is stepped over
    assert len(frame_hashes(slow)[0]) == 200


def test_the_sample_clips_share_nothing():
    cache = ROOT / "data" / "cache"
    folders = [cache / f"{Path(name).stem}-{digest[:8]}-128" for name, digest in SAMPLE_CLIPS.items()]
    if not all((folder / "manifest.json").exists() for folder in folders):
        pytest.skip("the sample clips were not prepared at 128 px")
    table = find_leaks([Clip.open(folder, split) for folder, split in zip(folders, SPLITS, strict=True)])
    assert len(table) == 3 and table["distance"].min() >= 2 * THRESHOLD and not table["leak"].any()
