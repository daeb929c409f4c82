"""The runner on throwaway notebooks; kernel starts are few, as each takes about two seconds."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("papermill")
import nbformat

from vae4d.__main__ import main
from vae4d.errors import ConfigError, MissingInputError, NotebookError, StorageError
from vae4d.workbook import runner
from vae4d.workbook.profiles import find_notebooks, interpret, load_profile, plan

PARAMETERS = 'run_dir = "outputs/none"\nepochs = 2\nlr = 1e-3\ndataset = "samples"\nsizes = [64]\nlimit = None\nquiet = False'


def write_notebook(root: Path, name: str, *cells: str, parameters: str = PARAMETERS) -> Path:
    """A notebook with a cell of parameters and the given code cells."""
    made = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}), *map(nbformat.v4.new_code_cell, cells)]
    notebook = nbformat.v4.new_notebook(cells=made)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = root / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)
    return path


def write_profile(root: Path, text: str, name: str = "quick") -> Path:
    folder = root / "notebooks" / "profiles"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(text)
    return folder


def planned(root: Path, *settings: str, video=None) -> dict[str, dict]:
    profile = load_profile("quick", root / "notebooks" / "profiles")
    return {step.name: step.parameters for step in plan(profile, root / "notebooks", "outputs/quick", settings, video)}


@pytest.fixture
def root(tmp_path):
    """Two notebooks and a profile, never run."""
    write_notebook(tmp_path, "01_first")
    write_notebook(tmp_path, "02_second", parameters='run_dir = "x"\nepochs = 7\nsteps = 10  # batches, 0 for all')
    write_profile(tmp_path, "[all]\nepochs = 3\n[02_second]\nsteps = 5\n[runner]\ncell_timeout = 60\nexpected_seconds = {01_first = 4}")
    return tmp_path


def test_profile_then_video_then_settings(root):
    assert planned(root) == {
        "01_first": {"epochs": 3, "run_dir": "outputs/quick"},
        "02_second": {"epochs": 3, "steps": 5, "run_dir": "outputs/quick"},
    }
    video = root / "my.mp4"
    video.touch()
    found = planned(root, "epochs=9", "02_second.steps=6", "lr=1", "sizes=[64, 128]", "quiet=true", "limit=4", video=video)
    assert found["01_first"] == {"epochs": 9, "lr": 1.0, "sizes": [64, 128], "quiet": True, "limit": 4, "dataset": str(video),
                                 "run_dir": "outputs/quick"}
    assert type(found["01_first"]["lr"]) is float  # an int given for a float
    assert found["02_second"] == {"epochs": 9, "steps": 6, "run_dir": "outputs/quick"}
    profile = load_profile("quick", root / "notebooks" / "profiles")
    assert profile.cell_timeout == 60 and profile.expected_seconds == {"01_first": 4}


def test_a_quoted_tilde_is_the_home_folder(root, monkeypatch):
    (root / "my.mp4").touch()
    monkeypatch.setenv("HOME", str(root))
    assert planned(root, video="~/my.mp4")["01_first"]["dataset"] == str(root / "my.mp4")
    assert planned(root, "dataset=~/clips")["01_first"]["dataset"] == str(root / "clips")


@pytest.mark.parametrize(("text", "default", "value"), [
    ("3", 1, 3), ("3", "a", "3"), ("2026-01-01", "a", "2026-01-01"), ("'quoted'", "a", "quoted"), ("a=b", "x", "a=b"),
    ("true", False, True), ("1e-4", 0.1, 1e-4),
    ("null", None, None), ("None", None, None), ("word", None, "word"), ('{"a": 1}', {}, {"a": 1}), ("", "x", ""),
    ("2026-01-01", None, "2026-01-01"),
])
def test_typed_values(text, default, value):
    found = interpret(text, default)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("setting", "message"), [
    ("epoch=3", r"No notebook has a parameter 'epoch': did you mean epochs\?"),
    ("02_second.lr=3", r"02_second has no parameter 'lr': known are epochs, run_dir, steps"),
    ("03_third.lr=3", r"There is no notebook '03_third'"),
    ("epochs=many", r"01_first\.epochs is 'many', a text, but its default 2 is a whole number"),
    ("epochs=1.5", r"epochs is 1\.5, a number, but"),
    ("epochs=true", r"epochs is True, true or false, but"),
    ("quiet=1", r"quiet is 1, a whole number, but its default False is true or false"),
    ("sizes=64", r"sizes is 64, a whole number, but its default \[64\] is a list"),
    ("epochs", r"--set epochs: write it as name=value"),
    ("run_dir=elsewhere", r"run_dir is outputs/quick, after the profile"),
])
def test_unknown_and_mistyped_settings(root, setting, message):
    with pytest.raises(ConfigError, match=message):
        planned(root, setting)


def test_bad_profiles(root):
    folder = write_profile(root, "[02_second]\nstep = 1")
    with pytest.raises(ConfigError, match=r"02_second has no parameter 'step': did you mean steps\?"):
        planned(root)
    write_profile(root, "[02_sekond]\nsteps = 1")
    with pytest.raises(ConfigError, match=r"no notebook '02_sekond': did you mean 02_second\?"):
        planned(root)
    write_profile(root, "steps = 1")
    with pytest.raises(ConfigError, match=r"quick\.toml has a stray 'steps'"):
        planned(root)
    write_profile(root, "[runner]\ntimeout = 1")
    with pytest.raises(ConfigError, match=r"quick\.toml has a stray 'timeout'"):
        planned(root)
    write_profile(root, "[all")
    with pytest.raises(ConfigError, match=r"quick\.toml is not TOML"):
        planned(root)
    with pytest.raises(ConfigError, match=r"no profile 'fast' .* one of these: quick"):
        load_profile("fast", folder)


def test_missing_notebooks_video_and_literals(root, tmp_path_factory):
    with pytest.raises(MissingInputError, match="There are no notebooks"):
        find_notebooks(tmp_path_factory.mktemp("empty"))
    with pytest.raises(MissingInputError, match=r"There is no video gone\.mp4"):
        planned(root, video="gone.mp4")
    (root / "notebooks" / "03_broken.ipynb").write_text("{")
    with pytest.raises(ConfigError, match=r"03_broken\.ipynb is not a readable notebook"):
        planned(root)
    write_notebook(root, "03_broken", parameters='run_dir = "x"\nsize = 2 * 64')
    with pytest.raises(ConfigError, match=r"The parameter size of .*03_broken\.ipynb is 2 \* 64: write a literal"):
        planned(root)
    write_notebook(root, "03_broken", parameters="size = 64")
    with pytest.raises(ConfigError, match="03_broken has no parameter 'run_dir'"):
        planned(root)


WRITE = """\
import os, sys, pathlib
folder = pathlib.Path(run_dir, "videos")
folder.mkdir(parents=True, exist_ok=True)
(folder / "made.txt").write_text(f"{epochs} {dataset}")
print("half", end=" ")
print("a line")
assert pathlib.Path("notebooks").is_dir()"""
WHO = f"import sys\nassert sys.executable == {sys.executable!r}, sys.executable"


def run(root: Path, *settings: str, **options) -> list[str]:
    said = []
    runner.run(root=root, settings=settings, log=said.append, **options)
    return said


def test_run_skip_and_run_again(tmp_path, monkeypatch):
    """Two kernel starts for the first run, none for its repetition, one for a changed second notebook."""
    first = write_notebook(tmp_path, "01_first", WRITE, WHO)
    second = write_notebook(tmp_path, "02_second", "print(epochs)")
    write_profile(tmp_path, "[all]\nepochs = 5\n[runner]\nexpected_seconds = {01_first = 3, 02_second = 65}")
    stray = tmp_path / "stray" / "kernels" / "python3"  # a kernel of the user's that must not be taken
    stray.mkdir(parents=True)
    (stray / "kernel.json").write_text(json.dumps({"argv": ["false"], "display_name": "stray", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "stray"))
    monkeypatch.setenv("MPLBACKEND", "agg")

    said = run(tmp_path)
    folder = tmp_path / "outputs" / "quick"
    assert said[:2] == ["[1/2] 01_first running, expected 3 s", "    half a line"]
    assert said[2].startswith("[1/2] 01_first done in ") and said[2].endswith("s, about 1 min 5 s left")
    assert said[3:5] == ["[2/2] 02_second running, expected 1 min 5 s", "    5"] and "left" not in said[5]
    assert said[-4:] == [f"  outputs/quick/{name}" for name in ("01_first.ipynb", "02_second.ipynb", "videos", "index.html")]
    assert (folder / "videos" / "made.txt").read_text() == "5 samples"
    assert sorted(path.name for path in folder.iterdir()) == ["01_first.ipynb", "02_second.ipynb", "index.html", "run.json", "videos"]
    assert os.environ["JUPYTER_PATH"] == str(tmp_path / "stray") and os.environ["MPLBACKEND"] == "agg"
    assert all(cell.execution_count for cell in nbformat.read(folder / "01_first.ipynb", 4).cells)

    assert run(tmp_path)[:2] == ["[1/2] 01_first unchanged, skipped", "[2/2] 02_second unchanged, skipped"]

    second.write_text(second.read_text() + "\n")
    said = run(tmp_path)
    assert said[0] == "[1/2] 01_first unchanged, skipped" and said[1].startswith("[2/2] 02_second running, expected ")

    def entry(step):
        steps = plan(load_profile("quick", tmp_path / "notebooks" / "profiles"), tmp_path / "notebooks", "outputs/quick", [step])
        return steps[0], runner.fingerprint(steps[0], tmp_path, None)

    journal = runner.Journal(folder / "run.json")
    step, mark = entry("epochs=5")
    assert journal.is_current("01_first", mark, tmp_path)
    assert entry("epochs=6")[1] != mark  # a parameter
    assert runner.fingerprint(step, tmp_path, journal.entries["01_first"]) != mark  # the notebook before it ran
    (tmp_path / "data" / "videos").mkdir(parents=True)
    (tmp_path / "data" / "videos" / ".gitkeep").touch()
    assert entry("epochs=5")[1] == mark
    (tmp_path / "data" / "videos" / "mine.mp4").touch()
    assert entry("epochs=5")[1] != mark  # a new video
    (tmp_path / "data" / "videos" / "mine.mp4").unlink()
    (folder / "videos" / "made.txt").unlink()
    assert not journal.is_current("01_first", mark, tmp_path)  # an output is gone
    first.write_text(first.read_text() + "\n")
    assert entry("epochs=5")[1] != mark  # the notebook itself


WIDGET = """\
import ipywidgets
def draw(x):
    raise ValueError("in a callback")
