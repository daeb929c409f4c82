"""The five notebooks, through the runner, on a video of one's own: what `make run VIDEO=...` does, at the size of the smoke profile."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from make_clips import encode, pictures

from vae4d import load_model
from vae4d.errors import NotebookError
from vae4d.runner import run
from vae4d.video import open_source

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def root(tmp_path_factory, weights) -> Path:
    """A repository with the real notebooks and weights, synthetic sample clips, and a folder name with a space in it."""
    root = tmp_path_factory.mktemp("my work")
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (root / "data" / "samples").mkdir(parents=True)
    (root / "data" / "weights").symlink_to(weights)
    for seed, name in enumerate(("bigbuckbunny.mp4", "carphone_pristine.mp4")):
        encode(root / "data" / "samples" / name, pictures(8, 96, 80, seed=seed))
    encode(root / "my clip.mp4", pictures(9, 100, 64, seed=5), fps=Fraction(30000, 1001))
    return root


def test_all_notebooks_on_ones_own_video_then_nothing_to_do(root):
    lines: list[str] = []
    folder = run("smoke", root=root, video=root / "my clip.mp4", log=lines.append)
    names = [path.stem for path in sorted((root / "notebooks").glob("*.ipynb"))]
    for name in names:
        cells = nbformat.read(folder / f"{name}.ipynb", as_version=4).cells
        assert all(cell.execution_count for cell in cells if cell.cell_type == "code"), name
        assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", [])), name
        assert json.loads((folder / f"{name}.metrics.json").read_text())["notebook"] == name
    # Exact counts and rate: the profile takes the first 6 frames and doubles their rate.
    film = open_source(folder / "videos" / "my clip_x2.mp4")
    assert film.info.fps == Fraction(60000, 1001) and sum(1 for _ in film.frames()) == 11
    assert sorted(path.suffix for path in (folder / "videos").iterdir()) == [".mp4"] * 4
    table = pd.read_csv(folder / "metrics.csv")
    assert set(table["clip"]) == {"my clip"} and {"repeat", "linear blend", "model"} <= set(table["method"])
    assert table[["psnr", "ssim", "lpips"]].notna().all().all()
    assert load_model(folder / "flow" / "best.safetensors", "small").flow_trained
    assert any("Look at" in line for line in lines)
    again: list[str] = []
    run("smoke", root=root, video=root / "my clip.mp4", log=again.append)
    assert sum("unchanged" in line for line in again) == len(names)


def test_a_notebook_started_before_its_input_names_the_one_to_run(root):
    with pytest.raises(NotebookError, match=r"03_train_flow failed\. .*run notebook 02_train_autoencoder first"):
        run("smoke", root=root, settings=["03_train_flow.resume=nowhere.safetensors"], only=["03_train_flow"], log=lambda line: None)
