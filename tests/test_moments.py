"""One moment as the models see it, and the pictures of the README."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from make_clips import pictures, save_images
from PIL import Image
from test_showcase import make_clip

from vae4d import build_model
from vae4d.__main__ import main
from vae4d.checkpoint import save_checkpoint
from vae4d.errors import CheckpointError, ConfigError, MissingInputError
from vae4d.metrics import to_uint8
from vae4d.sharp.model import SharpAutoencoder4D
from vae4d.workbook import moments, opening, published
from vae4d.workbook.opening import STEPS, VIEWS, ShowcaseOptions, showcase
from vae4d.workbook.settings import SynthesisSettings


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A clip of 6 frames at 32 px, and a checkpoint of each family with random weights."""
    home = tmp_path_factory.mktemp("home")
    save_images(home / "films" / "test" / "moving", pictures(6, 32, 32, seed=1))
    save_checkpoint(home / "sharp.safetensors", build_model("sharp", seed=1), "sharp")
    save_checkpoint(home / "flow.safetensors", build_model("small", seed=1), "flow")
    return home


def settings(home, **changes) -> SynthesisSettings:
    return SynthesisSettings(**{"resume": str(home / "sharp.safetensors"), "faithful": str(home / "flow.safetensors")} | changes)


def test_the_faithful_model_stands_beside_the_sharp_one(home):
    book = SimpleNamespace(folder=home / "run", device=torch.device("cpu"))
    path, shown, beside = moments.models(book, settings(home, padding_mode="border"))
    assert path.name == "sharp.safetensors" and isinstance(shown, SharpAutoencoder4D)
    assert beside.config.preset == "small" and beside.config.padding_mode == "border" and beside.flow_trained
    _, shown, beside = moments.models(book, settings(home, resume=str(home / "flow.safetensors"), padding_mode="border"))
    assert shown is beside and shown.config.padding_mode == "border"
    with pytest.raises(MissingInputError, match="run notebook 03_train_flow first"):
        moments.models(book, settings(home, faithful=""))
    with pytest.raises(CheckpointError, match="preset 'sharp', of the wrong family here"):
        moments.models(book, settings(home, faithful=str(home / "sharp.safetensors")))


def test_the_job_leaves_out_what_a_sharp_checkpoint_does_not_have(home):
    book, given = SimpleNamespace(folder=home / "run"), settings(home, padding_mode="border", scale_rotate=0.5)
    assert published.job_options(book, given, home / "sharp.safetensors").changes == {}
    assert published.job_options(book, given, home / "flow.safetensors").changes == {"padding_mode": "border", "scale_rotate": 0.5}


def test_beside_the_truth_stand_names_with_their_psnr():
    clip = make_clip(5)  # a grey ramp, whose middle the blend finds exactly
    made = moments.beside({"sharp": build_model("sharp"), "small": build_model("small")}, clip, [1, 3])
    assert [name.split("\n")[0] for name in made] == ["sharp", "small", "linear blend", "DIS warp"]
    assert "linear blend\ninf dB" in made and all(frames.shape == (2, 3, 32, 32) for frames in made.values())
    assert "sharp\ninf dB" in made  # untrained it is the blend


def test_strip_and_beliefs_of_both_families():
    first, second = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    sharp, small = build_model("sharp"), build_model("small")
    titles = [ax.get_title() for ax in moments.strip(sharp, first, second, 0.05).axes]
    assert [title for title in titles if title][5:] == [
        "depth (bright: near)", "motion", "camera to the left", "camera to the right", "linear blend, t = 0.5"]  # fmt: skip
    assert len(moments.strip(small, first, second, 0.05).axes) == 5
    assert [name for name, _ in moments.beliefs(sharp, first, second)] == ["motion", "depth", "shares", "planes"]
    assert list(moments.beliefs(small, first, second)) == []


