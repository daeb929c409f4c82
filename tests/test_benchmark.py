"""The benchmark: equal bytes, resuming, failing methods, processes, splits and leaks, on small films."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from make_clips import pictures, save_images
from safetensors.torch import save_file

from vae4d import build_model
from vae4d.__main__ import main
from vae4d.checkpoint import read_checkpoint, save_checkpoint
from vae4d.clips.cache import prepare
from vae4d.clips.clip import Clip
from vae4d.errors import ClipError, ConfigError, MethodError
from vae4d.evaluation import record, units
from vae4d.evaluation.benchmark import benchmark
from vae4d.evaluation.command import model_names
from vae4d.evaluation.methods import ModelMethod, PairMethod, baselines, blend, load_user_method
from vae4d.evaluation.processes import spread

TABLES = ("scores.csv", "summary.csv", "differences.csv", "benchmark.json")
SIMPLE = ["repeat", "linear blend"]


def quiet(line: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Clip]:
    """Three prepared films, one a split: 26, 18 and 6 frames of 32 px."""
    folder = tmp_path_factory.mktemp("films")
    made = zip(("train", "validate", "test"), (26, 18, 6), strict=True)
    return [prepare(save_images(folder / split, pictures(count, 64, 64, seed)), folder / "cache", 32, split)
            for seed, (split, count) in enumerate(made)]


def run(clips, folder, methods=None, gaps=(2, 4), **options):
    options = {"lpips": False, "progress": quiet} | options
    return benchmark(clips, methods or baselines(SIMPLE), gaps, folder, **options)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TABLES}


def trained(function=blend) -> PairMethod:
    """A method that says it has a checkpoint."""
    return PairMethod(function, checkpoint="0")


def test_tables_and_record(clips, tmp_path):
    results = run(clips, tmp_path, limit=9)
    assert len(results.scores) == 2 * (9 + 8 + 2 + 3 * (6 + 4 + 1))
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "scores.csv"), results.scores, rtol=1e-12)
    assert set(results.differences["reference"]) == {"linear blend"} and set(results.differences["metric"]) == {"psnr", "ssim"}
    about = json.loads((tmp_path / "benchmark.json").read_text())
    assert about == json.loads(json.dumps(results.record))
    assert about["lpips"] is None and about["settings"]["seeds"] == {"bootstrap": 0} and about["failures"] == []
    assert [clip["split"] for clip in about["clips"]] == ["train", "validate", "test"]
    assert about["clips"][2]["gaps"]["4"] == {"pairs": 1, "across_cuts": 0, "frames": 3, "repeated": 0}
    assert {"python", "torch", "numpy", "scikit-image", "opencv"} <= set(about["versions"]) and about["leaks"]["checked"]
    assert about["methods"]["repeat"]["settings"]["function"].endswith("repeat") and not about["methods"]["repeat"]["trained"]
    text = (tmp_path / "benchmark.json").read_text()
    assert str(tmp_path) not in text and str(Path.cwd()) not in text


def test_a_second_run_gives_the_same_bytes_and_scores_nothing_anew(clips, tmp_path):
    lines = []
    run(clips, tmp_path / "a")
    first = bytes_of(tmp_path / "a")
    run(clips, tmp_path / "a", progress=lines.append)
    assert bytes_of(tmp_path / "a") == first and "12 of 12 parts are there already." in lines and not any("frames in" in x for x in lines)
    run(clips, tmp_path / "b")
    assert bytes_of(tmp_path / "b") == first


def test_an_interrupted_run_goes_on_where_it_stopped(clips, tmp_path, monkeypatch):
    original, calls = units.score_method, []

    def until_the_fifth(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(units, "score_method", until_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        run(clips, tmp_path / "a")
    assert len(list((tmp_path / "a" / "parts").iterdir())) == 4 and not (tmp_path / "a" / "scores.csv").exists()
    run(clips, tmp_path / "a")
    assert len(calls) == 5 + 8
    run(clips, tmp_path / "b")
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_parts_are_scored_anew_where_what_they_hang_on_changed(clips, tmp_path):
    def scored(changed, methods=None, **options) -> int:
        lines = []
        run(changed, tmp_path, methods, progress=lines.append, **options)
        return sum("frames in" in line for line in lines)

    assert scored(clips[:1]) == 4
    assert scored(clips[:1], baselines(["repeat"])) == 0 and scored(clips[:1], gaps=(2,)) == 0
    assert scored(clips[:1], limit=3) == 4
    assert scored([replace(clips[0], cuts=(5,))]) == 4
    assert scored([replace(clips[0], frames=255 - clips[0].frames)]) == 4
    mine = {"mine": PairMethod(blend, version="1")}
    assert scored(clips[:1], mine) == 2 and scored(clips[:1], mine) == 0
    assert scored(clips[:1], {"mine": PairMethod(blend, version="2")}) == 2
    assert scored(clips[:1], {"mine": PairMethod(lambda a, b, t: blend(a, b, t), version="1")}) == 2


def test_a_failing_method_loses_its_own_rows(clips, tmp_path):
    def fails_on_the_test_clip(first, second, times):
        if torch.equal(first, clips[2].tensor(0)):
            raise ZeroDivisionError("division\nby zero")
        return blend(first, second, times)

    methods = baselines(SIMPLE) | {"mine": PairMethod(fails_on_the_test_clip), "wrong": PairMethod(lambda a, b, t: sys.exit(3))}
    lines = []
    results = run(clips, tmp_path, methods, gaps=(2,), progress=lines.append)
    assert set(results.scores["method"]) == {"repeat", "linear blend", "mine"}
    assert set(results.scores.loc[results.scores["method"] == "mine", "clip"]) == {"train", "validate"}
    failures = results.record["failures"]
    assert [(f["method"], f["clip"]) for f in failures] == [("wrong", "train"), ("wrong", "validate"), ("mine", "test"), ("wrong", "test")]
    assert failures[0]["message"] == "SystemExit: 3"  # a method that ends itself does not end the run
    assert failures[2]["message"] == "ZeroDivisionError: division by zero" and failures[2]["gap"] == 2 and failures[2]["size"] == 32
    assert "Traceback" in (tmp_path / "failures.log").read_text() and any("FAILED. ZeroDivisionError" in line for line in lines)
    rows = results.summary.set_index(["clip", "method", "rows"])
    assert rows.loc[("all", "repeat", "clean"), "videos"] == 3 and ("all", "mine", "clean") not in rows.index
    first = bytes_of(tmp_path)
    run(clips, tmp_path, methods, gaps=(2,))
    assert bytes_of(tmp_path) == first
    run(clips, tmp_path, gaps=(2,))
    assert not (tmp_path / "failures.log").exists()


def test_nothing_left_is_an_error(clips, tmp_path):
    with pytest.raises(ClipError, match=r"Nothing can be scored: Clip 'test' has 6 frames, gap 8 needs 9"):
        run(clips[2:], tmp_path, gaps=(8,))
    lines = []
    assert set(run(clips, tmp_path, gaps=(8,), progress=lines.append).scores["clip"]) == {"train", "validate"}
    assert any(line.startswith("Left out: Clip 'test' has 6 frames") for line in lines)
    with pytest.raises(MethodError, match="No method gave a frame that can be scored; the first failure: Method 'wrong' returned"):
        run(clips, tmp_path, {"wrong": PairMethod(lambda a, b, t: a)})
    with pytest.raises(ClipError, match="There is no clip to score"):
        run([], tmp_path)
    with pytest.raises(ConfigError, match="needs a method and a gap"):
        benchmark(clips, {}, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"give PairMethod\(function\) for a plain function"):
        run(clips, tmp_path, {"mine": blend})
    with pytest.raises(ConfigError, match="splits"):
        run(clips, tmp_path, splits="train")


def test_a_clip_that_the_checkpoint_has_seen_is_flagged_whatever_its_split(clips, tmp_path):
    """Another data set may call test what this checkpoint was trained on."""
    test = next(clip for clip in clips if clip.split == "test")
    save_checkpoint(tmp_path / "seen.safetensors", build_model("small"), "base", {"data": [test.sha256]})
    save_checkpoint(tmp_path / "fresh.safetensors", build_model("small"), "base")
    methods = {name: ModelMethod(tmp_path / f"{name}.safetensors") for name in ("seen", "fresh")}
    flags = run(clips, tmp_path, methods, gaps=(2,), limit=1).record["flags"]
    assert flags == [{"method": "seen", "clip": "test", "reason": "the checkpoint was trained on this very video"}]


def test_a_checkpoint_that_proves_to_have_seen_no_clip_is_scored_on_all(clips, tmp_path):
    """One that has seen any of them, or does not say, stays on test clips; nothing that it shares with a clip can be a leak."""
    train = next(clip for clip in clips if clip.split == "train")
    copy = replace(train, name="copy", sha256="f" * 64, split="test")
    records = {"none": {"data": []}, "others": {"data": ["0" * 64]}, "one": {"data": [train.sha256]}, "silent": {}}
    for name, extra in records.items():
        save_checkpoint(tmp_path / f"{name}.safetensors", build_model("sharp"), "sharp", extra)
    methods = {name: ModelMethod(tmp_path / f"{name}.safetensors") for name in records}
    lines = []
    results = run([*clips, copy], tmp_path, methods, gaps=(2,), limit=1, progress=lines.append)
    found = {name: set(part["clip"]) for name, part in results.scores.groupby("method")}
    everything = {"train", "validate", "test", "copy"}
    assert found == {"none": everything, "others": everything, "one": {"test", "copy"}, "silent": {"test", "copy"}}
    assert {name: about["test_only"] for name, about in results.record["methods"].items()} == {
        "none": False, "others": False, "one": True, "silent": True}
    assert any(line.startswith("LEAK") for line in lines)
    assert {(flag["method"], flag["clip"]) for flag in results.record["flags"]} == {("one", "copy"), ("silent", "copy")}
    assert set(run(clips, tmp_path, methods, gaps=(2,), limit=1, splits="test").scores["clip"]) == {"test"}
    flags = run(clips, tmp_path, methods, gaps=(2,), limit=1, splits="all").record["flags"]
    assert [(flag["method"], flag["clip"]) for flag in flags] == [(n, c) for n in ("one", "silent") for c in ("train", "validate")]


def test_scores_hang_on_every_module_that_the_sharp_model_imports():
    """And not on how it is trained."""
    waiting, found = ["model"], set()
    while waiting:
        name = waiting.pop()
        found.add(f"sharp/{name}")
        text = (record.PACKAGE / "sharp" / f"{name}.py").read_text(encoding="utf-8")
        waiting += [other for other in re.findall(r"^from \.(\w+) import", text, re.MULTILINE) if f"sharp/{other}" not in found]
    assert found == {name for name in record.MODULES if name.startswith("sharp/")}


def test_trained_methods_are_scored_on_what_they_did_not_see(clips, tmp_path):
    methods = baselines(SIMPLE) | {"model": trained()}
    results = run(clips, tmp_path, methods, gaps=(2,))
    assert set(results.scores.loc[results.scores["method"] == "model", "clip"]) == {"test"} and results.record["flags"] == []
    rows = results.summary.set_index(["clip", "method", "rows"])
    assert rows.loc[("all", "repeat", "clean"), "videos"] == 1  # rows over all compare: the test clip alone
    assert set(run(clips, tmp_path, methods, gaps=(2,), splits="test").scores["clip"]) == {"test"}
    flags = run(clips, tmp_path, methods, gaps=(2,), splits="all").record["flags"]
    assert [(flag["method"], flag["clip"], flag["reason"]) for flag in flags] == [
        ("model", "train", "the clip is in split train"), ("model", "validate", "the clip is in split validate")]


def test_a_leak_is_loud_and_recorded(clips, tmp_path):
    copy = replace(clips[0], name="copy", sha256="f" * 64, split="test", frames=np.clip(clips[0].frames * 1.1, 0, 255).astype(np.uint8))
    lines = []
    about = run([*clips, copy], tmp_path, {"model": trained()}, gaps=(2,), progress=lines.append).record
    assert any(line.startswith("LEAK: splits share footage: train (train) frame") for line in lines)
    assert about["leaks"]["pairs"][0]["leak"] is True
    assert about["flags"] == [{"method": "model", "clip": "copy", "reason": "the clip shares footage with train (split train)"}]


def test_clips_of_one_name_are_told_apart(clips, tmp_path):
    twins = [replace(clip, name="NA", sha256=str(i) * 64) for i, clip in enumerate(clips[:2])]
    results = run(twins, tmp_path, gaps=(2,))
    assert set(results.scores["clip"]) == {"NA-00000000", "NA-11111111"}
    assert set(run([replace(clips[0], name="NA")], tmp_path, gaps=(2,)).scores["clip"]) == {"NA"}
    assert set(run([replace(clips[0], name="all")], tmp_path, gaps=(2,)).scores["clip"]) == {f"all-{clips[0].sha256[:8]}"}


def test_lpips_is_part_of_the_record(clips, tmp_path, weights):
    pytest.importorskip("lpips")
    big = [replace(clips[2], frames=np.repeat(np.repeat(clips[2].frames, 2, 1), 2, 2))]
    results = run(big, tmp_path, gaps=(2,), lpips=True, weights=weights)
    assert results.scores["lpips"].gt(0).all() and len(results.record["lpips"]["alexnet"]) == 64
    assert "lpips" in set(results.differences["metric"])


# Processes


def test_a_task_that_kills_its_process_costs_no_other(monkeypatch):
    forked = multiprocessing.get_context("fork")  # workers that need no torch need not import it, four times over
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: forked)
    tasks = ["1 + 1", "__import__('os')._exit(3)", "2 + 2", "__import__('os').getpid()"]
    found = dict(spread(tasks, eval, 2, lambda task: "getpid" not in task, lambda task: "died"))
    assert found == dict(zip(tasks, (2, "died", 4, os.getpid()), strict=True))
    wait_until(lambda: not multiprocessing.active_children())


def test_two_processes_give_the_same_bytes(clips, tmp_path):
    methods = baselines(SIMPLE) | {"mine": PairMethod(lambda a, b, t: blend(a, b, t))}
    lines = []
    run(clips, tmp_path / "a", methods)
    run(clips, tmp_path / "b", methods, workers=2, progress=lines.append)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert [line for line in lines if "calling process" in line] == [
        "mine runs in the calling process: it is on a GPU, or cannot be sent to another process. "
        "What a notebook's cell defines can be sent once it stands in a .py file."]


SLOW = """
import sys, time
from vae4d.clips.clip import Clip
from vae4d.evaluation.benchmark import benchmark
from vae4d.evaluation.methods import load_user_method, baselines
if __name__ == "__main__":
    methods = baselines(["repeat"]) | {"slow": load_user_method(sys.argv[1] + ":slow")}
    benchmark([Clip.open(path) for path in sys.argv[3:]], methods, (2,), sys.argv[2], lpips=False, workers=2,
              progress=lambda line: print(line, flush=True))
