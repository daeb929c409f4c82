"""The published system's jobs: what they write is what `synthesis` makes, whole, once, and by the options asked for."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from make_clips import pictures, save_images
from PIL import Image
from test_parallel import launch

from vae4d import cameras, synthesis
from vae4d.__main__ import main
from vae4d.checkpoint import build_model, save_checkpoint
from vae4d.clips.cleaning import reconstruction_errors
from vae4d.clips.datasets import open_dataset, prepare_dataset
from vae4d.clips.video import open_source
from vae4d.errors import CheckpointError, ClipError, ConfigError, MissingInputError
from vae4d.geometry import euler_to_theta
from vae4d.jobs import folders, run
from vae4d.jobs.run import JobOptions, run_job
from vae4d.metrics import to_uint8

SIZE = 32


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A prepared data set with clips of 8, 5 and 2 frames to test, and a checkpoint of each stage."""
    home = tmp_path_factory.mktemp("home")
    for name, count in {"long": 8, "middle": 5, "short": 2}.items():
        save_images(home / "films" / "test" / name, pictures(count, SIZE, SIZE, seed=count))
    prepare_dataset(home / "films", SIZE, home, progress=None, require=("test",))
    model = build_model("small", seed=1)
    for stage in ("base", "flow"):
        save_checkpoint(home / f"{stage}.safetensors", model, stage)
    save_checkpoint(home / "sharp.safetensors", build_model("sharp", seed=1), "sharp")
    return home


@pytest.fixture
def options(home, tmp_path):
    """Options of a job on that data set; what is given changes them."""

    def make(**changes) -> JobOptions:
        here = {"savepath": str(tmp_path / "log"), "resume": str(home / "flow.safetensors"), "dataset": str(home / "films")}
        return JobOptions(**here | {"data_root": str(home), "input_size": SIZE, "device": "cpu"} | changes)

    return make


@pytest.fixture
def clip(home):
    return next(clip for clip in open_dataset(home / "films", SIZE, home).split("test") if clip.name == "long")


