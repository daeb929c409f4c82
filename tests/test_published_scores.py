"""Scores of predicted videos: the layouts that are read, exact values, the published way beside the repaired one, camera paths."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from make_clips import encode, pictures, save_images
from PIL import Image

from vae4d import metrics
from vae4d.__main__ import main
from vae4d.cameras import Cameras, write_trajectory
from vae4d.errors import ClipError, ConfigError, MissingInputError, VideoError
from vae4d.evaluation import published
from vae4d.evaluation.pose_scores import score_poses
from vae4d.evaluation.predicted import samples_in, samples_of
from vae4d.evaluation.published import better_of_two, score, score_folder
from vae4d.geometry import euler_to_theta
from vae4d.perceptual import VGGFeatures
from vae4d.workbook import published as published_pages
from vae4d.workbook.settings import ScoreSettings, SynthesisSettings

SIZE = 32
TEN = 20 * math.log10(255 / 10)  # PSNR in dB of a prediction that is off by 10 grey levels everywhere


def moved(images: list[np.ndarray], by: int = 10) -> list[np.ndarray]:
    """The images, every value off by `by`."""
    return [np.where(image < 128, image + by, image - by).astype(np.uint8) for image in images]


def true_frames(count: int = 3, seed: int = 0) -> list[np.ndarray]:
    return pictures(count, SIZE, SIZE, seed=seed)


def clip_folder(folder: Path, true: list[np.ndarray], made: list[np.ndarray], png: bool = True) -> Path:
    """A clip as the interpolation job writes it: `made` are predictions of all but the first and last of `true`."""
    for side, frames in (("pred", [true[0], *made, true[-1]]), ("true", true)):
        encode(folder / f"{folder.name}_{side}.mp4", frames)
        if png:
            save_images(folder / side, frames[1:-1], start=1)
    (folder / "clip.json").write_text(json.dumps({"given": [0, len(true) - 1]}))
    return folder


def pair_folder(folder: Path, made: np.ndarray, true: np.ndarray) -> None:
    folder.mkdir(parents=True)
    Image.fromarray(made).save(folder / "output.png")
    Image.fromarray(true).save(folder / "target.png")


def run(samples, folder: Path, weights: Path, *semantics: str, **options) -> published.Scores:
    return score(samples, folder / "scores", *semantics, lpips=False, weights=weights, device="cpu", progress=None, **options)


def test_known_values_and_columns(tmp_path, weights):
    true = true_frames(9)  # more than a batch
    save_images(tmp_path / "p" / "a", moved(true))
    save_images(tmp_path / "t" / "a", true)
    results = score(samples_of(tmp_path / "p", tmp_path / "t"), tmp_path / "s", weights=weights, device="cpu", progress=None)
    assert list(results.table) == ["id", "psnr", "ssim", "vgg_cosine", "lpips"] and results.record["frames"] == 9
    row = results.table.iloc[0]
    assert row["id"] == "a" and row["psnr"] == pytest.approx(TEN, abs=1e-4)
    made, wanted = (torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255 for frames in (moved(true), true))
    assert row["ssim"] == pytest.approx(float(metrics.published_ssim(made, wanted).mean()), abs=1e-6)
    cosine = metrics.vgg_cosine(VGGFeatures(weights, blocks=5), made, wanted)
    assert row["vgg_cosine"] == pytest.approx(float(cosine.mean()), abs=1e-5) and row["vgg_cosine"] > 0.01
    assert 0 < row["lpips"] < 1
    line = results.path.read_text().splitlines()
    assert line[0] == "id,psnr,ssim,vgg_cosine,lpips" and line[1].startswith("a,28.1308")
    assert "not available" not in str(results) and "1 videos, 9 frames, scored as repaired" in str(results)


def test_averages_deviation_and_equal_bytes(tmp_path, weights):
    for name, by in (("b", 20), ("a", 10)):
        save_images(tmp_path / "p" / name, moved(true_frames(), by))
        save_images(tmp_path / "t" / name, true_frames())
    results = run(samples_of(tmp_path / "p", tmp_path / "t"), tmp_path, weights)
    assert list(results.table["id"]) == ["a", "b"]
    low = 20 * math.log10(255 / 20)
    assert results.record["mean"]["psnr"] == pytest.approx((TEN + low) / 2, abs=1e-4)
    assert results.record["std"]["psnr"] == pytest.approx((TEN - low) / 2, abs=1e-4)
    assert results.record["mean"]["lpips"] is None and results.path.read_text().splitlines()[1].endswith(",")
    before = results.path.read_bytes(), results.path.with_suffix(".json").read_bytes()
    run(samples_of(tmp_path / "p", tmp_path / "t"), tmp_path, weights)
    assert (results.path.read_bytes(), results.path.with_suffix(".json").read_bytes()) == before


def test_a_job_is_read_from_png_and_as_published_from_its_videos(tmp_path, weights):
    true = true_frames(4)
    clip_folder(tmp_path / "a", true, moved(true[1:-1]))
    repaired = run(samples_in(tmp_path), tmp_path, weights)
    assert repaired.record["frames"] == 2 and repaired.table["psnr"][0] == pytest.approx(TEN, abs=1e-4)
    as_published = score_folder(tmp_path, tmp_path / "p", "published", lpips=False, weights=weights, device="cpu", progress=None)
    assert as_published.record["frames"] == 4  # the given ones flatter
    assert as_published.record["scored"] == "published" and as_published.table["psnr"][0] > TEN + 1
    only_this_row = score_folder(tmp_path, tmp_path / "p", "repaired-9", lpips=False, weights=weights, device="cpu", progress=None)
    assert only_this_row.table.equals(as_published.table)


def test_where_only_videos_are_left_the_given_frames_stay_out_and_loss_is_said(tmp_path, weights):
    true = true_frames(4)
    clip_folder(tmp_path / "a", true, moved(true[1:-1]), png=False)
    results = run(samples_in(tmp_path), tmp_path, weights)
    assert results.record["frames"] == 2 and abs(results.table["psnr"][0] - TEN) < 1
    assert "1 of 1 were read from a video file, which is lossy" in results.record["notes"][0]


def test_a_value_that_is_not_finite_drops_a_video_as_published_and_is_counted_when_repaired(tmp_path, weights):
    true = true_frames(3)
    for name, made in (("exact", [true[0], *moved(true[1:])]), ("usual", moved(true)), ("whole", true)):
        save_images(tmp_path / "p" / name, made)
        save_images(tmp_path / "t" / name, true)
    samples = samples_of(tmp_path / "p", tmp_path / "t")
    repaired = run(samples, tmp_path, weights)
    assert list(repaired.table["id"]) == ["exact", "usual", "whole"]
    assert repaired.table["psnr"].tolist() == [pytest.approx(TEN, abs=1e-4), pytest.approx(TEN, abs=1e-4), math.inf]
    assert repaired.record["exact"] == 4 and "4 of 9 frames were rebuilt exactly" in repaired.record["notes"][0]
    assert repaired.record["mean"]["psnr"] == pytest.approx(TEN, abs=1e-4) and repaired.record["finite"]["psnr"] == 2
    as_published = run(samples, tmp_path, weights, "published")
    assert list(as_published.table["id"]) == ["usual"] and as_published.record["dropped"] == ["exact", "whole"]
    assert "2 of 3 (exact, whole)" in as_published.record["notes"][0]


def test_the_better_of_two_counts_measure_by_measure():
    table = pd.DataFrame({"id": ["a0", "a1", "b0", "b1", "c0"], "psnr": [1.0, 2, 4, 3, 9], "ssim": [0.5, 0.4, 0.1, 0.2, 1],
                          "vgg_cosine": [3.0, 1, 2, 5, 0], "lpips": [0.3, 0.2, 0.1, 0.4, 0]})
    best = better_of_two(table)
    assert best["id"].tolist() == ["a0", "b0"]
    assert best["psnr"].tolist() == [2, 4] and best["ssim"].tolist() == [0.5, 0.2]
    assert best["vgg_cosine"].tolist() == [1, 2] and best["lpips"].tolist() == [0.2, 0.1]


def test_pairs_with_take_every_other(tmp_path, weights):
    true = true_frames(1)[0]
    for name, by in (("x_0", 20), ("x_1", 10), ("y_0", 5)):
        pair_folder(tmp_path / name, moved([true], by)[0], true)
    with pytest.raises(ConfigError, match="take_every_other needs two predictions of every sample, there are 3"):
        run(samples_in(tmp_path), tmp_path, weights, take_every_other=True)
    as_published = run(samples_in(tmp_path), tmp_path, weights, "published", take_every_other=True)
    assert as_published.table["id"].tolist() == ["x_0"]  # an odd last one is dropped, as published
    assert as_published.table["psnr"][0] == pytest.approx(TEN, abs=1e-4)
    plain = run(samples_in(tmp_path), tmp_path, weights)
    assert plain.table["id"].tolist() == ["x_0", "x_1", "y_0"] and plain.record["frames"] == 3


def test_videos_side_by_side_of_any_format(tmp_path, weights):
    true = true_frames(4)
    encode(tmp_path / "one_pred.avi", moved(true), codec="mpeg4")
    save_images(tmp_path / "one_true", true)
    encode(tmp_path / "two_pred.mkv", true)
    encode(tmp_path / "two_true.mp4", true)
    (tmp_path / "notes.txt").write_text("not looked at")
    samples = samples_in(tmp_path)
    assert [(sample.name, sample.lossy) for sample in samples] == [("one", True), ("two", True)]
    assert run(samples, tmp_path, weights).record["frames"] == 8


def test_given_ends_of_other_programs_videos_are_left_out_on_request(tmp_path, weights):
    true = true_frames(4)
    save_images(tmp_path / "p" / "a", [true[0], *moved(true[1:-1]), true[-1]])
    save_images(tmp_path / "t" / "a", true)
    inner = run(samples_of(tmp_path / "p", tmp_path / "t", given_ends=True), tmp_path, weights)
    assert (inner.record["frames"], inner.record["exact"]) == (2, 0)
    assert run(samples_of(tmp_path / "p", tmp_path / "t"), tmp_path, weights).record["exact"] == 2
    two = [save_images(tmp_path / side / "a", true[:2]).parent for side in ("only given", "only given too")]
    with pytest.raises(VideoError, match="holds no synthesised frame"):
        run(samples_of(*two, given_ends=True), tmp_path, weights)


def test_two_videos_by_themselves(tmp_path, weights):
    paths = [encode(tmp_path / f"{name}.mp4", true_frames()) for name in ("mine", "theirs")]
    assert run(samples_of(*paths), tmp_path, weights).table["id"].tolist() == ["mine"]


def failing(tmp_path: Path, made: list[np.ndarray], true: list[np.ndarray], weights: Path, match: str) -> None:
    save_images(tmp_path / "p" / "a", made)
    encode(tmp_path / "t" / "a.mp4", true)
    with pytest.raises(VideoError, match=match):
        run(samples_of(tmp_path / "p", tmp_path / "t"), tmp_path, weights)
    assert not (tmp_path / "scores").exists()


def test_lengths_that_differ_are_named(tmp_path, weights):
    failing(tmp_path, true_frames(3), true_frames(4), weights, r"p/a has 3 frames and .*t/a\.mp4 has 4: make both again")


def test_sizes_that_differ_are_named(tmp_path, weights):
    failing(tmp_path, pictures(3, 48, 32), true_frames(3), weights, r"p/a is 48x32 and .*t/a\.mp4 is 32x32: make them of one size")


def test_what_no_header_says_is_found_while_reading(tmp_path):
    (sample,) = [*samples_of(encode(tmp_path / "p.ts", true_frames(3)), encode(tmp_path / "t.ts", true_frames(5)))]
    with pytest.raises(VideoError, match=r"p\.ts has 3 frames and .*t\.ts has more"):
        list(sample.frames())


def test_names_that_differ_are_named(tmp_path):
    save_images(tmp_path / "p" / "a", true_frames())
    save_images(tmp_path / "t" / "b", true_frames())
    with pytest.raises(ConfigError, match=r"p/a has no counterpart 'a' in .*t: give both the same names"):
        samples_of(tmp_path / "p", tmp_path / "t")
    encode(tmp_path / "p" / "a.mp4", true_frames())
    with pytest.raises(ConfigError, match=r"have one name: rename"):
        samples_of(tmp_path / "p", tmp_path / "t")


def test_a_truncated_video_is_named(tmp_path, weights):
    path = clip_folder(tmp_path / "a", true_frames(4), true_frames(2)) / "a_pred.mp4"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(VideoError, match=r"a_pred\.mp4 .*(truncated|damaged)"):
        run(samples_in(tmp_path, videos=True), tmp_path, weights, "published")


def test_halves_are_named(tmp_path):
    pair_folder(tmp_path / "x", *true_frames(2))
    (tmp_path / "x" / "target.png").unlink()
    with pytest.raises(VideoError, match=r"x/target\.png is missing: a pair needs the prediction and the truth"):
        samples_in(tmp_path)
    folder = clip_folder(tmp_path / "jobs" / "a", true_frames(4), true_frames(2))
    (folder / "a_true.mp4").unlink()
    assert len(samples_in(tmp_path / "jobs")) == 1
    with pytest.raises(VideoError, match=r"a_true\.mp4 is missing: the job writes them where PyAV is installed"):
        samples_in(tmp_path / "jobs", videos=True)
    encode(tmp_path / "films" / "b_pred.mp4", true_frames())
    with pytest.raises(VideoError, match=r"b_pred\.mp4 has no b_true beside it"):
        samples_in(tmp_path / "films")


def test_nothing_to_score_is_said(tmp_path):
    with pytest.raises(MissingInputError, match="There is nothing to score in"):
        samples_in(tmp_path)
    with pytest.raises(MissingInputError, match="There is no folder"):
        samples_in(tmp_path / "nowhere")
    with pytest.raises(MissingInputError, match="no video and no folder of frames"):
        samples_of(tmp_path, tmp_path)


def test_a_job_at_another_moment_has_no_truth(tmp_path):
    clip_folder(tmp_path / "a", true_frames(4), true_frames(2))
    (tmp_path / "options.json").write_text(json.dumps({"mode": "interpolate", "fraction": 0.25}))
    with pytest.raises(ConfigError, match=r"made with fraction 0\.25, and the true frames are halfway"):
        samples_in(tmp_path)
    (tmp_path / "options.json").write_text("{}")
    with pytest.raises(ClipError, match="is damaged"):
        samples_in(tmp_path)


def test_damaged_notes_of_a_clip_are_named(tmp_path):
    clip_folder(tmp_path / "a", true_frames(4), true_frames(2), png=False)
    (tmp_path / "a" / "clip.json").write_text("[]")
    with pytest.raises(ClipError, match=r"clip\.json is damaged"):
        samples_in(tmp_path)


def test_the_command(tmp_path, weights, capsys):
    save_images(tmp_path / "p" / "a", moved(true_frames()))
    save_images(tmp_path / "t" / "a", true_frames())
    two = ["--predicted", str(tmp_path / "p"), "--true", str(tmp_path / "t")]
    out = ["--output", str(tmp_path / "o"), "--data-root", str(weights.parent), "--no-lpips", "--device", "cpu"]
    assert main(["score", *two, *out]) == 0
    said = capsys.readouterr().out
    assert "psnr  28.1308" in said and "lpips  not available" in said and (tmp_path / "o" / "results.csv").exists()
    for wrong in ([], two[:2], [str(tmp_path), *two]):
        assert main(["score", *wrong, *out]) == 2
        assert "name one folder, or --predicted and --true" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="name the folder of the predicted videos too"):
        ScoreSettings(true="t")


def test_the_notebooks_table_has_both_ways(tmp_path, weights, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "weights").symlink_to(weights)
    monkeypatch.chdir(tmp_path)
    book = SimpleNamespace(folder=Path("outputs/t"))
    absent = published_pages.scores(book, ScoreSettings(device="cpu"))
    assert list(published_pages.tables(absent)) == [absent] and "Not scored as published: There is no folder outputs/t" in absent
    assert published_pages.averages(absent) == {}
    clip_folder(book.folder / "synthesis" / "interpolate" / "a", true_frames(4), moved(true_frames(4)[1:-1]))
    found = published_pages.scores(book, ScoreSettings(device="cpu"))
    (table,) = published_pages.tables(found)
    assert table.frame["frames"].to_dict() == {"repaired": 2, "published": 4}
    assert table.frame["PSNR, dB ↑"]["repaired"] == "28.13"  # of one video, without a deviation
    assert published_pages.averages(found)["repaired"]["psnr"] == pytest.approx(TEN, abs=1e-4)
    assert (book.folder / "scores" / "published" / "results.csv").exists()
    with pytest.raises(MissingInputError, match="There is no folder nowhere"):  # what the user named must be there
        published_pages.scores(book, ScoreSettings(predicted="nowhere", device="cpu"))


def test_the_notebooks_job_prepares_test_clips_and_replaces_other_results(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_images(tmp_path / "films" / "test" / "a", true_frames(4))
    settings = {"dataset": "films", "input_size": SIZE, "device": "cpu", "scale_rotate": 0.5}
    for frame_limit in (3, 4):
        book = SimpleNamespace(folder=Path("outputs/t"))
        options = published_pages.job_options(book, SynthesisSettings(frame_limit=frame_limit, **settings), "small")
        assert options.changes == {"scale_rotate": 0.5} and options.videos == 100
        assert [clip.name for clip in published_pages.data_of(options).split("test")] == ["a"]
        assert len(list((published_pages.interpolation(options) / "a" / "pred").iterdir())) == frame_limit - 2


@pytest.fixture
def paths(tmp_path) -> Path:
    """What the trajectory job wrote: `a` is the true path at another scale, `b` has no cameras."""
    pose = torch.zeros(6, 6, dtype=torch.float64)
    pose[:, 1], pose[:, 3], pose[:, 5] = torch.linspace(0, 0.5, 6), torch.linspace(0, 1, 6) ** 2, torch.linspace(0, 2, 6)
    true = euler_to_theta(pose).numpy()  # camera-to-world
    rotation = true[:, :, :3].transpose(0, 2, 1)
    world_to_camera = np.concatenate([rotation, -rotation @ true[:, :, 3:]], axis=2)
    cameras = Cameras(np.arange(6), np.full((6, 4), 0.5), world_to_camera)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_trajectory(tmp_path / name / "trajectory.txt", np.concatenate([true[:, :, :3], true[:, :, 3:] * 3], axis=2))
    (tmp_path / "a" / "cameras.json").write_text(json.dumps(cameras.to_dict()))
    return tmp_path


def test_camera_paths_are_scored_against_inverted_matrices(paths):
    pytest.importorskip("evo")
    lines: list[str] = []
    table = score_poses(paths, paths / "out", progress=lines.append)
    assert list(table) == ["id", "rmse", "mean", "max", "rotation_error", "poses"]
    assert table["id"].tolist() == ["a"] and table["poses"].tolist() == [6]
    assert table[["rmse", "mean", "max"]].to_numpy().max() < 1e-5 and table["rotation_error"][0] < 1e-3
    assert "with fewer than 3 poses: b" in lines[-1]
    as_published = score_poses(paths, paths / "out", "published", progress=None)
    assert as_published["rotation_error"][0] > 10 and as_published["rmse"][0] > 0.01
    assert pd.read_csv(paths / "out" / "poses.csv")["poses"].tolist() == [6]


def test_camera_paths_that_cannot_be_scored_are_said(paths, capsys):
    pytest.importorskip("evo")
    assert main(["score", str(paths), "--output", str(paths / "out")]) == 0  # by what lies in the folder
    assert "Written to" in capsys.readouterr().out
    (paths / "a" / "cameras.json").write_text("{}")
    with pytest.raises(ClipError, match=r"cameras\.json is damaged"):
        score_poses(paths, paths / "out", progress=None)
    (paths / "a" / "cameras.json").unlink()
    with pytest.raises(MissingInputError, match=r"no camera path with true cameras and 3 poses.*RealEstate10K"):
        score_poses(paths, paths / "out", progress=None)