"""


def test_a_killed_run_leaves_no_process_and_is_taken_up(clips, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import os, pathlib, time\n"
        "def slow(first, second, times):\n"
        f"    pathlib.Path({str(tmp_path)!r}, f'pid{{os.getpid()}}').touch()\n"
        f"    while not pathlib.Path({str(tmp_path)!r}, 'go').exists(): time.sleep(0.02)\n"
        "    return first[None].repeat(len(times), 1, 1, 1)\n")
    (tmp_path / "run.py").write_text(SLOW)
    folders = [str(clip.folder) for clip in clips]
    process = subprocess.Popen([sys.executable, tmp_path / "run.py", tmp_path / "slow.py", tmp_path / "out", *folders],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(list(tmp_path.glob("pid*"))) == 2)
    process.kill()
    process.wait()
    workers = [int(path.name[3:]) for path in tmp_path.glob("pid*")]
    wait_until(lambda: not any(alive(worker) for worker in workers))
    parts = {path.name for path in (tmp_path / "out" / "parts").glob("*.csv")}
    assert parts and not any("slow" in name for name in parts) and not list((tmp_path / "out" / "parts").glob(".*"))
    (tmp_path / "go").touch()
    lines = []
    methods = baselines(["repeat"]) | {"slow": load_user_method(f"{tmp_path / 'slow.py'}:slow")}
    results = run(clips, tmp_path / "out", methods, gaps=(2,), progress=lines.append)
    assert f"{len(parts)} of 6 parts are there already." in lines and set(results.scores["method"]) == {"repeat", "slow"}


def test_an_interruption_ends_the_workers_at_once(tmp_path):
    """Ctrl-C, while a worker sleeps for long."""
    flag, began = tmp_path / "asleep", time.monotonic()
    nap = f"(open({str(flag)!r}, 'w').close(), __import__('time').sleep(100))"

    with pytest.raises(KeyboardInterrupt):
        for _ in spread([nap, "1"], eval, 2, lambda task: task == nap, lambda task: None):
            wait_until(flag.exists)
            raise KeyboardInterrupt
    wait_until(lambda: not multiprocessing.active_children())
    assert time.monotonic() - began < 60


def wait_until(holds, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# The command


def test_the_command_prints_tables_and_names_what_is_wrong(tmp_path, capsys):
    data, film = tmp_path / "data", tmp_path / "films"
    for seed, split in enumerate(("train", "test")):
        save_images(film / split / "clip", pictures(12, 64, 64, seed))
    (tmp_path / "mine.py").write_text("def mine(first, second, times): return (first + second)[None].repeat(len(times), 1, 1, 1) / 2")
    wanted = ["evaluate", "--dataset", str(film), "--data-root", str(data), "--sizes", "32", "--gaps", "2", "--workers", "1", "--no-lpips",
              "--checkpoint", "--output", str(tmp_path / "out")]
    assert main([*wanted, "--methods", *SIMPLE, "--method", f"{tmp_path / 'mine.py'}:mine"]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "mine" in page and "data:image/" in page and "Best and worst" in page
    printed = capsys.readouterr().out
    for expected in ("32 px, gap 2, clean", "32 px, gap 2, cuts included", "mine", "not estimable", "Leak check: no footage", "torch 2"):
        assert expected in printed
    assert main([*wanted, "--methods", "RIFE"]) == 2 and "'RIFE'" in capsys.readouterr().err
    assert main([*wanted, "--methods", "repeat", "--checkpoint", "none.safetensors"]) == 2
    assert "There is no checkpoint none.safetensors" in capsys.readouterr().err
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    assert main([*wanted, "--methods", "repeat", "--checkpoint", str(tmp_path / "torn.safetensors")]) == 2
    assert "torn.safetensors is not a whole safetensors file" in capsys.readouterr().err
    before = save_checkpoint(tmp_path / "before.safetensors", build_model("sharp"), "sharp")
    meta, tensors = read_checkpoint(before)
    meta["config"]["geometry_channels"] = 48
    save_file(tensors, before, metadata={"vae4d": json.dumps(meta)})
    assert main([*wanted, "--methods", "repeat", "--checkpoint", str(before)]) == 2
    captured = capsys.readouterr()
    assert "before.safetensors describes a model unknown to this version" in captured.err and "repeat" not in captured.out
    if not torch.cuda.is_available():
        assert main([*wanted, "--methods", "repeat", "--checkpoint", "none.safetensors", "--device", "cuda"]) == 2
        assert "there is no GPU that torch can use" in capsys.readouterr().err
    (tmp_path / "repeat.py").write_text("def repeat(first, second, times): ...\n")
    assert main([*wanted, "--methods", "repeat", "--method", f"{tmp_path / 'repeat.py'}:repeat"]) == 2
    assert "Two methods are called 'repeat'" in capsys.readouterr().err


def test_the_command_scores_models_on_worlds_too(tmp_path, capsys):
    save_images(tmp_path / "films" / "test" / "clip", pictures(8, 64, 64, 0))
    wanted = ["evaluate", "--dataset", str(tmp_path / "films"), "--data-root", str(tmp_path / "data"), "--sizes", "32", "--gaps", "2"]
    wanted += ["--workers", "1", "--no-lpips", "--checkpoint", "sharp", "--methods", "linear blend", "DIS", "--worlds", "1"]
    assert main([*wanted, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out.rpartition("Procedural worlds by motion")[2]
    assert all(name in printed for name in ("8-16 px", "rotation error", "depth rank correlation", "novel view psnr", "nothing moves"))
    scores = pd.read_csv(tmp_path / "out" / "worlds" / "scene_scores.csv")
    assert {"sharp", "DIS", "linear blend"} <= set(scores["method"]) and scores["size"].unique().tolist() == [32]


def test_frames_of_another_program_from_export_to_scores(tmp_path, capsys):
    for seed, split in enumerate(("train", "test")):
        save_images(tmp_path / "films" / split / "clip", pictures(10, 64, 64, seed))
    common = ["evaluate", "--dataset", str(tmp_path / "films"), "--data-root", str(tmp_path / "data"), "--sizes", "32", "--checkpoint"]
    folder = tmp_path / "theirs"
    assert main([*common, "--gaps", "2", "4", "16", "--export", str(folder)]) == 0
    assert "gap 16 needs 17" in capsys.readouterr().out and not (tmp_path / "outputs").exists()
    lists = sorted(folder.rglob("wanted.csv"))
    assert len(lists) == 2 * 2 and {path.parent.name for path in lists} == {"gap2", "gap4"}  # clips of one name are told apart
    for path in lists:  # the other program repeats the first given frame
        for row in pd.read_csv(path).itertuples():
            shutil.copy(path.parent / f"{row.first:06d}.png", path.parent / f"{row.frame:06d}.png")
    options = ["--gaps", "2", "4", "--workers", "1", "--no-lpips", "--methods", "repeat", "--frames", str(folder)]
    assert main([*common, *options, "--output", str(tmp_path / "out")]) == 0
    rows = pd.read_csv(tmp_path / "out" / "scores.csv").pivot(index=["clip", "gap", "frame", "t"], columns="method", values="mse")
    early = rows[rows.index.get_level_values("t") <= 0.5]  # there it is what repeat does
    assert len(early) == 2 * (4 + 4) and early["theirs"].tolist() == early["repeat"].tolist()
    assert main([*common, "--gaps", "16", "--export", str(folder)]) == 2 and "Nothing can be exported" in capsys.readouterr().err


def test_checkpoints_keep_shipped_names_and_get_the_shortest_others_that_differ():
    assert model_names(["a/b/best.safetensors"]) == ["model"] and model_names([]) == []
    assert model_names(["a/x/best.safetensors", "a/y/best.safetensors"]) == ["model x/best", "model y/best"]
    assert model_names(["small"]) == ["small"] and model_names(["a/x/best.safetensors", "small"]) == ["model", "small"]
    assert model_names(["small", "a/x.safetensors", "b/x.safetensors"]) == ["small", "model a/x", "model b/x"]
    assert model_names(["a/x.safetensors", "a/x.safetensors"]) == ["model a/x"] * 2  # which is refused, as two of one name
