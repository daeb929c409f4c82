"""Reading and writing video: every picture, its time and its orientation are known beforehand."""

from __future__ import annotations

import resource
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from make_clips import encode, encode_audio, pictures, save_images
from PIL import Image, ImageOps

from vae4d.clips.frame_folder import image_size, read_image
from vae4d.clips.video import FrameFolder, VideoFile, VideoWriter, open_source, write_video
from vae4d.errors import StorageError, VideoError

QUARTERS = np.zeros((48, 64, 3), np.uint8)
QUARTERS[:24, :32], QUARTERS[:24, 32:], QUARTERS[24:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)  # red, green / blue, black


def close(a: np.ndarray, b: np.ndarray, mean: float = 4.0) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(int) - b).mean()) < mean


@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"),
                                         ("b.avi", "libx264"), ("a.webm", "libvpx"), ("a.mpg", "mpeg2video"), ("a.ts", "libx264"),
                                         ("a.h264", "libx264"), ("a.gif", "gif")])  # fmt: skip
def test_containers(tmp_path: Path, name: str, codec: str) -> None:
    """All frames, in order of display, 40 ms apart, whatever holds them."""
    images = pictures(24)
    if codec == "gif":
        path = tmp_path / name
        Image.fromarray(images[0]).save(path, save_all=True, append_images=[Image.fromarray(i) for i in images[1:]], duration=40)
    else:
        encode(tmp_path / name, images, 25, codec=codec)
    source = open_source(tmp_path / name)
    frames = list(source.frames())
    assert len(frames) == 24 and (source.info.width, source.info.height, source.info.fps) == (64, 48, 25)
    assert [round(f.seconds * 25, 1) for f in frames] == list(range(24))
    assert all(close(f.image, i, 12) for f, i in zip(frames, images, strict=True))


def test_rational_rate(tmp_path: Path) -> None:
    info = open_source(encode(tmp_path / "ntsc.mp4", pictures(10), Fraction(30000, 1001))).info
    assert info.fps == Fraction(30000, 1001) and info.frames == 10 and info.codec == "h264" and info.rotation == 0