def images(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def same(written: dict[str, np.ndarray], made, first: int = 1) -> None:
    """The PNGs are numbered from `first` and hold exactly the frames `made`."""
    made = to_uint8(torch.stack(list(made)))
    assert list(written) == [f"{number:06d}" for number in range(first, first + len(made))]
    assert np.array_equal(np.stack(list(written.values())), made)


def test_interpolate_writes_made_frames_as_png_and_videos_with_the_given_ends(options, clip):
    chosen = options(interval=2, frame_limit=4, semantics="repaired-5")
    folder = run_job(chosen, None) / "long"
    taken = [clip.tensor(number) for number in (0, 2, 4, 6)]
    same(images(folder / "pred"), synthesis.middle_frames(chosen.model(), taken, semantics="repaired-5"))
    same(images(folder / "true"), taken[1:3])
    films = {side: open_source(folder / f"long_{side}.mp4") for side in ("pred", "true")}
    for film in films.values():
        assert film.info.fps == clip.fps / 2 and (film.info.width, film.info.height) == (SIZE, SIZE)
    decoded = {side: [frame.image.astype(int) for frame in film.frames()] for side, film in films.items()}
    assert len(decoded["pred"]) == len(decoded["true"]) == 4
    for number in (0, 3):  # lossy, but the given frame and not a made one
        assert abs(decoded["pred"][number] - clip.frames[2 * number]).mean() < 8
    assert abs(decoded["pred"][1] - clip.frames[2]).mean() > 20
    about = json.loads((folder / "clip.json").read_text())
    assert about["frames"] == [0, 2, 4, 6] and about["given"] == [0, 3]


def test_interpolate_without_flow_is_the_baseline_and_fraction_is_used(options, clip):
    chosen = options(use_flow=False, fraction=0.25)
    folder = run_job(chosen, None) / "long"
    frames = [clip.tensor(number) for number in range(8)]
    same(images(folder / "pred"), synthesis.middle_frames(chosen.model(), frames, 0.25, use_flow=False))


@pytest.mark.parametrize("how", [{}, {"use_flow": False}, {"use_correction": False}])
def test_reconstruct_takes_reinit_k_flow_and_correction(options, clip, how):
    chosen = options(mode="reconstruct", reinit_k=3, frame_limit=5, **how)
    folder = run_job(chosen, None) / "long"
    same(images(folder / "pred"), synthesis.reconstruct(chosen.model(), [clip.tensor(i) for i in range(5)], 3, **how))
    assert sum(1 for _ in open_source(folder / "long_pred.mp4").frames()) == 4  # predictions alone
    assert json.loads((folder / "clip.json").read_text())["given"] == []


def test_views_feed_on_their_own_predictions(options, clip):
    chosen = options(mode="views", reinit_k=2)
    folder = run_job(chosen, None) / "long"
    same(images(folder / "pred"), synthesis.view_synthesis(chosen.model(), [clip.tensor(i) for i in range(8)], 2))
    same(images(folder / "true"), [clip.tensor(i) for i in range(1, 8)])


def test_pairs_write_input_output_and_target(options, clip):
    chosen = options(mode="pairs", resume=options().resume.replace("flow", "base"))
    folder = run_job(chosen, None)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["long", "middle", "short"]
    written, model = images(folder / "long"), chosen.model()
    first, second = clip.tensor([0]), clip.tensor([1])
    with torch.inference_mode():
        made = model.decode(model.warp(model.encode(first).code, model.pose(first, second)))
    assert sorted(written) == ["input", "output", "target"]
    assert np.array_equal(written["output"], to_uint8(made)[0])
    assert np.array_equal(written["input"], clip.frames[0]) and np.array_equal(written["target"], clip.frames[1])


def test_trajectory_is_a_text_of_twelve_numbers_a_line(options, clip):
    chosen = options(mode="trajectory", scale_rotate=1.0, scale_translate=1.0)
    path = run_job(chosen, None) / "long" / "trajectory.txt"
    assert [len(line.split()) for line in path.read_text().splitlines()] == [12] * 8
    expected = synthesis.trajectory(chosen.model(), [clip.tensor(i) for i in range(8)])
    assert torch.allclose(cameras.read_trajectory(path), expected, atol=1e-6)
    small = options(mode="trajectory", savepath=str(path.parent / "other"))
    moved = cameras.read_trajectory(run_job(small, None) / "long" / "trajectory.txt")
    assert moved[:, :, 3].norm() < expected[:, :, 3].norm() / 10  # the scales reached the pose network


@pytest.fixture
def sharp(home):
    return {"resume": str(home / "sharp.safetensors")}


def test_a_sharp_checkpoint_interpolates_whatever_the_semantics(options, sharp, clip):
    chosen = options(semantics="published+8+10", **sharp)
    folder = run_job(chosen, None) / "long"
    same(images(folder / "pred"), synthesis.middle_frames(chosen.model(), [clip.tensor(i) for i in range(8)]))


def test_a_sharp_checkpoint_writes_the_path_of_the_camera_itself(options, sharp, clip, monkeypatch):
    cube = torch.eye(3, 4).repeat(8, 1, 1)
    cube[3] = euler_to_theta(torch.tensor([[0.1, 0, 0, 0, 0, 0]]))[0]  # turned about the middle of the cube, 2 in front of the camera
    asked = []
    monkeypatch.setattr(synthesis, "trajectory", lambda model, frames, **lens: asked.append(lens) or cube)
    path = run_job(options(mode="trajectory", video_limit=1, **sharp), None) / "long" / "trajectory.txt"
    written = cameras.read_trajectory(path)
    assert asked == [{"focal": 1.0}]  # nobody knows this clip's lens
    expected = torch.tensor([-2 * math.sin(0.1), 0, 2 - 2 * math.cos(0.1)])
    torch.testing.assert_close(written[3, :, 3], expected.to(written), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "reconstruct"}, "mode reconstruct needs codes"),
        ({"mode": "views"}, "mode views needs codes"),
        ({"mode": "pairs"}, "mode pairs needs codes"),
        ({"use_correction": True}, "use_correction True needs codes"),
        ({"clean_limit": 50.0, "semantics": "published"}, "clean_limit 50 needs codes"),
        ({"padding_mode": "border"}, "padding_mode is an option of the faithful model"),
    ],
)
def test_what_a_sharp_checkpoint_cannot_do_is_said(options, sharp, changes, said):
    with pytest.raises(ConfigError, match=said):
        run_job(options(**sharp, **changes), None)


def test_clips_too_short_are_named_and_limits_count_the_others(options):
    lines: list[str] = []
    folder = run_job(options(video_limit=1), lines.append)
    assert lines[0] == "Left out, as interpolate needs 3 frames: short"
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["long"]
    assert lines[1].startswith("[1/1] long: 8 frames in ")
    run_job(options(video_limit=0), lines.append)
    assert lines[3] == "1 of 2 clips are there already" and lines[4].startswith("[1/1] middle")
    with pytest.raises(ClipError, match=r"No test clip .* has the 3 frames that interpolate needs \(long, middle, short\): .*interval"):
        run_job(options(interval=9), None)


