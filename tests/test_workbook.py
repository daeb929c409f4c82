"""The notebooks' helpers: parameters to options, the repository's root, figures, links, metrics."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from make_clips import pictures, save_images
from PIL import Image

from vae4d.clips.datasets import prepare_dataset
from vae4d.errors import ConfigError, MissingInputError
from vae4d.faithful.train import TrainConfig
from vae4d.views.figures import picture
from vae4d.workbook import lineup
from vae4d.workbook import notebook as workbook
from vae4d.workbook.settings import DataSettings, ScoreSettings, SynthesisSettings, as_options, coerced, typed


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A repository with notebooks, entered."""
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("value", "default", "expected"),
    [
        ("7", 1, 7),
        (7.0, 1, 7),
        ("2e-4", 1.0, 2e-4),
        (3, 1.0, 3.0),
        ("true", False, True),
        ("False", True, False),
        (None, "", ""),
        (2024, "samples", "2024"),
        ("[2, 4]", (8,), (2, 4)),
        ([2, 4], (8,), (2, 4)),
        (4, (8,), (4,)),
    ],
)
def test_values_get_their_defaults_type(value, default, expected):
    result = coerced("x", value, default)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "default"),
    [(2.5, 1), ("many", 1), (True, 1), (None, 1), ("fast", 1.0), (True, 1.0), (1, False), ("yes", False), ("[2, x]", (8,)), (["a"], (8,))],
)
def test_values_that_say_something_else_are_refused(value, default):
    with pytest.raises(ConfigError, match=r"^x is .*: give "):
        coerced("x", value, default)


def test_training_options_from_the_command_lines_text():
    config = typed(TrainConfig, "{'workers': '0'}", stage="base", epochs="3", lr="1e-3", restart="true", resume=None)
    assert (config.workers, config.epochs, config.lr, config.restart, config.resume) == (0, 3, 1e-3, True, "")


