"""Frames made by another program: what is exported for it, what is read back, and folders that do not match."""

from __future__ import annotations

import pickle
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import file_size_limit
from make_clips import pictures
from PIL import Image

from vae4d.clips.clip import Clip
from vae4d.errors import ClipError, MethodError, MissingInputError, StorageError
from vae4d.evaluation.frame_folders import FrameFolderMethod, export_given
from vae4d.evaluation.methods import Pair


@pytest.fixture
def clip() -> Clip:
    frames = np.stack(pictures(10, 32, 32))
    times = np.array([0, 1, 2, 3, 4, 6, 7, 8, 12, 13]) / 25
    return Clip("bikes", Path("b"), "test", Fraction(25), frames, times, (), (), "0", Path("b"))


def pairs(clip: Clip, starts=(0, 4)):
    for i in starts:
        numbers = (i + 1, i + 2, i + 3)
        yield Pair(clip.name, clip.size, 4, i, clip.tensor(i), clip.tensor(i + 4), numbers, (0.25, 0.5, 0.75))


@pytest.fixture
def made(clip, tmp_path) -> Path:
    """All frames of the clip up to the last given one, as another program would write them; returns the clip's folder."""
    folder = export_given(clip, 4, tmp_path / "made")
    for number in (1, 2, 3, 5, 6, 7):
        Image.fromarray(clip.frames[number]).save(folder / f"{number:06d}.png")
    return folder


def test_given_frames_are_exported_with_the_list_of_wanted_ones(clip, tmp_path):
    folder = export_given(clip, 4, tmp_path / "given")
    assert folder == tmp_path / "given" / "bikes" / "32px" / "gap4"
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000004.png", "000008.png", "wanted.csv"]
    assert np.array_equal(np.asarray(Image.open(folder / "000008.png")), clip.frames[8])
    lines = (folder / "wanted.csv").read_text().splitlines()
    assert lines[:2] == ["frame,t,first,second", "1,0.25,0,4"] and lines[4:] == ["5,0.25,4,8", "6,0.375,4,8", "7,0.5,4,8"]
    assert export_given(clip, 4, tmp_path / "given", label="bikes-2").parts[-3] == "bikes-2"
    with pytest.raises(ClipError, match="gap 16"):
        export_given(clip, 16, tmp_path / "given")


def test_an_export_that_fails_leaves_no_half_picture_and_no_list(clip, tmp_path):
    with file_size_limit(500), pytest.raises(StorageError, match=r"000000\.png"):
        export_given(clip, 4, tmp_path / "given")
    assert not [path for path in (tmp_path / "given").rglob("*") if path.is_file()]


def test_predicted_frames_are_read_as_they_are(clip, made, tmp_path):
    method = FrameFolderMethod(tmp_path / "made")
    answers = list(method(pairs(clip)))
    assert torch.equal(answers[0], clip.tensor([1, 2, 3])) and torch.equal(answers[1], clip.tensor([5, 6, 7]))
    assert list(method(iter([]))) == []


def test_the_settings_change_with_any_frame_and_not_with_the_place(made, tmp_path):
    first = FrameFolderMethod(tmp_path / "made").settings
    shutil.copytree(tmp_path / "made", tmp_path / "copy")
    assert FrameFolderMethod(tmp_path / "copy").settings == first and first["frames"] == 9
    Image.new("RGB", (32, 32)).save(tmp_path / "copy" / "bikes" / "32px" / "gap4" / "000002.png")
    assert FrameFolderMethod(tmp_path / "copy").settings != first
    assert pickle.loads(pickle.dumps(FrameFolderMethod(tmp_path / "made"))).settings == first


def sixteen_bit_rgb(path: Path) -> None:
    import cv2

    cv2.imwrite(str(path), np.zeros((32, 32, 3), np.uint16))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "000006.png").unlink(), r"000006\.png is missing, a frame of bikes \(32 px, gap 4, frames 4 and 8\): make all"),
        (lambda f: (f / "000009.png").write_bytes(b""), r"holds 000009\.png, and the last frame given of bikes is 000008\.png: number"),
        (lambda f: Image.new("RGB", (64, 32)).save(f / "000002.png"), r"000002\.png is 64x32, .*frames 0 and 4\): make it as large"),
        (lambda f: (f / "000002.png").write_bytes(b"no picture, but long enough"), r"000002\.png cannot be read as a png image"),
        (lambda f: (f / "000002.png").write_bytes(b""), r"000002\.png cannot be read as a png image"),
        (lambda f: (f / "000002.png").write_bytes((f / "000001.png").read_bytes()[:-500]), r"000002\.png cannot be read as a png image"),
        (lambda f: Image.new("L", (32, 32)).save(f / "000002.png"), r"000002\.png is 8-bit grey, .*: save it as 8-bit RGB"),
        (lambda f: Image.new("I;16", (32, 32)).save(f / "000002.png"), r"000002\.png is 16-bit grey, "),
        (lambda f: Image.new("RGBA", (32, 32)).save(f / "000002.png"), r"000002\.png is 8-bit RGB with alpha, "),
        (lambda f: sixteen_bit_rgb(f / "000002.png"), r"000002\.png is 16-bit RGB, "),
        (lambda f: f.rename(f.parent / "gap2"), r"no folder .*gap4 with the frames of bikes .*: make them, or correct its name"),
    ],
)
def test_folders_that_do_not_match_are_refused(clip, made, tmp_path, damage, message):
    pytest.importorskip("cv2")
    damage(made)
    with pytest.raises(MethodError, match=message):
        list(FrameFolderMethod(tmp_path / "made")(pairs(clip)))


def test_a_folder_without_frames_is_said(tmp_path):
    with pytest.raises(MissingInputError, match=r"no png image in .*nothing: .*gap4/000001\.png"):
        FrameFolderMethod(tmp_path / "nothing")
