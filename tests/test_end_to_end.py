"""All notebooks, through the runner, on videos of one's own: what `make run VIDEO=...` does, at the size of the smoke profile.

Beside good clips the data set has some that can only be left out, and a name that means something to matplotlib, Markdown and shells.
"""

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
from vae4d.clips.video import open_source
from vae4d.errors import NotebookError
from vae4d.workbook.runner import run

ROOT = Path(__file__).resolve().parent.parent
NAME = "a $b^^$ c"


@pytest.fixture(scope="module")
def root(tmp_path_factory, weights) -> Path:
    """A repository with the real notebooks and weights, and a data set, in folders whose names have a space in them."""
    root = tmp_path_factory.mktemp("my work")
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (root / "data").mkdir()
    (root / "data" / "weights").symlink_to(weights)
    videos = root / "my videos"
    lengths = {"train/clip": 10, "validate/0 short": 2, "validate/clip": 10, "test/0 short": 2, "test/z": 8}
    for seed, (name, count) in enumerate(lengths.items()):
        encode(videos / f"{name}.mp4", pictures(count, 96, 80, seed=seed))
    encode(videos / "test" / f"{NAME}.mp4", pictures(8, 100, 64, seed=5), fps=Fraction(30000, 1001))
    return root


def every_view_left_a_picture(name: str, cells: list) -> None:
    """Each view that a cell shows unconditionally is a picture below it, and no widget alone; the panel is five pictures at least."""
    pictures = 0
    for cell in cells:
        found = sum(bool(output.get("data", {}).keys() & {"image/png", "image/jpeg"}) for output in cell.get("outputs", []))
        shows = sum(line.startswith("book.show(") for line in cell.source.splitlines())
        assert found >= (5 if "explorer.explore(" in cell.source else shows), f"{name}: {cell.source}"
        pictures += found
    assert pictures, name


def test_all_notebooks_on_ones_own_videos_then_nothing_to_do(root):
    lines: list[str] = []
    # no test clip gives a window of 3 frames at interval 4, nor a pair at gap 16
    options = {"root": root, "video": root / "my videos", "settings": ["01_data.interval=4", "gaps=[2, 16]"]}
    folder = run("smoke", **options, log=lines.append)
    names = [path.stem for path in sorted((root / "notebooks").glob("*.ipynb"))]
    for name in names:
        cells = nbformat.read(folder / f"{name}.ipynb", as_version=4).cells
        assert all(cell.execution_count for cell in cells if cell.cell_type == "code"), name
        every_view_left_a_picture(name, cells)
        assert json.loads((folder / f"{name}.metrics.json").read_text())["notebook"] == name
    # Exact counts and rate: the profile takes the first 6 frames and doubles their rate.
    film = open_source(folder / "videos" / f"{NAME}_x2.mp4")
    assert film.info.fps == Fraction(60000, 1001) and sum(1 for _ in film.frames()) == 11
    assert sorted(path.suffix for path in (folder / "videos").iterdir()) == [".mp4"] * 4
    table = pd.read_csv(folder / "benchmark" / "summary.csv")
    table = table[(table["clip"] == NAME) & (table["rows"] == "clean")]
    assert set(table["gap"]) == {2} and {"repeat", "linear blend", "DIS", "minterpolate", "model"} <= set(table["method"])
    assert table[["psnr", "ssim", "lpips"]].notna().all().all()
    assert NAME in (folder / "report.html").read_text(encoding="utf-8")
    assert load_model(folder / "flow" / "best.safetensors", "small").flow_trained
    assert any("Look at" in line for line in lines) and "  outputs/smoke/report.html" in lines
    said = "\n".join(lines)
    assert "left out, without a shot of 3 frames within the first 6: 0 short" in said
    assert "64 px, test: left out, as video_limit is 1: z" in said
    assert f"Left out: Clip {NAME!r} has 8 frames, gap 16 needs 17" in said
    assert "Left out: Clip '0 short' has 2 frames, gap 2 needs 3" in said
    again: list[str] = []
    run("smoke", **options, log=again.append)
    assert sum("unchanged" in line for line in again) == len(names)


def test_a_notebook_started_before_its_input_names_the_one_to_run(root):
    with pytest.raises(NotebookError, match=r"03_train_flow failed\. .*run notebook 02_train_autoencoder first"):
        run("smoke", root=root, settings=["03_train_flow.resume=nowhere.safetensors"], only=["03_train_flow"], log=lambda line: None)