def test_row_8_published_chooses_test_clips_by_the_models_own_success(options, home):
    lines: list[str] = []
    clips = open_dataset(home / "films", SIZE, home, own_splits=False).split("test")
    errors = dict(zip([clip.name for clip in clips], reconstruction_errors(options().model(), clips), strict=True))
    assert abs(errors["long"] - errors["middle"]) > 1e-3
    limit = float(errors["long"] + errors["middle"]) / 2
    folder = run_job(options(mode="trajectory", semantics="repaired-8", clean_limit=limit), lines.append)
    stay = {name for name, error in errors.items() if error < limit}
    assert {path.name for path in folder.iterdir() if path.is_dir()} == stay and len(stay & {"long", "middle"}) == 1
    left_out = ", ".join(name for name in errors if name not in stay)
    assert lines[0] == f"cleaning: {3 - len(stay)} of 3 test clips left out: {left_out}"
    with pytest.raises(ClipError, match="Cleaning would remove all 3 clips"):
        run_job(options(mode="views", semantics="repaired-8", clean_limit=1e-3), None)


def test_a_second_call_keeps_what_is_there_and_makes_what_is_missing(options):
    folder = run_job(options(), None)
    kept = folder / "long" / "clip.json"
    before = kept.stat().st_mtime_ns, kept.stat().st_ino
    (folder / "middle" / "clip.json").unlink()
    (folder / "middle").rename(folder / "elsewhere")
    run_job(options(device="auto", video_limit=50), None)  # neither decides what is made
    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == before
    assert (folder / "middle" / "pred" / "000003.png").exists()


