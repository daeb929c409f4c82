"""What the notebooks show and say: videos shot by shot, and tables and sentences from numbers."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from vae4d import build_model
from vae4d.checkpoint import load_model, save_checkpoint
from vae4d.clips.clip import Clip
from vae4d.clips.datasets import ClipWindows, Dataset
from vae4d.errors import CheckpointError, ClipError, VideoError
from vae4d.workbook import reports, showcase, start
from vae4d.workbook.settings import DataSettings


def make_clip(count: int = 10, cuts=(), name: str = "clip", digest: str = "0" * 64, duplicates=()) -> Clip:
    """A clip of 32 px whose frame i is grey of the level 10 i."""
    frames = np.repeat(np.arange(count, dtype=np.uint8) * 10, 32 * 32 * 3).reshape(count, 32, 32, 3)
    times = np.arange(count) / 25
    return Clip(name, Path(f"{name}.mp4"), "test", Fraction(25), frames, times, tuple(cuts), tuple(duplicates), digest, Path(name))


@pytest.fixture(scope="module")
def model():
    return build_model("small")


@pytest.fixture
def book(tmp_path, monkeypatch):
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return start("04_interpolate", DataSettings(run_dir="outputs/t"))


def levels(frames) -> list[int]:
    return [round(float(frame.mean()) * 25.5) for frame in frames]


def test_shots_end_at_the_limit():
    clip = make_clip(10, cuts=(4, 8))
    assert showcase.shots(clip) == [range(0, 4), range(4, 8), range(8, 10)]
    assert showcase.shots(clip, 6) == [range(0, 4), range(4, 6)]
    assert showcase.longest_shot(make_clip(10, cuts=(3,))) == range(3, 10)
    assert showcase.middle_of(make_clip(3)) == 1 and showcase.inner_frames(make_clip(5), 9) == [1, 2, 3]
    with pytest.raises(ClipError, match="longest shot of clip has 2 frames, 3 are needed: raise frame_limit or"):
        showcase.longest_shot(clip, 2)
    with pytest.raises(ClipError, match="2 frames, 3 are needed: give a longer clip"):  # there is no limit to raise
        showcase.longest_shot(make_clip(2))


def sample_clip(count: int = 250, cuts=(30, 187, 242)) -> Clip:
    """Looks like the sample of that name to what chooses frames."""
    return dataclasses.replace(make_clip(count, cuts, "bikes", duplicates=(5, 200)), path=Path("data/samples") / "bikes.mp4")


def test_a_sample_is_shown_where_there_is_most_to_see(capsys):
    clip = sample_clip()
    assert showcase.telling(clip) == 222 and showcase.telling(make_clip(name="bikes")) is None  # one's own of the same name
    assert showcase.telling(showcase.thinned(clip, 2)) == 111
    assert showcase.shot_of(clip, 222) == range(187, 242) and not showcase.shot_of(clip, 250)
    part = showcase.excerpt(clip, 60)
    assert len(part) == 58 and part.cuts == (50,) and part.duplicates == (8,) and showcase.middle_of(part, 60) == 30
    assert np.array_equal(part.frames[30], clip.frames[222]) and "bikes: shown from frame 192 on" in capsys.readouterr().out
    assert showcase.telling(showcase.excerpt(clip, 100)) == 35  # not before its shot


def test_ones_own_clip_is_shown_from_its_longest_shot():
    part = showcase.excerpt(make_clip(10, cuts=(3,), duplicates=(2, 5)), 5)
    assert len(part) == 7 and part.cuts == () and part.duplicates == (2,)
    whole = make_clip(10, cuts=(8,))
    assert showcase.excerpt(whole, 5) is whole


def test_the_state_that_a_training_kept_is_said():
    def said(*psnr):
        return reports.best_state(pd.DataFrame({"step": range(0, 10 * len(psnr), 10), "psnr": psnr}))

    assert said(20.0, 19.0, 19.5).startswith("No: validation was best at step 0 (20.00 dB)") and "19.50 dB" in said(20.0, 19.0, 19.5)
    assert said(20.0, 22.0, 21.0) == "Validation went from 20.00 to 21.00 dB; the state of step 10 is kept (22.00 dB)."


def test_interpolation_keeps_the_given_frames_and_holds_at_a_cut(model):
    clip = make_clip(6, cuts=(2, 5))  # shots of 2, 3 and 1 frames
    made = list(showcase.interpolate_clip(model, clip, 3))
    assert len(made) == (6 - 1) * 3 + 1
    assert levels(made[::3]) == [0, 1, 2, 3, 4, 5]
    assert levels(made[4:6]) == [1, 1] and levels(made[13:15]) == [4, 4]


def test_reconstruction_keeps_the_number_of_frames(model):
    made = list(showcase.reconstruct_clip(model, make_clip(6, cuts=(2, 5)), reinit_k=2))
    assert len(made) == 6 and levels([made[0], made[2], made[5]]) == [0, 2, 5]


def test_flow_between_has_the_codes_grid(model):
    found = showcase.flow_between(model, torch.rand(3, 32, 48), torch.rand(3, 32, 48))
    assert found["flow"].shape == (16, 8, 12, 3) and found["forward"] is False


def test_the_sharp_models_flow_points_to_where_things_go_and_counts_by_its_share():
    random = torch.Generator().manual_seed(0)
    back, thing = (torch.nn.functional.interpolate(torch.rand(1, 3, n, n, generator=random), size)[0] for n, size in ((16, 64), (6, 24)))
    first, second = back.clone(), back.clone()
    first[:, 20:44, 18:42] = second[:, 20:44, 22:46] = thing  # 4 px to the right
    model = load_model("sharp")
    found = showcase.flow_between(model, first, second)
    seen = found["flow"].sum(0) * 32  # half a picture's width in px
    assert found["forward"] is True and float(seen[8, 8, 0]) == pytest.approx(4, abs=1) and float(seen[2, 2].abs().max()) < 0.5
    with torch.no_grad():
        made = model.synthesise(first[None], second[None], 0.5)
    assert torch.allclose(found["flow"][0], made.voxel_flow[0, -1] * made.density[0, -1, ..., None])  # the nearest plane comes first


def test_clips_of_one_name_are_told_apart():
    clips = [make_clip(name="a", digest="1" * 64), make_clip(name="a", digest="2" * 64), make_clip(name="b")]
    assert [clip.name for clip in showcase.distinct(clips)] == ["a-111111", "a-222222", "b"]


def test_clips_without_three_frames_in_a_row_are_left_out(capsys):
    clips = [make_clip(2, name="two"), make_clip(9, cuts=(2, 4), name="late"), make_clip(3, name="three"), make_clip(1, name="one")]
    assert [clip.name for clip in showcase.usable(clips)] == ["late", "three"]
    assert capsys.readouterr().out == "left out, without a shot of 3 frames: two, one\n"
    assert [clip.name for clip in showcase.usable(clips, limit=6)] == ["three"]
    assert capsys.readouterr().out == "left out, without a shot of 3 frames within the first 6: two, late, one\n"
    assert showcase.usable(clips[1:3]) == clips[1:3] and capsys.readouterr().out == ""
    with pytest.raises(ClipError, match=r"No clip has a shot of 3 frames \(two, one\): give a longer clip"):
        showcase.usable([clips[0], clips[3]])
    with pytest.raises(ClipError, match=r"within the first 2 \(late, three\): raise frame_limit or"):
        showcase.usable(clips[1:3], limit=2)


def sample(name: str) -> Clip:
    return dataclasses.replace(make_clip(name=name), path=Path("data/samples/bikes.mp4"))


def test_ones_own_test_clips_come_first_and_what_is_left_out_is_said(capsys):
    learned = dataclasses.replace(make_clip(name="learned"), split="train")
    mine = [make_clip(name="mine"), make_clip(name="mine", digest="1" * 64)]
    data = Dataset("d", [learned, sample("bikes"), make_clip(2, name="short"), *mine])
    assert [clip.name for clip in showcase.chosen(data)] == ["mine-000000", "mine-111111", "bikes"]
    capsys.readouterr()
    assert [clip.name for clip in showcase.chosen(data, 1)] == ["mine-000000"]
    assert capsys.readouterr().out.splitlines()[1] == "left out, as shown is 1: mine-111111, bikes"
    assert showcase.named([make_clip(name=str(i)) for i in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


def test_a_large_data_set_is_pictured_in_part(capsys):
    clips = [dataclasses.replace(make_clip(name="same", digest=f"{i:064x}"[::-1]), split="train") for i in range(11)]
    shown = showcase.some_of_each(Dataset("d", [*clips, make_clip(name="one")]))
    assert [clip.split for clip in shown] == ["train"] * 8 + ["test"]
    assert len({clip.name for clip in shown}) == 9
    assert capsys.readouterr().out == "train: 8 clips are shown, 3 more are not\n"


def test_a_base_checkpoint_is_refused_where_flow_is_asked_for(model, tmp_path):
    path = save_checkpoint(tmp_path / "base.safetensors", model, "base")
    with pytest.raises(CheckpointError, match=r"base\.safetensors is of the base stage.* run 03_train_flow, or correct resume"):
        showcase.flow_model(path)
    assert showcase.flow_model(save_checkpoint(tmp_path / "flow.safetensors", model, "flow")).flow_trained


def test_a_film_is_read_back(book, monkeypatch):
    frames = [torch.full((3, 32, 32), level / 10) for level in range(7)]
    back = showcase.film(book, "ramp", iter(frames), Fraction(30000, 1001), samples=(2, 5), given=5)
    assert (back.frames, back.fps, back.numbers) == (7, Fraction(30000, 1001), [2, 5])
    assert abs(float(back.images[1].mean()) - 127.5) < 4
    assert book.links == [Path("outputs/t/videos/ramp.mp4")] and Path("outputs/t/figures/04_ramp.png").is_file()
    monkeypatch.setattr(showcase, "write_video", lambda *_: 8)
    with pytest.raises(VideoError, match="holds 7 frames at 30000/1001 a second, but 8"):
        showcase.film(book, "ramp", iter(frames), Fraction(30000, 1001))


def test_what_costs_nothing_is_scored_like_validation():
    windows = ClipWindows([make_clip(3)], 3)  # grey 0, 10, 20
    assert reports.free_psnr(windows, blend=True) == np.inf
    expected = 10 * np.log10(255**2 / ((10**2 + 20**2) / 2))
    assert reports.free_psnr(windows, blend=False) == pytest.approx(expected)


def test_versus_says_which_is_higher():
    assert reports.versus("a", 20.0, "b", 25.5, "here") == "here: a 20.00 dB, b 25.50 dB; a is 5.50 dB below b."
    assert "a is 1.00 dB above b" in reports.versus("a", 26.5, "b", 25.5, "here")
    assert "a is as good as b" in reports.versus("a", 1.0, "b", 1.0, "here")


def test_table_of_clips():
    clip = make_clip(10, cuts=(5,), duplicates=(7,))
    row = reports.clip_table(Dataset("d", [clip])).loc["clip"]
    assert (row["frames"], row["seconds"], row["frames a second"], row["cuts"], row["repeated frames"]) == (10, 0.36, "25", 1, 1)
