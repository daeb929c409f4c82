"""A training that is watched: widgets that change, a training that does not, and no fault of a picture that stops it."""

from __future__ import annotations

import io
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from make_clips import pictures, save_images
from PIL import Image

from vae4d.clips.datasets import prepare_dataset
from vae4d.evaluation.benchmark import benchmark
from vae4d.evaluation.methods import baselines
from vae4d.progress import Line
from vae4d.sharp.training import SharpTrainConfig, train_sharp
from vae4d.training.runlog import result_of
from vae4d.workbook import live
from vae4d.workbook.live import Bar, Live, watched

FRAMES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def between(model):
    return {"first frame": FRAMES[0], "drawn between": model.synthesise(FRAMES[:1], FRAMES[1:], 0.5).image[0].detach()}


def config(folder: Path, **options) -> SharpTrainConfig:
    return SharpTrainConfig(str(folder), **{"steps": 4, "bsize": 2, "size": 64, "worlds": 0, "valid_freq": 2, "save_freq": 2} | options)


@pytest.fixture
def shown(monkeypatch):
    """The panels that were displayed; drawn at every step."""
    panels = []
    monkeypatch.setattr(live, "display", panels.append)
    monkeypatch.setattr(live, "OFTEN", 0)
    monkeypatch.setattr(live, "SELDOM", 0)
    monkeypatch.setattr(live, "SHARE", 1e9)
    return panels


def png(image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.value)).convert("L"))


def test_the_bar_the_curves_and_the_sample_follow_a_training_that_learns_the_same(tmp_path, shown):
    result = watched(train_sharp, config(tmp_path / "seen"), between, interactive=True)
    text, bar, curves, picture = shown[0].children
    assert (bar.value, bar.max) == (4, 4) and "Step 4 of 4" in text.value and "Finished." in text.value and "validation" in text.value
    assert png(curves).std() > 0 and png(picture).std() > 0
    unseen = watched(train_sharp, config(tmp_path / "unseen"), between, interactive=False)
    assert len(shown) == 1
    one, other = (pd.read_csv(folder / "losses.csv").drop(columns=["drawing_seconds", "step_seconds"])
                  for folder in (result.folder, unseen.folder))  # fmt: skip
    pd.testing.assert_frame_equal(one, other)


def test_an_interrupt_leaves_a_run_that_goes_on_and_says_so(tmp_path, shown):
    def impatient(options, watch):
        def row(total, table, values):
            watch(total, table, values)
            if values["step"] == 2:
                signal.raise_signal(signal.SIGINT)

        return train_sharp(options, watch=row)

    with pytest.raises(KeyboardInterrupt):
        watched(impatient, config(tmp_path, valid_freq=10), between, interactive=True)
    text, bar, *_ = shown[0].children
    assert "Step 2 of 4" in text.value and "Interrupted: run the cell again" in text.value and bar.value == 2
    result = watched(train_sharp, config(tmp_path, valid_freq=10), between, interactive=True)
    assert result.finished and list(pd.read_csv(tmp_path / "losses.csv")["step"]) == [1, 2, 3, 4]


def test_the_sample_is_drawn_anew_only_for_new_weights(tmp_path, shown, monkeypatch):
    drawn = []
    train_sharp(config(tmp_path))
    view = Live(tmp_path, lambda model: drawn.append(1) or between(model))
    for step in (1, 2):
        view.row(4, "losses", {"step": step, "loss": 1.0})
    assert drawn == [1]
    path = result_of(tmp_path)
    path.write_bytes(path.read_bytes())
    view.row(4, "losses", {"step": 3, "loss": 1.0})
    assert drawn == [1, 1]


def test_a_fault_of_a_picture_is_named_and_stops_nothing(tmp_path, shown):
    def broken(model):
        raise ValueError("no <frame>")

    assert watched(train_sharp, config(tmp_path), broken, interactive=True).finished
    view = Live(tmp_path, broken)
    view.row(4, "losses", {"step": 1, "loss": 1.0})
    assert "No picture: ValueError: no &lt;frame&gt;" in view.text.value


def test_an_error_of_the_training_is_raised_and_named(tmp_path, shown):
    def failing(options, watch):
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        watched(failing, SimpleNamespace(savepath=tmp_path), between, interactive=True)
    assert "Stopped by an error." in shown[0].children[0].value


class Shown:
    """A display that is shown anew."""

    def __init__(self, picture, raw, display_id):
        assert raw and display_id
        self.pictures = [picture]

    def update(self, picture, raw):
        self.pictures.append(picture)


@pytest.fixture
def bars(monkeypatch):
    """The displays of bars."""
    found = []
    monkeypatch.setattr(live, "display", lambda *args, **how: found.append(Shown(*args, **how)) or found[-1])
    monkeypatch.setattr(live, "OFTEN", 0)
    return found


def test_a_bar_follows_the_work_and_forgets_no_line(bars, monkeypatch, capsys):
    cells = [1]
    monkeypatch.setattr(live, "running_cell", lambda: cells[0])
    bar = Bar()
    bar("left out: a & b")
    assert capsys.readouterr().out == "left out: a & b\n" and not bars
    bar(Line("[1/4] <one>: FAILED.", 0.25, wrong=True))
    assert capsys.readouterr().out == "[1/4] <one>: FAILED.\n"  # not to be folded away
    bar(Line("[2/4] two", 0.5))
    last = bars[0].pictures[-1]
    assert all(part in last["text/html"] for part in ('value="0.500"', "[2/4] two</div>", "&lt;one&gt;: FAILED.", "lines so far: 2"))
    assert not capsys.readouterr().out and last["text/plain"] == "[1/4] <one>: FAILED.\n[2/4] two"
    cells[0] = 2
    bar(Line("all", 1.0))
    assert len(bars) == 2 and bars[1].pictures[-1]["text/plain"] == "all" and bars[0].pictures[-1] is last  # it stays as it ended


def test_a_bar_is_not_redrawn_at_every_line_but_at_the_last(bars, monkeypatch):
    monkeypatch.setattr(live, "running_cell", lambda: 1)
    monkeypatch.setattr(live, "OFTEN", 1e6)
    bar = Bar()
    for number in range(1, 5):
        bar(Line(f"{number}", number / 4))
    assert [picture["text/plain"] for picture in bars[0].pictures] == ["1", "1\n2\n3\n4"]


def test_long_work_says_how_far_it_is(tmp_path):
    """Preparation and benchmark: shares that rise to the whole."""
    said: list[str] = []
    for seed in range(3):
        save_images(tmp_path / "set" / "test" / f"walk{seed}", pictures(5, seed=seed))
    (tmp_path / "set" / "test" / "torn.mp4").write_bytes(b"torn")
    data = prepare_dataset(tmp_path / "set", 32, tmp_path / "data", said.append, ("test",))
    assert [line.share for line in said if isinstance(line, Line)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert any("torn.mp4 (test): left out" in line for line in said if not isinstance(line, Line))  # printed, not folded away
    said.clear()
    benchmark(data.split("test"), baselines(["linear blend"]), [2, 4], tmp_path / "scores", lpips=False, progress=said.append)
    scored = [line.share for line in said if isinstance(line, Line)]
    assert scored == sorted(scored) and len(scored) == 6 and scored[0] < 0.5 and scored[-1] == 1