def test_other_options_in_the_same_folder_are_refused_or_replaced(options):
    folder = run_job(options(), None)
    with pytest.raises(ConfigError, match=r"other options \(frame_limit 30, now 4\): choose another savepath"):
        run_job(options(frame_limit=4), None)
    assert len(images(folder / "long" / "pred")) == 6
    run_job(options(frame_limit=4), None, replace=True)
    assert len(images(folder / "long" / "pred")) == 2
    (folder / "options.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        run_job(options(frame_limit=4), None)


def test_another_checkpoint_counts_by_its_content(options, home, tmp_path):
    run_job(options(), None)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((home / "flow.safetensors").read_bytes())
    run_job(options(resume=str(copy)), None)
    with pytest.raises(ConfigError, match="checkpoint"):
        run_job(options(resume=str(home / "base.safetensors")), None)


def test_an_interrupted_clip_leaves_nothing(options, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folders, "pixels", stop)
        with pytest.raises(KeyboardInterrupt):
            run_job(options(), None)
    folder = Path(options().savepath) / "interpolate"
    assert [path.name for path in folder.iterdir()] == ["options.json"]
    (folder / ".long.partial" / "pred").mkdir(parents=True)  # what a killed process leaves
    run_job(options(), None)
    assert sorted(path.name for path in folder.iterdir()) == ["long", "middle", "options.json"]


def test_a_folder_that_no_job_made_is_not_deleted(options):
    mine = Path(options().savepath) / "interpolate" / "long" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("")
    with pytest.raises(ConfigError, match="was not made by a job"):
        run_job(options(), None)
    assert mine.exists()


def test_predictions_that_are_not_finite_are_named(options, monkeypatch):
    monkeypatch.setattr(synthesis, "middle_frames", lambda *_, **__: iter([torch.full((3, SIZE, SIZE), torch.nan)]))
    with pytest.raises(CheckpointError, match=r"frame 1 of long with values that are not finite: choose another"):
        run_job(options(), None)


def test_processes_share_the_clips(options, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(run, "wait", lambda: None)
    lines: list[str] = []
    monkeypatch.setenv("RANK", "0")
    folder = run_job(options(), lines.append)
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["long"]
    assert lines[-1].startswith("process 1 of 2 [1/1] long")


def test_two_processes_write_and_score_what_one_does(options, weights, tmp_path):
    def arguments(name: str) -> list[list[str]]:
        chosen, folder = options(), tmp_path / name
        job = {"savepath": folder, "resume": chosen.resume, "dataset": chosen.dataset, "data_root": chosen.data_root, "input_size": SIZE}
        score = ["score", f"{folder}/interpolate", f"--output={folder}/scores", f"--data-root={weights.parent}", "--no-lpips"]
        return [["synthesise", *(f"--{key}={value}" for key, value in job.items()), "--device=cpu"], [*score, "--device=cpu"]]

    assert [main(command) for command in arguments("one")] == [0, 0]
    said = []
    for command in arguments("two"):
        done = launch(command)
        assert done.returncode == 0, done.stderr
        said += done.stdout.splitlines()
    assert {line[:16] for line in said if "frames in" in line} == {"process 1 of 2 [", "process 2 of 2 ["}
    one, two = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.suffix in (".png", ".json", ".csv")}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two and len(one) == 2 * (6 + 3) + 5


def test_without_pyav_frames_are_still_written(options, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    lines: list[str] = []
    folder = run_job(options(), lines.append)
    assert any("PyAV is not installed" in line for line in lines)
    assert len(images(folder / "long" / "pred")) == 6 and not list(folder.glob("*/*.mp4"))


def test_clip_ids_are_unique_and_safe():
    class Named:
        def __init__(self, name, sha256):
            self.name, self.sha256 = name, sha256 * 64

    names = (("a", "0"), ("A", "1"), ("b c/d", "2"), ("..", "3"), ("é" * 200, "4"), ("e", "5"), ("x?", "6"), ("x*", "6"))
    clips = [Named(*pair) for pair in names]
    ids = folders.clip_ids(clips)
    assert list(ids.values()) == clips
    zeros, ones = "0" * 12, "1" * 12
    assert list(ids)[:4] == [f"a-{zeros}", f"A-{ones}", f"b_c_d-{'2' * 12}", f"clip-{'3' * 12}"]
    assert list(ids)[5:] == ["e", f"x_-{'6' * 12}", f"x_-{'6' * 12}-2"]
    assert max(len(name.encode()) for name in ids) < 150


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"mode": "fly"}, "Unknown mode 'fly'.*interpolate"),
        ({"reinit_k": 0}, "reinit_k is 0: give a whole number of at least 1"),
        ({"fraction": 1.5}, r"fraction is 1.5: give a number in \[0, 1\]"),
        ({"fraction": float("nan")}, "fraction is nan"),
        ({"interval": 0}, "interval is 0"),
        ({"frame_limit": 2}, "frame_limit is 2: interpolate needs 3 frames"),
        ({"frame_limit": -1}, "frame_limit is -1"),
        ({"video_limit": -1}, "video_limit is -1"),
        ({"clean_limit": -1.0}, "clean_limit is -1.0: give a clip's largest error"),
        ({"clean_limit": float("nan")}, "clean_limit is nan"),
        ({"clean_limit": 50.0}, "by semantics 'repaired' cleaning never touches test clips: set it to 0, or take 'repaired-8'"),
        ({"clean_limit": 50.0, "semantics": "published+8"}, "cleaning never touches test"),
        ({"resume": ""}, "resume is empty: give the checkpoint"),
        ({"semantics": "mended"}, "semantics is 'mended'"),
        ({"use_flow": False, "use_correction": True}, "the correction needs the flow"),
        ({"device": "tpu"}, "Unknown device 'tpu'"),
    ],
)
def test_wrong_options_are_refused(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        JobOptions(**wrong)


def test_what_is_missing_is_named(options, home):
    with pytest.raises(MissingInputError, match=r"There is no checkpoint nowhere\.tar"):
        run_job(options(resume="nowhere.tar"), None)
    with pytest.raises(CheckpointError, match=r"base\.safetensors is of the base stage"):
        run_job(options(resume=str(home / "base.safetensors"), use_flow=True), None)
    with pytest.raises(MissingInputError, match="was not prepared"):
        run_job(options(input_size=64), None)
    with pytest.raises(MissingInputError, match="--squash"):
        run_job(options(semantics="published"), None)  # row 10: published frames are squashed, which is prepared apart
    assert not Path(options().savepath).exists()


def test_the_limits_are_the_published_ones():
    assert (JobOptions().videos, JobOptions().frames) == (100, 30)
    assert (JobOptions(mode="pairs").videos, JobOptions(mode="pairs").frames) == (3000, 2)
    assert (JobOptions(video_limit=0).videos, JobOptions(frame_limit=0).frames) == (None, None)


def test_the_command_takes_the_originals_names(options, capsys):
    chosen = options(savepath=options().savepath + "/command")
    here = ["--savepath", chosen.savepath, "--resume", chosen.resume, "--dataset", chosen.dataset, "--data_root", chosen.data_root]
    assert main(["synthesise", *here, "--input_size", str(SIZE), "--reinit_k", "3", "--mode", "reconstruct", "--no-use_flow",
                 "--frame_limit", "3", "--device", "cpu"]) == 0
    record = json.loads((Path(chosen.savepath) / "reconstruct" / "options.json").read_text())
    assert (record["reinit_k"], record["use_flow"], record["use_correction"], record["frame_limit"]) == (3, False, None, 3)
    assert "Written to" in capsys.readouterr().out
    assert main(["synthesise", "--reinit-k", "0"]) == 2
    assert "reinit_k is 0" in capsys.readouterr().err


def test_rates_stay_exact(options):
    folder = run_job(options(interval=3, frame_limit=3), None)
    assert open_source(folder / "long" / "long_true.mp4").info.fps == Fraction(25, 3)
