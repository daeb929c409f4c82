"""RealEstate10K (Zhou et al. 2018): a camera file for each clip, and beside it the clip's frames or the video that it is cut from.

`<id>.txt` is a camera file (`vae4d.cameras`). A folder `<id>` holds a frame `<timestamp>.jpg` for each of its lines; or a video
`<id>.mp4` (any suffix of a video), whose time begins at 0 with its first frame, is read at the timestamps (microseconds), each giving
the nearest frame within half a frame's duration. Training and validation take every third frame; a folder that holds these alone will do.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np

from ...cameras import Cameras, read_camera_file
from ...errors import ClipError, MissingInputError, VideoError
from ..entries import SourceEntry, is_video
from ..frame_folder import FOLDER_FPS, Frame, FrameFolder, VideoInfo, read_image
from ..video import VideoFile
from .layout import Found, Layout, some, split_folders, with_validation

EVERY = 3  # of the frames that train and validate
MICRO = Fraction(1, 1_000_000)  # seconds a tick
TREE = """\
RealEstate10K/
    train/
        <id>.txt             camera file: a URL, then `timestamp fx fy cx cy k1 k2` and 12 numbers of a 3x4 matrix a line
        <id>/                its frames,
            <timestamp>.jpg  or png, one for each line (or for every third, the first included)
            ...
        <id>.mp4             or, in the place of the folder, the whole video; any suffix of a video
        ...
    validate/                may be missing: a tenth of train is taken, by video
    test/
        ..."""


class CameraFrames:
    """The frames of a camera file that lie in the folder beside it, with their cameras.

    Args:
        path: the camera file.
        every: take every so manieth line, from the first.

    Raises:
        VideoError: on the first use, when the camera file is wrong, a timestamp has no frame or a frame no timestamp; see also
            `FrameFolder`.
    """

    one_shot = True  # the cameras were found by following points from frame to frame

    def __init__(self, path: Path, every: int):
        self.path, self.name, self.every = path, path.stem, every
        self.material: FrameFolder | VideoFile = FrameFolder(path.with_name(path.stem))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, every={self.every})"

    @cached_property
    def cameras(self) -> Cameras:
        """The cameras of the frames that are taken."""
        return self._all_cameras.take(slice(None, None, self.every))

    @cached_property
    def _all_cameras(self) -> Cameras:
        try:
            return read_camera_file(self.path)[1]
        except (ClipError, MissingInputError) as error:
            raise VideoError(str(error)) from error

    @property
    def files(self) -> list[Path]:
        """The camera file, and what the frames are read from."""
        return [self.path, *self.material.files]

    def sha256(self) -> str:
        """Hex SHA-256 over the camera file, the frames or the video, and the choice of frames."""
        parts = [self.path.read_bytes(), self.material.sha256().encode(), str(self.every).encode()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    @cached_property
    def info(self) -> VideoInfo:
        """Size of the pictures; ticks are microseconds, the rate is the mean."""
        _ = self._images
        return self._timed(self.material.info)

    def frames(self, after_pts: int | None = None) -> Iterator[Frame]:
        """The frames in their order, or those from the timestamp `after_pts` on."""
        for timestamp in self._timestamps(after_pts):
            yield self._frame(read_image(self._images[timestamp]), timestamp)

    @cached_property
    def _images(self) -> dict[int, Path]:
        """The image of each timestamp that is taken."""
        images = {int(p.stem) if p.stem.isdecimal() else p.stem: p for p in self.material.images}
        wanted = self._all_cameras.timestamps.tolist()
        if strangers := [images[t].name for t in images.keys() - set(wanted)]:
            said = f"{self.material.path} holds {len(strangers)} frames that {self.path.name} does not name"
            raise VideoError(f"{said} ({some(sorted(strangers))}): remove them, or take the camera file from its source again.")
        taken = self.cameras.timestamps.tolist()
        lacking = [t for t in (taken if images.keys() == set(taken) else wanted) if t not in images]
        if lacking:
            said = f"{self.material.path} has no frame for {len(lacking)} of the {len(wanted)} timestamps in {self.path.name}"
            raise VideoError(f"{said} ({some(lacking)}): extract these frames too, or remove the lines.")
        return {t: images[t] for t in taken}

    def _timestamps(self, after_pts: int | None = None) -> list[int]:
        return [t for t in self.cameras.timestamps.tolist() if after_pts is None or t >= after_pts]

    def _frame(self, image: np.ndarray, timestamp: int) -> Frame:
        return Frame(image, timestamp, (timestamp - self.info.start) / 1e6)

    def _timed(self, info: VideoInfo) -> VideoInfo:
        times = self._timestamps()
        rate = Fraction(len(times) - 1, times[-1] - times[0]) / MICRO if len(times) > 1 else FOLDER_FPS
        return replace(info, fps=rate.limit_denominator(1001), frames=len(times), time_base=MICRO, start=times[0], seekable=True)


class CameraVideo(CameraFrames):
    """The frames of a camera file that are read from the video beside it, with their cameras.

    Args:
        video: the video; `path` and `every` as in `CameraFrames`.

    Raises:
        VideoError: on the first use, when the camera file is wrong; while reading, when a timestamp has no frame; see also `VideoFile`.
    """

    def __init__(self, path: Path, every: int, video: Path):
        super().__init__(path, every)
        self.material = VideoFile(video)

    @cached_property
    def info(self) -> VideoInfo:
        """Size of the pictures; ticks are microseconds, the rate is the mean."""
        _ = self.cameras
        return self._timed(self.material.info)

    def frames(self, after_pts: int | None = None) -> Iterator[Frame]:
        """The frames in their order, or those from the timestamp `after_pts` on."""
        video, wanted = self.material.info, self._timestamps(after_pts)
        half = float(1 / video.fps) / 2 + 1e-6  # seconds; the last digit of a timestamp is rounded
        begin = video.start + int((wanted[0] * MICRO - 1 / video.fps) / video.time_base)
        decoded = self.material.frames(after_pts=max(begin, video.start))
        for timestamp, frame in zip(wanted, nearest(decoded, [t / 1e6 for t in wanted]), strict=True):
            if frame is None or abs(frame.seconds - timestamp / 1e6) > half:
                said = f"{self.material.path} has no frame at the timestamp {timestamp} of {self.path.name}"
                raise VideoError(f"{said}: give the whole video, from its first frame on, or remove that line.")
            yield self._frame(frame.image, timestamp)


def nearest(frames: Iterator[Frame], seconds: list[float]) -> Iterator[Frame | None]:
    """For each of the increasing `seconds` the frame nearest in time, None where there is no frame at all; decodes no more than it must."""
    before = after = next(frames, None)
    for moment in seconds:
        while after is not None and after.seconds < moment:
            before, after = after, next(frames, None)
        yield min((f for f in (before, after) if f is not None), key=lambda f: abs(f.seconds - moment), default=None)


def find(root: Path, options: frozenset[str]) -> Found:
    """An entry for every camera file that has frames or a video. Validation is a tenth of train, held out by video (the URL).

    Raises:
        ClipError: neither train nor test is there, or no camera file has frames or a video.
    """
    splits = split_folders(root, "RealEstate10K")
    entries, bare, strangers = [], [], []
    for split in splits:
        with os.scandir(root / split) as listed:
            inside = {Path(item.path): item.is_dir() for item in listed if not item.name.startswith(".")}
        folders = {path.name for path, is_folder in inside.items() if is_folder}
        videos = {path.stem: path for path in sorted(inside) if not inside[path] and is_video(path)}
        files = sorted(path for path in inside if path.suffix == ".txt" and not inside[path])
        strangers += [f"{split}/{name}" for name in sorted((folders | videos.keys()) - {path.stem for path in files})]
        bare += [f"{split}/{path.name}" for path in files if path.stem not in folders and path.stem not in videos]
        files = [path for path in files if path.stem in folders or path.stem in videos]
        for path in files:
            every = 1 if split == "test" else EVERY
            of_folder = functools.partial(CameraFrames, every=every)
            reader = of_folder if path.stem in folders else functools.partial(CameraVideo, every=every, video=videos[path.stem])
            entries.append(SourceEntry(path, split, reader=reader, group=_url(path) if "validate" not in splits else ""))
    if not entries:
        raise ClipError(f"{root} holds no camera file <id>.txt with a folder <id> of frames or a video <id>.mp4 beside it: put both there.")
    notes = [f"{len(bare):,} camera files have neither frames nor a video and are left out: {some(bare)}."] if bare else []
    notes += [f"{len(strangers):,} folders or videos have no camera file and are left out: {some(strangers)}."] if strangers else []
    return Found(with_validation(entries), notes)


def _url(path: Path) -> str:
    """The first line of a camera file, which says what video the clip is cut from."""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.readline(4096).strip() or path.stem
    except OSError:
        return path.stem  # it gets reported when it is opened


REALESTATE10K = Layout(
    name="RealEstate10K",
    tree=TREE,
    origin="RealEstate10K (Zhou et al., SIGGRAPH 2018, arXiv 1805.09817), https://google.github.io/realestate10k; the camera files' "
    "licence stands on that page, the videos belong to those who put them online",
    find=find,
)