def test_unknown_and_doubled_options_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'epochs'"):
        typed(TrainConfig, epoch=3)
    with pytest.raises(ConfigError, match="parameter of its own"):
        typed(TrainConfig, {"epochs": 2}, epochs=3)
    with pytest.raises(ConfigError, match="options by name"):
        typed(TrainConfig, "workers", epochs=3)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (DataSettings, {"input_size": 100}),
        (DataSettings, {"clip_length": 1}),
        (DataSettings, {"worlds": 0}),
        (SynthesisSettings, {"factor": 0}),
        (SynthesisSettings, {"semantics": "mended"}),
        (SynthesisSettings, {"orbit_angle": math.inf}),
        (ScoreSettings, {"gaps": [1, 2]}),
        (ScoreSettings, {"gaps": []}),
        (ScoreSettings, {"device": "tpu"}),
        (ScoreSettings, {"sizes": [100]}),
        (ScoreSettings, {"sizes": [128, 128]}),
        (ScoreSettings, {"worlds": -1}),
        (ScoreSettings, {"workers": 0}),
    ],
)
def test_values_out_of_range(kind, values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        typed(kind, **values)


def test_a_list_that_stands_for_two_options():
    for value in ("[5, 3]", [5, 3]):
        assert as_options("substeps", value, "pairs", "triplets") == {"pairs": 5, "triplets": 3}
    for value in ([5], 5, [1, 2, 3], "five", [0.5, 1]):
        with pytest.raises(ConfigError, match="substeps"):
            as_options("substeps", value, "pairs", "triplets")


def test_the_root_is_found_from_below_and_from_elsewhere(root, tmp_path_factory):
    assert workbook.repository_root(root / "notebooks") == root
    assert workbook.repository_root(root) == root
    package = Path(workbook.__file__).resolve().parents[2]
    assert workbook.repository_root(tmp_path_factory.mktemp("elsewhere")) == package


def test_a_missing_input_names_the_notebook(root):
    with pytest.raises(MissingInputError, match="run notebook 03_train_flow first"):
        workbook.require("outputs/x/best.safetensors", "03_train_flow")
    assert workbook.require(root, "01_data") == root


def test_start_enters_the_root_and_prints_what_ran(root, capsys, monkeypatch):
    monkeypatch.chdir(root / "notebooks")
    book = workbook.start("01_data", typed(DataSettings, run_dir="outputs/t", seed=5))
    first = torch.rand(1)
    assert Path.cwd() == root and book.folder == Path("outputs/t")
    printed = capsys.readouterr().out
    assert f"torch {torch.__version__}".split("+")[0] in printed and "seed 5" in printed and "input_size=128" in printed
    torch.manual_seed(5)
    assert torch.equal(first, torch.rand(1))


def test_links_lead_from_the_notebook_to_the_file(root, monkeypatch):
    shown = []
    monkeypatch.setattr(workbook, "display_markdown", shown.append)
    settings = typed(DataSettings, run_dir="outputs/t")
    from_root = workbook.start("04_interpolate", settings)
    from_root.link(Path("outputs/t/videos/a b.mp4"), "text")
    os.chdir(root / "notebooks")
    workbook.start("04_interpolate", settings).link(Path("outputs/t/videos/a b.mp4"), "text")
    assert "(<videos/a b.mp4>)" in shown[0] and "(<../outputs/t/videos/a b.mp4>)" in shown[1]


def test_figures_and_metrics_are_written(root):
    book = workbook.start("02_train_autoencoder", typed(DataSettings, run_dir="outputs/t"))
    fig = picture(1.0, 1.0)
    for name, said in (("losses", ""), ("first", "One."), ("losses", "")):
        book.show(fig, name, said)
    assert (root / "outputs/t/figures/02_losses.png").read_bytes()[:4] == b"\x89PNG"
    book.lap("a step")
    path = book.write_metrics(psnr=np.float32(2.5), nothing=math.nan, exact=math.inf, rows=[{"n": np.int64(3)}])
    found = json.loads((root / path).read_text())
    assert path == Path("outputs/t/02_train_autoencoder.metrics.json")
    assert (found["psnr"], found["nothing"], found["exact"], found["rows"]) == (2.5, None, "inf", [{"n": 3}])
    assert found["figures"] == {"02_first.png": "One.", "02_losses.png": ""} and list(found["figures"]) == ["02_first.png", "02_losses.png"]
    assert found["laps"].keys() == {"a step"} and found["peak_memory_gb"] > 0.05 and found["settings"]["input_size"] == 128


def test_pictures_are_told_in_words(root, monkeypatch):
    shown = []
    monkeypatch.setattr(workbook, "display", lambda value, **how: shown.append(how["metadata"]))
    book = workbook.start("02_train_autoencoder", typed(DataSettings, run_dir="outputs/t"))
    book.show(picture(1.0, 1.0), "first_losses")
    book.show(picture(1.0, 1.0), "losses", "The loss falls.")
    book.show(Image.new("RGB", (4, 4)), "square", "A black square.")
    assert [alt["image/png"]["alt"] for alt in shown] == ["Figure: first losses", "The loss falls.", "A black square."]
    assert shown[0]["image/jpeg"] == shown[0]["image/png"]  # a large figure is shown as JPEG
    assert Image.open("outputs/t/figures/02_square.png").size == (4, 4)


def test_sizes_that_are_not_prepared_are_prepared_and_short_clips_take_no_place(root, capsys):
    for seed, (name, frames) in enumerate({"train/a": 6, "test/a short": 3, "test/b": 6, "test/c": 6}.items()):
        save_images(root / "films" / name, pictures(frames, 64, 64, seed))
    prepare_dataset("films", 32, progress=None, require=())
    capsys.readouterr()
    settings = ScoreSettings(dataset="films", sizes=(32, 48), gaps=(4, 8), video_limit=1)
    clips = lineup.scored_clips(settings)
    assert [(clip.size, clip.name) for clip in clips] == [(size, name) for size in (32, 48) for name in ("a", "b", "a short")]
    said = capsys.readouterr().out
    assert "48 px, test: left out, as video_limit is 1: c" in said and said.count("6 frames, 25 frames a second") == 3  # 48 px alone