def test_to_the_right_is_where_the_camera_stands():
    """The moved camera's origin among the points of the other: a swing of 0.1 round the point at the median depth, 1 in front."""
    place = build_model("sharp").offset(moments.sideways(0.1), torch.ones(1))[0, :3, 3]
    torch.testing.assert_close(place, torch.tensor([math.sin(0.1), 0, 1 - math.cos(0.1)]), rtol=0, atol=1e-6)


PICTURES = STEPS + 1 + STEPS // 2 - 1 + VIEWS + STEPS // 2


def duration(film: Image.Image) -> list[int]:
    """Milliseconds of every picture; PIL knows them once it is loaded."""
    return [film.seek(i) or (film.load() and film.info["duration"]) for i in range(film.n_frames)]


def test_the_animation_goes_there_and_back_and_ends_where_it_begins():
    first, second = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = list(opening.animation(build_model("sharp"), first, second, 0.04))
    assert len(made) == PICTURES
    for at, frame in ((0, first), (STEPS, second)):
        shown = np.asarray(made[at])[opening.HEADER : opening.HEADER + 32, :32]
        assert np.abs(shown.astype(int) - to_uint8(frame[None])[0]).max() <= 1  # rounding


def test_the_command_writes_both_pictures(home, capsys):
    where = {"output": home / "docs", "checkpoint": home / "sharp.safetensors", "dataset": home / "films", "data-root": home}
    options = [text for name, value in where.items() for text in (f"--{name}", str(value))]
    assert main(["showcase", *options, "--clip", "moving", "--start", "1", "--gap", "2", "--input-size", "32"]) == 0
    assert "animation.webp" in capsys.readouterr().out
    assert (home / "docs" / "strip.png").read_bytes().startswith(b"\x89PNG")
    with Image.open(home / "docs" / "animation.webp") as film:
        assert VIEWS < film.n_frames <= PICTURES  # WebP makes one of two that are equal
        assert sum(duration(film)) == PICTURES * 83
        film.seek(0)
        assert film.size == (2 * 32 + opening.GAP, 32 + 2 * opening.HEADER)
        shown = np.asarray(film.convert("RGB"))[opening.HEADER : opening.HEADER + 32]
    truth = np.asarray(opening.clip_of(ShowcaseOptions(
        dataset=str(home / "films"), clip="moving", start=1, gap=2, input_size=32, data_root=str(home))).frames[1])  # fmt: skip
    assert np.abs(shown[:, :32].astype(int) - truth).mean() < 12  # lossy, but frame 0 on the left
    assert (home / "docs" / "animation.webp").stat().st_size < opening.LARGEST


def test_the_command_says_what_is_wrong(home, monkeypatch):
    given = {"output": str(home / "none"), "dataset": str(home / "films"), "data_root": str(home), "input_size": 32, "clip": "moving"}
    sharp = given | {"checkpoint": str(home / "sharp.safetensors")}
    with pytest.raises(ConfigError, match="preset 'small', which has no depth: take a sharp checkpoint"):
        showcase(ShowcaseOptions(**given, checkpoint=str(home / "flow.safetensors")))
    with pytest.raises(ConfigError, match="Frames 4 and 12 of moving are not within one shot: its shots are 0 to 5"):
        showcase(ShowcaseOptions(**sharp, start=4))
    with pytest.raises(ConfigError, match="clip"):
        showcase(ShowcaseOptions(**sharp | {"clip": "movin"}, start=1, gap=2))
    with pytest.raises(ConfigError, match="turn is 2"):
        ShowcaseOptions(turn=2)
    with pytest.raises(ConfigError, match="gap 0"):
        ShowcaseOptions(gap=0)
    monkeypatch.setattr(opening, "LARGEST", 10)
    with pytest.raises(ConfigError, match="larger than 10 bytes: choose a smaller input_size"):
        showcase(ShowcaseOptions(**sharp, start=1, gap=2))
    assert not list((home / "none").glob("*.webp"))