ipywidgets.interactive_output(draw, {"x": ipywidgets.IntSlider()})"""


def failed(root: Path, **options) -> str:
    with pytest.raises(NotebookError) as caught:
        run(root, **options)
    return str(caught.value)


def test_failing_cell(tmp_path, monkeypatch, capsys):
    """The command stops at the first failure with the sentence, the cell, the traceback and the partial notebook; exit code 1."""
    cell = "from vae4d.errors import ClipError\nraise ClipError('bikes.mp4 has 3 frames: name a longer clip.')"
    write_notebook(tmp_path, "01_first", "x = 1", cell, "x = 2")
    write_notebook(tmp_path, "02_second", "y = 1")
    write_profile(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(runner.__file__).parents[1]))  # the tests also run where vae4d is not installed
    assert main(["run"]) == 1
    captured = capsys.readouterr()
    assert "\n01_first failed. bikes.mp4 has 3 frames: name a longer clip.\n\nThe cell:\n    from vae4d" in captured.err
    assert "The traceback:" in captured.err and "ClipError" in captured.err and "\x1b" not in captured.err
    assert captured.err.rstrip().endswith("outputs/quick/01_first.partial.ipynb")
    assert "02_second" not in captured.out
    assert (tmp_path / "outputs/quick/01_first.partial.ipynb").is_file() and not (tmp_path / "outputs/quick/01_first.ipynb").exists()


def test_failures_that_papermill_lets_pass(tmp_path):
    """An early exit, a widget's error, and a cell that takes too long."""
    write_profile(tmp_path, "")
    write_notebook(tmp_path, "01_exit", "import sys\nsys.exit(0)", "x = 1")
    assert "01_exit failed. The notebook ended before this cell" in failed(tmp_path, only=["01_exit"])
    write_notebook(tmp_path, "02_widget", WIDGET)
    assert "02_widget failed. ValueError: in a callback" in failed(tmp_path, only=["02_widget"])
    write_profile(tmp_path, "[runner]\ncell_timeout = 2")
    write_notebook(tmp_path, "03_slow", "x = 1", "import time\ntime.sleep(60)")
    message = failed(tmp_path, only=["03_slow"])
    assert "03_slow failed. The cell took longer than 2 s" in message and "    time.sleep(60)" in message
    kept = sorted(path.name for path in (tmp_path / "outputs" / "quick").iterdir())
    assert kept == ["01_exit.partial.ipynb", "02_widget.partial.ipynb", "03_slow.partial.ipynb", "index.html"]
    assert "03_slow failed or is still running" in (tmp_path / "outputs" / "quick" / "index.html").read_text(encoding="utf-8")


