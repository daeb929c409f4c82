"""Builds the original's data sets in miniature, exactly in the layouts in which they are given out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from make_clips import encode, pictures, save_images
from PIL import Image

URL = "https://www.youtube.com/watch?v={}"
STEP = 33367  # microseconds: 29.97 frames a second, rounded to whole ones


def hmdb51(root: Path, clips: str = "videos", lists: str = "testTrainMulti_7030_splits", frames: int = 3) -> Path:
    """Two classes of eight clips each from four films; of a class six train, one tests, one is not used in split 1."""
    for c, action in enumerate(("brush_hair", "kick")):
        names = []
        for film in range(4):
            for number in range(2):
                motion = "cm" if number else "nm"
                names.append(f"Film_{film:02d}_{action}_u_{motion}_np1_ba_goo_{number}.avi")
                seed = 100 * c + 10 * film + number
                encode(root / clips / action / names[-1], pictures(frames, seed=seed), codec="mpeg4")
        for split in (1, 2, 3):
            parts = np.roll([1, 1, 1, 1, 1, 1, 2, 0], split - 1)
            write(root / lists / f"{action}_test_split{split}.txt", [f"{name} {part} " for name, part in zip(names, parts, strict=True)])
    return root


def camera_file(path: Path, timestamps: Sequence[int], url: str = "") -> Path:
    """A camera file: the camera moves to the right (world-to-camera translation -0.1 a frame) and turns by 0.01 rad a frame about y."""
    lines = [url or URL.format(path.stem)]
    for i, timestamp in enumerate(timestamps):
        c, s = np.cos(0.01 * i), np.sin(0.01 * i)
        matrix = [c, 0, s, -0.1 * i, 0, 1, 0, 0, -s, 0, c, 0]
        numbers = " ".join(f"{value:.9f}" for value in [0.5, 0.75, 0.5, 0.5, 0.0, 0.0, *matrix])
        lines.append(f"{timestamp} {numbers}")
    return write(path, lines)


def realestate10k(root: Path, frames: int = 9) -> Path:
    """Three clips to train (of two videos) and one to test as frames, one to train as a video."""
    for number, (split, name, url) in enumerate((("train", "a0", "A"), ("train", "a1", "A"), ("train", "b0", "B"), ("test", "c0", "C"))):
        times = [1_000_000 + STEP * i for i in range(frames)]
        camera_file(root / split / f"{name}.txt", times, URL.format(url))
        save_at(root / split / name, pictures(frames, 96, 64, seed=number), times)
    camera_file(root / "train" / "v0.txt", [400_000 + 40_000 * i for i in range(frames)], URL.format("V"))
    encode(root / "train" / "v0.mp4", pictures(30, 96, 64, seed=9))  # 25 frames a second: timestamps begin at its frame 10
    return root


def save_at(folder: Path, images: list[np.ndarray], timestamps: Sequence[int]) -> Path:
    """Frames named by their timestamps."""
    folder.mkdir(parents=True, exist_ok=True)
    for image, timestamp in zip(images, timestamps, strict=True):
        Image.fromarray(image).save(folder / f"{timestamp}.jpg", quality=95)
    return folder


def pairs(root: Path, scenes: int = 4, each: int = 2) -> Path:
    """`each` pairs of each of some scenes to train, two of another to test."""
    for number in range(scenes * each + 2):
        train = number < scenes * each
        name = f"train/scene{number // each}_{number % each}" if train else f"test/other_{number % each}"
        for index, image in enumerate(pictures(2, seed=number)):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / name / f"im{index}.png")
    return root


def walks(root: Path, count: int = 4, frames: int = 4) -> Path:
    """Walk-through folders of frames: `count` to train, one to test."""
    for number in range(count):
        save_images(root / "train" / f"walk{number}", pictures(frames, seed=number), suffix=".jpg" if number % 2 else ".png")
    save_images(root / "test" / "last", pictures(frames, seed=99))
    return root


def write(path: Path, lines: Sequence[str]) -> Path:
    """A text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path
