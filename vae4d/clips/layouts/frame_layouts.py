"""Data sets of images in folders: pairs (Matterport3D, Replica) and walk-throughs (Matterport3D).

The images are what one renders or exports from these scans oneself; a folder train and a folder test hold one folder for each pair or
walk, at any depth. Where there is no folder validate, a tenth of train is held out by scene.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from ...errors import ClipError, VideoError
from ..entries import Source, SourceEntry
from ..frame_folder import FrameFolder, image_files
from .layout import Found, Layout, some, split_folders, with_validation

MATTERPORT = ("Matterport3D (Chang et al., 3DV 2017), https://niessner.github.io/Matterport; its terms of use are signed and sent in "
              "before the scans can be had")
REPLICA = ("The Replica data set (Straub et al. 2019, arXiv 1906.05797), https://github.com/facebookresearch/Replica-Dataset; its licence "
           "lies in that repository")


class ImagePair(FrameFolder):
    """A clip of two frames, `im0` and `im1` of a folder; other images there are not used.

    Raises:
        VideoError: on the first use, when one of the two is missing or there twice; see also `FrameFolder`.
    """

    one_shot = True  # two views may differ as much as two shots do

    @cached_property
    def images(self) -> list[Path]:
        """The two image files."""
        named = {stem: [p for p in image_files(self.path) if p.stem == stem] for stem in ("im0", "im1")}
        for stem, images in named.items():
            if len(images) != 1:
                there = "is missing" if not images else f"is there {len(images)} times"
                raise VideoError(f"{self.path} is no pair, as {stem} {there}: put im0.png and im1.png there.")
        return [images[0] for images in named.values()]


def scenes(folders: list[Path], root: Path) -> list[str]:
    """The scene of every folder: the folders above it, or, where it lies in `root` itself, its name without a last `_<number>`.

    "room_0_12" is of the scene "room_0", "0012" one of its own. Where that makes all one scene, every folder is one.
    """
    inside = [folder.relative_to(root) for folder in folders]
    found = [re.sub(r"(?<=.)[_-]\d+$", "", p.name) if len(p.parts) == 1 else p.parent.as_posix() for p in inside]
    return found if len(set(found)) > 1 else [p.as_posix() for p in inside]


def find(root: Path, options: frozenset[str], name: str, reader: Callable[[Path], Source]) -> Found:
    """Every folder that holds an image is an entry.

    Raises:
        ClipError: neither train nor test is there, or they hold no folder of images.
    """
    splits = split_folders(root, name)
    entries, empty = [], []
    for split in splits:
        folders = []
        for top, inside, _ in os.walk(root / split):
            inside[:] = sorted(n for n in inside if not n.startswith("."))
            if Path(top) == root / split:
                continue
            if image_files(Path(top)):
                folders.append(Path(top))
            elif not inside:
                empty.append(Path(top).relative_to(root).as_posix())
        groups = scenes(folders, root / split) if "validate" not in splits else [""] * len(folders)
        entries += [SourceEntry(p, split, reader=reader, group=group) for p, group in zip(folders, groups, strict=True)]
    if not entries:
        raise ClipError(f"The folders {' and '.join(splits)} of {root} hold no folder of images: put a folder for each clip there.")
    return Found(with_validation(entries), [f"{len(empty):,} folders hold no image: {some(empty)}."] if empty else [])


def _layout(name: str, origin: str, reader: Callable[[Path], Source], inside: str) -> Layout:
    missing = "may be missing: a tenth of train is taken, by scene"
    tree = f"{name}/\n    train/\n{inside}        ...\n    validate/            {missing}\n    test/\n        ..."
    return Layout(name, tree, origin, functools.partial(find, name=name, reader=reader))


PAIR = """\
        <id>/            any name; <scene>_<number>, or a folder <scene> above, tells the scene
            im0.png      or jpg
            im1.png
"""
WALK = """\
        <video>/         any name; <scene>_<number>, or a folder <scene> above, tells the scene
            00000.png    or jpg, frames by name
            ...
"""
MATTERPORT_PAIRS = _layout("Matterport3D", MATTERPORT, ImagePair, PAIR)
MATTERPORT_WALKS = _layout("Matterport3D-walks", MATTERPORT, FrameFolder, WALK)
REPLICA_PAIRS = _layout("Replica", REPLICA, ImagePair, PAIR)