def test_full_disk_and_dead_kernel(tmp_path, monkeypatch):
    import papermill

    write_profile(tmp_path, "")
    write_notebook(tmp_path, "01_first")

    def raising(error):
        def execute_notebook(*arguments, **options):
            raise error

        return execute_notebook

    monkeypatch.setattr(papermill, "execute_notebook", raising(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(StorageError, match=r"No space left while writing .*01_first\.partial\.ipynb"):
        run(tmp_path)
    monkeypatch.setattr(papermill, "execute_notebook", raising(RuntimeError("Kernel died")))
    assert "01_first failed. The notebook's process died (Kernel died), most often for want of memory" in failed(tmp_path)
    monkeypatch.setattr(papermill, "execute_notebook", raising(RuntimeError("This event loop is already running")))
    with pytest.raises(RuntimeError, match="event loop"):  # not a dead kernel: the caller runs inside Jupyter
        run(tmp_path)


def test_folder_that_cannot_be_written(tmp_path):
    write_profile(tmp_path, "")
    write_notebook(tmp_path, "01_first")
    (tmp_path / "outputs").touch()  # a file where the folder should be
    with pytest.raises(StorageError, match=r"Cannot write .*01_first\.partial\.ipynb"):
        run(tmp_path)


def test_an_older_result_does_not_outlive_a_failure(tmp_path, monkeypatch):
    import papermill

    def execute_notebook(*arguments, **options):
        raise RuntimeError("Kernel died")

    write_profile(tmp_path, "")
    write_notebook(tmp_path, "01_first")
    older = tmp_path / "outputs" / "quick" / "01_first.ipynb"
    older.parent.mkdir(parents=True)
    older.touch()
    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
    failed(tmp_path)
    assert not older.exists()


def test_plain_papermill_command(tmp_path):
    """No runner: `papermill in.ipynb out.ipynb -p epochs 3` from the repository's root."""
    notebook = write_notebook(tmp_path, "01_first", "assert epochs == 3 and dataset == 'clips'")
    command = [sys.executable, "-m", "papermill", notebook, tmp_path / "out.ipynb", "-p", "epochs", "3", "-p", "dataset", "clips"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.ipynb").is_file()


def test_wrong_requests_print_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path, "01_first")
    write_profile(tmp_path, "")
    for arguments, sentence in [
        (["run", "--profile", "fast"], "There is no profile 'fast' in notebooks/profiles: choose one of these: quick."),
        (["run", "--set", "epoch=1"], "No notebook has a parameter 'epoch': did you mean epochs?"),
        (["run", "--only", "1_first"], "There is no notebook '1_first': did you mean 01_first?"),
        (["run", "--video", "gone.mp4"], "There is no video gone.mp4: check the path."),
    ]:
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.err == sentence + "\n" and captured.out == ""
    assert not (tmp_path / "outputs").exists()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert main(["run"]) == 2
    assert capsys.readouterr().err == f"There are no notebooks in {Path.cwd() / 'notebooks'}: run this in the folder of the repository.\n"


def test_training_options_are_the_fields_of_its_config(monkeypatch, capsys):
    from vae4d.faithful import train

    seen = []
    monkeypatch.setattr(train, "train", seen.append)
    assert main(["train", "flow", "--epochs", "7", "--clip_length", "4", "--max-steps", "3", "--lr", "1e-3"]) == 0
    assert seen == [train.TrainConfig(stage="flow", epochs=7, clip_length=4, max_steps=3, lr=1e-3)]
    assert main(["train", "flow", "--epochs", "0"]) == 2
    assert "epochs" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0 and "distance between the frames of a clip, in source frames (default: 1)" in said


def test_missing_package_is_named(tmp_path, monkeypatch, capsys):
    write_notebook(tmp_path, "01_first")
    write_profile(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "papermill", None)  # any import of it raises ModuleNotFoundError
    assert main(["run"]) == 2
    assert capsys.readouterr().err == "This command needs the package papermill: install it with pip install -e '.[notebooks]'.\n"


def test_durations():
    assert [runner.duration(s) for s in (0.2, 9, 59.6, 190, 7500)] == ["0 s", "9 s", "1 min 0 s", "3 min 10 s", "2 h 5 min"]


def test_pages_that_fail_neither_end_a_run_nor_hide_why_it_failed(root, monkeypatch):
    monkeypatch.setattr("vae4d.workbook.gallery.write_gallery", lambda *given: {}["torn"])
    said = []

    def failing(*given):
        raise NotebookError("01_first failed.")

    monkeypatch.setattr(runner, "execute", failing)
    with pytest.raises(NotebookError, match="01_first failed"):
        runner.run(root=root, log=said.append)
    assert said[-1] == "No index.html: KeyError: 'torn'"
    monkeypatch.setattr(runner, "execute", lambda *given: None)
    assert runner.run(root=root, log=said.append) == root / "outputs" / "quick"
