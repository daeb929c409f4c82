"""Cameras and camera paths: inversion, crops, text files, and what no file may hold."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from vae4d.cameras import Cameras, read_camera_file, read_trajectory, write_trajectory
from vae4d.errors import ClipError, MissingInputError
from vae4d.geometry import euler_to_theta, invert

URL = "https://www.youtube.com/watch?v=000000"
QUARTER_TURN = "0 -1 0 1 1 0 0 2 0 0 1 3"  # about z; t = (1, 2, 3)
STILL = "1 0 0 0 0 1 0 0 0 0 1 0"


def row(timestamp: object = 0, intrinsics: str = "0.5 0.9 0.5 0.5", lens: str = "0 0", matrix: str = STILL) -> str:
    return f"{timestamp} {intrinsics} {lens} {matrix}"


def cameras(count: int = 4, seed: int = 0) -> Cameras:
    poses = euler_to_theta(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return Cameras(np.arange(count) * 33_000, np.tile([0.5, 0.9, 0.5, 0.5], (count, 1)), poses.numpy())


@pytest.fixture
def write(tmp_path):
    def written(*lines: str) -> str:
        path = tmp_path / "file.txt"
        path.write_text("\n".join(lines) + "\n")
        return path

    return written


def test_a_camera_file_is_read(write):
    url, found = read_camera_file(write(URL, row(5), row(33_371, "0.4 0.7 0.51 0.49", matrix=QUARTER_TURN)))
    assert url == URL and len(found) == 2
    assert found.timestamps.tolist() == [5, 33_371] and found.timestamps.dtype == np.int64
    assert found.intrinsics[1].tolist() == [0.4, 0.7, 0.51, 0.49]
    assert found.world_to_camera[1].tolist() == [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3]]


def test_matrices_are_inverted_to_poses_and_as_published_they_are_not(write):
    _, found = read_camera_file(write(URL, row(0, matrix=QUARTER_TURN)))
    # R^T turns back; the camera stands at -R^T (1, 2, 3) = (-2, 1, -3)
    assert found.poses().tolist() == [[[0, 1, 0, -2], [-1, 0, 0, 1], [0, 0, 1, -3]]]
    assert found.poses(inverted=False).tolist() == found.world_to_camera.tolist()
    many = cameras(20)
    assert np.allclose(many.poses(), invert(torch.from_numpy(many.world_to_camera)).numpy(), atol=1e-14)


def test_files_written_with_nine_digits_are_accepted(write):
    many = cameras(50)
    lines = [row(t, matrix=" ".join(f"{x:.9f}" for x in m.ravel())) for t, m in zip(many.timestamps, many.world_to_camera, strict=True)]
    _, found = read_camera_file(write(URL, *lines))
    assert np.allclose(found.world_to_camera, many.world_to_camera, atol=1e-9)


def test_windows_line_ends_and_blank_lines_are_no_fault(tmp_path):
    path = tmp_path / "crlf.txt"
    path.write_bytes(f"\ufeff{URL}\r\n{row(0)}\r\n\r\n{row(1)}\r\n".encode())
    url, found = read_camera_file(path)
    assert url == URL and len(found) == 2


def test_crop_to_the_centre_square():
    wide = cameras().cropped(640, 360)
    # 0.5 widths = 320 px = 8/9 of 360 px; 0.9 heights stay; the centre stays the centre
    assert np.allclose(wide.intrinsics[0], [320 / 360, 0.9, 0.5, 0.5])
    tall = cameras().cropped(361, 640)  # the rows from (640 - 361) // 2 = 139 on; the centre is at row 320 of the picture
    assert np.allclose(tall.intrinsics[0], [0.5, 0.9 * 640 / 361, 0.5, (320 - 139) / 361])
    assert np.array_equal(cameras().cropped(64, 64).intrinsics, cameras().intrinsics)
    with pytest.raises(ClipError, match="0 x 360 pixels cannot be cropped"):
        cameras().cropped(0, 360)


def test_some_frames_and_back_from_json(tmp_path):
    every = cameras(7).take(slice(None, None, 3))
    assert every.timestamps.tolist() == [0, 99_000, 198_000]
    assert cameras(7).take([1, 4]).timestamps.tolist() == [33_000, 132_000]
    with pytest.raises(ClipError, match="Camera 1 has a timestamp that is not later"):
        cameras(7).take([4, 1])
    np.savez(tmp_path / "cameras.npz", **every.to_dict())
    for saved in (json.loads(json.dumps(every.to_dict())), np.load(tmp_path / "cameras.npz")):
        again = Cameras.from_dict(saved)
        for name in ("timestamps", "intrinsics", "world_to_camera"):
            assert np.array_equal(getattr(again, name), getattr(every, name))


@pytest.mark.parametrize("change", [{"intrinsics": None}, {"timestamps": ["x"] * 4}, {"world_to_camera": [[1, 2], [3]]}])
def test_damaged_cameras_are_named(change):
    with pytest.raises(ClipError, match=r"^Saved cameras are damaged \(.*\): prepare the clip again\.$"):
        Cameras.from_dict(cameras().to_dict() | change)
    with pytest.raises(ClipError, match=r"damaged \(KeyError"):
        Cameras.from_dict({})


def test_cameras_of_unequal_numbers_do_not_fit():
    with pytest.raises(ClipError, match="do not fit together"):
        Cameras(np.arange(3), np.ones((2, 4)), np.tile(np.eye(3, 4), (3, 1, 1)))
    with pytest.raises(ClipError, match="N >= 1"):
        Cameras(np.arange(0), np.ones((0, 4)), np.ones((0, 3, 4)))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "line 1: the video's URL is missing"),
        ([row(0), row(1)], "line 1: the video's URL is missing"),
        ([URL], "holds a URL but no frames"),
        ([URL, row(0), row(1) + " 0"], "line 3: 20 columns instead of 19"),
        ([URL, row(0)[:-2]], "line 2: 18 columns instead of 19"),
        ([URL, row(0, "0.5 x 0.5 0.5")], "line 2: 'x' is not a number"),
        ([URL, row(0, "0.5 1_0 0.5 0.5")], "'1_0' is not a number"),
        ([URL, row(0, "0.5 nan 0.5 0.5")], "line 2: 'nan' is not finite"),
        ([URL, row(0), "", row(1, lens="0 1e999")], "line 4: '1e999' is not finite"),
        ([URL, row(0, "0 0.9 0.5 0.5")], "line 2: the frame has no finite, positive focal lengths"),
        ([URL, row(1.5)], "line 2: the timestamp '1.5' is no whole number"),
        ([URL, row(-1)], "the timestamp '-1'"),
        ([URL, row("9" * 19)], "the timestamp '9999999999999999999'"),
        ([URL, row(3), row(5), row(5)], "line 4: the frame has a timestamp that is not later"),
        ([URL, row(3), row(2)], "line 3: the frame has a timestamp that is not later"),
        ([URL, row(0), row(1, matrix="1.01 0 0 0 0 1 0 0 0 0 1 0")], "line 3: the frame has rows that are not orthonormal"),
        ([URL, row(0, matrix="0 " * 11 + "0")], "line 2: the frame has rows that are not orthonormal"),
        ([URL, row(0, matrix="1e300 " * 11 + "0")], "line 2: the frame has rows that are not orthonormal"),
        ([URL, row(0, matrix="1 0 0 0 0 1 0 0 0 0 -1 0")], "line 2: the frame has a mirrored rotation"),
    ],
)
def test_bad_camera_files_are_named_with_their_line(write, lines, said):
    path = write(*lines)
    with pytest.raises(ClipError, match=said) as caught:
        read_camera_file(path)
    assert str(path) in str(caught.value) and str(caught.value).count(": ") >= 1 and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\x00\x01binary", b"\xff\xfe\xff", URL.encode() + b"\n" + b"1 " * 5000, b"7" * 10_000])
@pytest.mark.parametrize("read", [read_camera_file, read_trajectory])
def test_binary_files_are_refused(tmp_path, content, read):
    path = tmp_path / "clip.txt"
    path.write_bytes(content)
    with pytest.raises(ClipError, match=r"clip\.txt"):
        read(path)
    with pytest.raises(MissingInputError, match="There is no file"):
        read(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_trajectories_survive_the_round_trip_exactly(tmp_path, dtype):
    path = euler_to_theta(torch.randn(200, 6, generator=torch.Generator().manual_seed(1), dtype=dtype)) * 1.0
    path[:, :, 3] *= 10.0 ** torch.arange(-20, 20).repeat(5)[:, None]
    write_trajectory(tmp_path / "a" / "path.txt", path)
    assert torch.equal(read_trajectory(tmp_path / "a" / "path.txt"), path.float())
    lines = (tmp_path / "a" / "path.txt").read_text().splitlines()
    assert len(lines) == 200 and all(len(line.split()) == 12 for line in lines)
    assert np.array_equal(np.loadtxt(tmp_path / "a" / "path.txt").astype(path.numpy().dtype), path.flatten(1).numpy())


def test_a_trajectory_is_written_row_by_row(tmp_path):
    pose = torch.tensor([[0.0, -1, 0, 0.1], [1, 0, 0, 2], [0, 0, 1, 3]])
    write_trajectory(tmp_path / "path.txt", pose[None])
    assert (tmp_path / "path.txt").read_text() == "0 -1 0 0.100000001 1 0 0 2 0 0 1 3\n"


def test_a_long_chain_of_float32_rotations_is_accepted(tmp_path):
    step, poses = euler_to_theta(torch.tensor([[0.3, 0.2, 0.1, 0, 0, 0]]))[0], [torch.eye(3, 4)]
    for _ in range(2000):
        poses.append(torch.cat([step[:, :3] @ poses[-1][:, :3], poses[-1][:, 3:]], dim=1))
    write_trajectory(tmp_path / "path.txt", torch.stack(poses))
    assert len(read_trajectory(tmp_path / "path.txt")) == 2001


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "holds no poses"),
        ([STILL, STILL + " 1"], "line 2: 13 columns instead of 12"),
        ([STILL, STILL.replace("1", "one", 1)], "line 2: 'one' is not a number"),
        ([STILL.replace("0", "inf", 1)], "line 1: 'inf' is not finite"),
        ([STILL, "", "2" + STILL[1:]], "line 3: the frame has rows that are not orthonormal"),
        (["-" + STILL], "line 1: the frame has a mirrored rotation"),
    ],
)
def test_bad_trajectories_are_named_with_their_line(write, lines, said):
    with pytest.raises(ClipError, match=said):
        read_trajectory(write(*lines))


def test_bad_trajectories_are_not_written(tmp_path):
    path = tmp_path / "path.txt"
    poses = np.tile(np.eye(3, 4), (3, 1, 1))
    off = "pose 0 has rows that are not orthonormal"
    for wrong, said in ((poses[0], r"not \(T, 3, 4\) with T >= 1"), (poses[:0], "T >= 1"), (poses * 1.1, off)):
        with pytest.raises(ClipError, match=said):
            write_trajectory(path, wrong)
    poses[2, 0, 3] = math.nan
    with pytest.raises(ClipError, match="pose 2 has a matrix with values that are not finite"):
        write_trajectory(path, poses)
    assert not list(tmp_path.iterdir())