@pytest.mark.parametrize("rotate, mirror, degrees, corners", [
    (None, False, 0, "rg/bk"), (-90, False, 90, "br/kg"), (90, False, 270, "gk/rb"), (180, False, 180, "kb/gr"), (0, True, None, "gr/kb"),
])  # fmt: skip
def test_upright(tmp_path: Path, rotate: float | None, mirror: bool, degrees: int | None, corners: str) -> None:
    """A rotation tag turns the picture; (-90) is the tag of a phone held upright: turn clockwise by 90 degrees."""
    source = open_source(encode(tmp_path / "phone.mp4", [QUARTERS] * 3, rotate=rotate, mirror=mirror))
    image = next(source.frames()).image
    height, width = image.shape[:2]
    assert (source.info.width, source.info.height) == (width, height) == ((48, 64) if rotate in (90, -90) else (64, 48))
    colours = {"r": (255, 0, 0), "g": (0, 255, 0), "b": (0, 0, 255), "k": (0, 0, 0)}
    for row, line in enumerate(corners.split("/")):
        for column, letter in enumerate(line):
            pixel = image[height // 4 + row * height // 2, width // 4 + column * width // 2]
            assert np.abs(pixel.astype(int) - colours[letter]).max() <= 6, (row, column, letter)
    assert degrees is None or source.info.rotation == degrees


def test_pixel_aspect(tmp_path: Path) -> None:
    path = encode(tmp_path / "wide.mp4", pictures(3), aspect=Fraction(4, 3))
    assert open_source(path).info.pixel_aspect == Fraction(4, 3)
    turned = encode(tmp_path / "turned.mp4", pictures(3), aspect=Fraction(4, 3), rotate=90)
    assert open_source(turned).info.pixel_aspect == Fraction(3, 4)


def test_variable_rate(tmp_path: Path) -> None:
    ticks = [0, 40, 80, 200, 240, 500]
    frames = list(open_source(encode(tmp_path / "vfr.mkv", pictures(6), ticks=ticks)).frames())
    assert [round(f.seconds * 1000) for f in frames] == ticks


def test_from_the_middle(tmp_path: Path) -> None:
    """after_pts starts at a keyframe at or before it, and the frames are the same as those of a full pass."""
    source = open_source(encode(tmp_path / "long.mp4", pictures(60), options={"g": "10", "bf": "2", "preset": "veryfast"}))
    whole = list(source.frames())
    part = list(source.frames(after_pts=whole[35].pts))
    assert 30 <= 60 - len(part) <= 35
    assert all(a.pts == b.pts and np.array_equal(a.image, b.image) for a, b in zip(whole[-len(part) :], part, strict=True))


def test_sound_only(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"sound\.m4a has no video stream"):
        open_source(encode_audio(tmp_path / "sound.m4a"))


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"missing\.mp4 does not exist"):
        open_source(tmp_path / "missing.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError, match=r"empty\.mp4 is empty"):
        open_source(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("no video at all\n" * 100)
    with pytest.raises(VideoError, match=r"text\.mp4 cannot be opened as a video"):
        open_source(tmp_path / "text.mp4")
    Image.fromarray(QUARTERS).save(tmp_path / "photo.png")
    with pytest.raises(VideoError, match="single image"):
        open_source(tmp_path / "photo.png")


def test_no_frame(tmp_path: Path) -> None:
    """A stream whose data are gone: the header is fine, nothing can be decoded."""
    path = encode(tmp_path / "hollow.mp4", pictures(5), codec="mpeg4")
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - start)
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"hollow\.mp4 holds no video frame"):
        open_source(path)
    with av.open(str(tmp_path / "zero.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
    with pytest.raises(VideoError, match=r"zero\.mp4 has no video stream"):
        open_source(tmp_path / "zero.mp4")


@pytest.mark.parametrize("name", ["new.mp4", "new.mkv"])
def test_unknown_codec(tmp_path: Path, name: str) -> None:
    """A stream that FFmpeg has no decoder for: a damaged name of the codec, or one from next year."""
    path = encode(tmp_path / name, pictures(5))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz").replace(b"V_MPEG4/ISO/AVC", b"V_ZZZZZ/ISO/ZZZ"))
    with pytest.raises(VideoError, match=rf"{name} uses a codec that this FFmpeg does not know.*: convert it to H\.264"):
        open_source(path)


def test_truncated(tmp_path: Path) -> None:
    whole = encode(tmp_path / "tail.mp4", pictures(50)).read_bytes()
    (tmp_path / "tail.mp4").write_bytes(whole[: len(whole) // 2])  # its table lies at the end and is lost
    with pytest.raises(VideoError, match=r"tail\.mp4 cannot be opened"):
        open_source(tmp_path / "tail.mp4")
    path = encode(tmp_path / "head.mp4", pictures(50), container={"movflags": "+faststart"})
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 2])
    with pytest.raises(VideoError, match=r"head\.mp4 is truncated: it holds \d+ of 50 frames"):
        open_source(path)
    for name, codec in (("half.avi", "mpeg4"), ("half.mkv", "libx264")):
        path = encode(tmp_path / name, pictures(100), codec=codec)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(VideoError, match=f"{name} is (truncated|damaged)"):
            list(open_source(path).frames())


@pytest.mark.parametrize("missing, complete", [(1, True), (10, False), (20, False)])
def test_matroska_without_its_end(tmp_path: Path, missing: int, complete: bool) -> None:
    """It counts no frames, but 0.4 s less than it says is no rounding."""
    path = encode(tmp_path / "tail.mkv", pictures(50), options={"bf": "0"})
    with av.open(str(path)) as video:
        positions = [packet.pos for packet in video.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: positions[-missing]])
    if complete:
        assert len(list(open_source(path).frames())) == 50 - missing
    else:
        with pytest.raises(VideoError, match=rf"tail\.mkv is truncated: it ends at {2 - missing / 25:.2f} s of 2\.00 s"):
            list(open_source(path).frames())


def test_last_frame_is_shown_for_long(tmp_path: Path) -> None:
    """A recorded screen that stands still at the end: its last frame lasts 3 s, and nothing is missing."""
    with av.open(str(tmp_path / "screen.mkv"), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.time_base = 64, 48, "yuv420p", Fraction(1, 1000)
        for index, image in enumerate(pictures(5)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = 40 * index, Fraction(1, 1000)
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            packet.duration = 3000 if packet.pts == 160 else 40
            output.mux(packet)
    assert open_source(tmp_path / "screen.mkv").info.fps and len(list(VideoFile(tmp_path / "screen.mkv").frames())) == 5


def test_size_changes(tmp_path: Path) -> None:
    first, second = encode(tmp_path / "a.h264", pictures(5)), encode(tmp_path / "b.h264", pictures(5, 96, 64))
    both = tmp_path / "both.h264"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(VideoError, match="64x48 to 96x64"):
        list(open_source(both).frames())


def test_folder_of_frames(tmp_path: Path) -> None:
    images = pictures(11)
    folder = tmp_path / "walk"
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"frame_{index}.png")  # frame_10 comes after frame_9
    (folder / "notes.txt").write_text("not a frame")
    source = open_source(folder, fps=Fraction(24000, 1001))
    frames = list(source.frames())
    assert isinstance(source, FrameFolder) and source.name == "walk" and source.info.frames == 11
    assert all(np.array_equal(f.image, i) for f, i in zip(frames, images, strict=True))
    assert frames[10].seconds == pytest.approx(10 * 1001 / 24000) and open_source(folder).info.fps == 25
    assert [f.pts for f in source.frames(after_pts=8)] == [8, 9, 10]


def test_kinds_of_image(tmp_path: Path) -> None:
    """16 bits are scaled, grey and palette become RGB, transparency is dropped, EXIF orientation is applied."""
    folder = tmp_path / "kinds"
    folder.mkdir()
    Image.fromarray(np.full((48, 64), 0x8000, np.uint16)).save(folder / "0.png")
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(folder / "1.png")
    Image.fromarray(np.dstack([QUARTERS, np.zeros((48, 64), np.uint8)])).save(folder / "2.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees
    Image.fromarray(np.rot90(QUARTERS).copy()).save(folder / "3.jpg", exif=exif, quality=95)
    images = [f.image for f in open_source(folder).frames()]
    assert (images[0] == 128).all() and (images[1] == 7).all() and np.array_equal(images[2], QUARTERS)
    assert close(images[3], QUARTERS)


def test_strange_names_and_tags(tmp_path: Path) -> None:
    """A digit that is no number in a name; an EXIF orientation that is bytes, or a number without meaning."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for name, kind, orientation in (("1²2.jpg", 7, 6), ("1²10.jpg", 3, 9), ("1²3.jpg", 3, 1)):  # kind 7 is bytes, 3 a number
        exif = b"Exif\0\0" + struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, kind, 2 if kind == 7 else 1, orientation, 0, 0)
        Image.fromarray(QUARTERS).save(folder / name, exif=exif, quality=95)
    source = open_source(folder)
    assert [image.name for image in source.images] == ["1²2.jpg", "1²3.jpg", "1²10.jpg"]
    assert (source.info.width, source.info.height) == (64, 48) and all(close(f.image, QUARTERS) for f in source.frames())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(tmp_path: Path, orientation: int) -> None:
    """As Pillow turns them; a damaged tag beside the orientation (a resolution that is text) does not matter."""
    plain, damaged = tmp_path / "plain.png", tmp_path / "damaged.png"
    for path, tags in ((plain, 1), (damaged, 2)):
        entries = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + struct.pack("<HHI4s", 0x011A, 2, 4, b"abc")
        exif = struct.pack("<2sHIH", b"II", 42, 8, tags) + entries[: 12 * tags] + bytes(4)
        Image.fromarray(QUARTERS).save(path, exif=exif)
    with Image.open(plain) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read_image(plain), expected) and np.array_equal(read_image(damaged), expected)
    assert image_size(damaged) == expected.shape[1::-1]


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    folder = save_images(tmp_path / "private", pictures(1))
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(VideoError, match=r"private cannot be read \(Permission denied\)"):
        open_source(folder)


def test_bad_folders(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(VideoError, match="none holds no png or jpg image"):
        open_source(tmp_path / "none")
    mixed = save_images(tmp_path / "mixed", [QUARTERS, QUARTERS[:40]])
    with pytest.raises(VideoError, match=r"mixes image sizes \(00000.png is 64x48, 00001.png is 64x40\)"):
        open_source(mixed)
    broken = save_images(tmp_path / "broken", pictures(3))
    (broken / "00001.png").write_bytes(b"not a png")
    with pytest.raises(VideoError, match=r"00001\.png cannot be read"):
        open_source(broken)
    cut = save_images(tmp_path / "cut", pictures(3))
    (cut / "00002.png").write_bytes((cut / "00002.png").read_bytes()[:-200])  # the header is fine
    with pytest.raises(VideoError, match=r"00002\.png cannot be read"):
        list(open_source(cut).frames())


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(25), Fraction(12345, 678), Fraction(1), Fraction(240)])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_written_rate_and_count(tmp_path: Path, fps: Fraction, count: int) -> None:
    assert write_video(tmp_path / "out.mp4", pictures(count), fps) == count
    source = VideoFile(tmp_path / "out.mp4")
    assert source.info.fps == fps and source.info.frames == count == len(list(source.frames()))


def test_written_pixels(tmp_path: Path) -> None:
    """Colours come back as they went in; uint8 and float tensors mean the same; an odd size is padded by its edge."""
    image = np.full((33, 65, 3), (200, 30, 90), np.uint8)
    image[:, 64] = (20, 200, 100)
    with VideoWriter(tmp_path / "odd.mp4", 25) as video:
        video.write(image)
        video.write(torch.from_numpy(image).permute(2, 0, 1) / 255)
    first, second = (f.image.astype(int) for f in VideoFile(tmp_path / "odd.mp4").frames())
    assert first.shape == (34, 66, 3)
    assert np.abs(first[:, :56] - (200, 30, 90)).max() <= 3 and np.abs(first - second).max() <= 3
    assert np.abs(first[:, 64:] - (20, 200, 100)).max() <= 6
    values = torch.full((3, 16, 16), 2.0)
    write_video(tmp_path / "clamped.mp4", [values], 25)
    assert next(VideoFile(tmp_path / "clamped.mp4").frames()).image.min() >= 252


def test_writer_refuses(tmp_path: Path) -> None:
    """Whole or absent: after each failure the folder is as empty as before."""
    with pytest.raises(VideoError, match="no frame to write"):
        write_video(tmp_path / "none.mp4", [], 25)
    with pytest.raises(VideoError, match="frame 1 is 32x32, the video is 64x48"):
        write_video(tmp_path / "mixed.mp4", [QUARTERS, np.zeros((32, 32, 3), np.uint8)], 25)
    with pytest.raises(VideoError, match=r"a frame is float32 \(48, 64, 3\)"):
        write_video(tmp_path / "axes.mp4", [QUARTERS.astype(np.float32)], 25)
    with pytest.raises(VideoError, match="not finite"):
        write_video(tmp_path / "nan.mp4", [np.full((3, 16, 16), np.nan)], 25)
    with pytest.raises(VideoError, match="rate above 0"):
        write_video(tmp_path / "rate.mp4", [QUARTERS], 0)
    with pytest.raises(RuntimeError, match="stopped"), VideoWriter(tmp_path / "stopped.mp4", 25) as video:
        video.write(QUARTERS)
        raise RuntimeError("stopped")
    assert not list(tmp_path.iterdir())


def test_writer_on_a_full_disk(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        noise = np.random.default_rng(0).integers(0, 256, (40, 128, 128, 3), dtype=np.uint8)
        with pytest.raises(StorageError, match=r"out\.mp4"):
            write_video(tmp_path / "out.mp4", noise, 25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(VideoError, match="needs PyAV"):
        open_source(tmp_path / "any.mp4")
    with pytest.raises(VideoError, match="needs PyAV"):
        write_video(tmp_path / "out.mp4", [QUARTERS], 25)
    assert next(open_source(save_images(tmp_path / "frames", [QUARTERS])).frames()).image.shape == (48, 64, 3)
