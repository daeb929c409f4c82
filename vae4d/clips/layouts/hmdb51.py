"""HMDB51 (Kuehne et al. 2011): class folders of .avi clips, three official splits, tags in the names.

A clip is called `<film>_<class>_<body>_<motion>_np<people>_<view>_<quality>_<number>.avi`. Body: h(ead), u(pper), l(ower), f(ull).
Motion: cm (the camera moves) or nm. View: fr(ont), ba(ck), le(ft), ri(ght). Quality: bad, med, goo(d).
A split file `<class>_test_split<1, 2 or 3>.txt` has a line `<name>.avi <part>` for each clip: 1 train, 2 test, 0 not used.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ...errors import ClipError, ConfigError
from ..entries import SourceEntry
from .layout import Found, Layout, some, with_validation

NAME = re.compile(r"(?P<film>.+)_(?P<body>[hulf])_(?P<camera_motion>cm|nm)_np(?P<people>\d+)_(?P<viewpoint>fr|ba|le|ri)_"
                  r"(?P<quality>bad|med|goo)_\d+", re.IGNORECASE)
SPLIT_FILE = re.compile(r"(?P<action>.+)_test_split(?P<number>[123])\.txt")
PARTS = {"1": "train", "2": "test", "0": ""}
AGAIN = "unpack the official archives again, the clips beside the split files"
TREE = """\
HMDB51/
    videos/                          any name, or none: class folders may lie in HMDB51 itself
        brush_hair/
            April_09_brush_hair_u_nm_np1_ba_goo_0.avi
            ...
        ...                          51 class folders, 6,766 clips
    testTrainMulti_7030_splits/      any name
        brush_hair_test_split1.txt
        brush_hair_test_split2.txt
        brush_hair_test_split3.txt
        ...                          153 split files"""


def clip_tags(name: str, action: str) -> dict[str, str]:
    """What the name of a clip of the class `action` says: action, film, body, camera_motion, people, viewpoint, quality.

    A name of another form gives only the action and, as its film, itself.
    """
    stem = name.rpartition(".")[0] or name
    found = NAME.fullmatch(stem)
    tags = {key: value.lower() for key, value in found.groupdict().items() if key != "film"} if found else {}
    film = found["film"] if found else stem
    if film.lower().endswith(f"_{action.lower()}"):
        film = film[: -len(action) - 1]
    return {"action": action, "film": film, **tags}


def find(root: Path, options: frozenset[str]) -> Found:
    """Entries by class and name. Validation is a tenth of the official train part, held out by film.

    Raises:
        ClipError: no class folder, no split files, or the two do not fit together. ConfigError: options that exclude each other.
    """
    if len(options & {"split1", "split2", "split3"}) > 1 or {"cm", "nm"} <= options:
        given = ", ".join(f"+{option}" for option in sorted(options))
        raise ConfigError(f"Options of the data set HMDB51 exclude each other ({given}): give one of split1 to split3, one of cm and nm.")
    number = next((option[-1] for option in options if option.startswith("split")), "1")
    folders, lists = _search(root, number)
    if not folders:
        raise ClipError(f"{root} holds no class folder of .avi files: unpack every archive of HMDB51 there.")
    if not lists:
        wanted = f"split file such as brush_hair_test_split{number}.txt"
        raise ClipError(f"{root} holds no {wanted}: unpack HMDB51's archive of splits there too.")
    if without := sorted(folders.keys() - lists.keys()):
        raise ClipError(f"{len(without)} classes have no file <class>_test_split{number}.txt ({some(without)}): {AGAIN}.")
    parts, absent, unlisted, untagged = [], [], [], []
    for action in sorted(lists):
        present = folders.get(action, (Path(), frozenset()))
        listed = read_split(lists[action])
        absent += [f"{action}/{name}" for name in listed if name not in present[1]]
        unlisted += [f"{action}/{name}" for name in sorted(present[1] - listed.keys())]
        for name in sorted(name for name, part in listed.items() if part):
            tags = clip_tags(name, action)
            untagged += [] if "camera_motion" in tags else [f"{action}/{name}"]
            parts.append((present[0] / name, listed[name], tags))
    if absent:
        raise ClipError(f"The split files of {root} name {len(absent):,} videos that are not there ({some(absent)}): {AGAIN}.")
    entries = with_validation([SourceEntry(path, part, tags, group=tags["film"]) for path, part, tags in parts])
    notes = [f"Not used, as no split file names them: {some(unlisted)}."] if unlisted else []
    notes += [f"{len(untagged):,} names say nothing of the camera's motion: {some(untagged)}."] if untagged else []
    for motion in options & {"cm", "nm"}:
        entries = [entry for entry in entries if entry.tags.get("camera_motion") == motion]
        if not entries:
            raise ClipError(f"No clip of {root} is tagged {motion}: leave +{motion} out of the data set's name.")
    return Found(entries, notes)


def read_split(path: Path) -> dict[str, str]:
    """The part of every clip that a split file names: "train", "test" or "" (not used).

    Raises:
        ClipError: not of this form.
    """
    parts: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ClipError(f"{path} cannot be read as text ({error}): {AGAIN}.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, part = [*line.rsplit(None, 1), ""][:2]
        if part not in PARTS or Path(name).name != name:
            raise ClipError(f"{path}, line {number}: {line.strip()[:80]!r} is not a clip's name and 0, 1 or 2: {AGAIN}.")
        if name in parts:
            raise ClipError(f"{path}, line {number}: {name} is named twice: {AGAIN}.")
        parts[name] = PARTS[part]
    if not parts:
        raise ClipError(f"{path} names no clip: {AGAIN}.")
    return parts


def _search(root: Path, number: str) -> tuple[dict[str, tuple[Path, frozenset[str]]], dict[str, Path]]:
    """The class folders with the names of their clips, and the split files of one number, both by class."""
    folders: dict[str, tuple[Path, frozenset[str]]] = {}
    lists: dict[str, Path] = {}
    for top, inside, names in os.walk(root):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        clips = frozenset(name for name in names if name.lower().endswith(".avi") and not name.startswith("."))
        action = Path(top).name
        if clips and action in folders:
            places = f"{folders[action][0]} and {top}"
            raise ClipError(f"The class {action} is there twice ({places}): keep one copy of HMDB51 in {root}.")
        if clips:
            folders[action] = (Path(top), clips)
        for name in names:
            found = SPLIT_FILE.fullmatch(name)
            if found and found["number"] == number:
                lists[found["action"]] = Path(top, name)
    return folders, lists


HMDB51 = Layout(
    name="HMDB51",
    tree=TREE,
    origin="HMDB: a large human motion database, Serre lab, Brown University (Kuehne et al., ICCV 2011), "
    "https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database; its terms stand on that page",
    find=find,
    options=("split1", "split2", "split3", "cm", "nm"),
)
