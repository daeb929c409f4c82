"""The study of notebook 06: what a table of runs says about each repair. The trainings themselves run in test_end_to_end.py."""

from __future__ import annotations

import pandas as pd
import pytest
from make_clips import pictures, save_images

from vae4d.clips.datasets import prepare_dataset
from vae4d.errors import ClipError
from vae4d.workbook import repair_study as study


def runs(worth: dict[str, list[float]]) -> pd.DataFrame:
    """A table as `study` gives it: every variant loses by `worth`, one number a seed, against 20 dB."""
    variants = ["repaired", study.MODEL_ROWS, *(f"repaired-{row}" for row in study.TRAINED)]
    rows = [
        {"semantics": name, "seed": seed, "psnr": 20 + seed - worth.get(name, [0, 0, 0])[seed], "last": 19.5 + seed, "flow": 0.0}
        for name in variants
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def test_a_repair_is_worth_its_difference_seed_by_seed():
    table = study.worth(runs({"repaired-5": [0.5, 1.0, 1.5], "repaired-6": [-1.0, 0.0, 0.5], study.MODEL_ROWS: [2.0, 2.0, 2.0]}))
    assert list(table.index) == ["1", "2", "3", "4", "5", "6", "7", "8", "10", "1 to 6"]
    assert table.loc["5", ["repaired", "as published", "worth", "least", "most", "seeds"]].tolist() == [21, 20, 1, 0.5, 1.5, 3]
    assert table.loc["6", ["least", "most"]].tolist() == [-1, 0.5]  # what hurts is not hidden
    assert table.loc["7", "worth"] == 0.5 and table.loc["1 to 6", "worth"] == 2 and table.loc["1", "worth"] == 0
    chart = study.chart(table)
    assert chart["category"].tolist() == list(table.index) and chart["mean"].tolist() == table["worth"].tolist()


def test_matrices_that_are_not_inverted_charge_a_perfect_path_with_errors(tmp_path):
    table = study.camera_worth(study.StudySettings(run_dir=str(tmp_path)), worlds=3, frames=4)
    assert table.loc["repaired"].max() < 1e-6
    assert table.loc["as published", "rotation"] > 0.5 and table.loc["as published", "position"] > 1e-5


def test_tables_say_their_units_and_which_way_is_better(tmp_path):
    cameras = study.camera_worth(study.StudySettings(run_dir=str(tmp_path)), worlds=1, frames=3).rename(columns=study.HEADS)
    assert list(cameras) == ["position error, world units ↓", "rotation error, degrees ↓"]
    assert {"psnr", "ssim", "vgg_cosine", "dropped"} < study.HEADS.keys()


def test_clips_are_prepared_in_two_ways_and_each_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "validate", "test"):
        save_images(tmp_path / "set" / split / "clip", pictures(6, 48, 40, seed=len(split)))
    lines: list[str] = []
    study.prepare(study.StudySettings(dataset="set", input_size=32), lines.append)
    ways = [number for number, line in enumerate(lines) if line.startswith("clips ")]
    assert ["cropped" in lines[ways[0]], "squashed" in lines[ways[1]]] == [True, True] and ways[0] == 0 and ways[1] > 2


def test_clips_shorter_than_the_gap_are_left_out_and_none_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, split in enumerate(("train", "validate", "test")):
        save_images(tmp_path / "set" / split / "clip", pictures(6, 48, 40, seed=number))
    save_images(tmp_path / "set" / "test" / "short", pictures(3, 48, 40, seed=9))
    prepare_dataset("set", 32, progress=None)
    settings = study.StudySettings(run_dir=str(tmp_path / "run"), dataset="set", input_size=32, gap=4)
    assert 10 < study.score(settings, None) < 60
    with pytest.raises(ClipError, match="more than 8 frames: choose a smaller gap"):
        study.score(study.StudySettings(run_dir="run", dataset="set", input_size=32, gap=8), None)
