"""Says whether a data set can be prepared: what is expected, what was found, what is absent or broken, and what to do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from ..errors import ClipError, MissingInputError, VideoError
from ..progress import Say
from .clip import SPLITS
from .entries import SourceEntry
from .layouts import LAYOUTS, named
from .layouts.layout import command, some, validated
from .sources import search

OPENED = 200  # sources that are opened, spread evenly; opening all of a large data set takes long


def check_dataset(dataset: str | Path, data_root: str | Path = "data", every: bool = False, say: Say = print) -> None:
    """Print what a data set should look like and what is there, in plain lines to `say`, and return where it can be prepared.

    Args:
        every: open every source, not some of them. Opening reads a video's first frame, the headers of images, and camera files.

    Raises:
        ConfigError: no such data set.
        MissingInputError, ClipError: it cannot be used; the sentence says why.
    """
    name, call = str(dataset), named(dataset, data_root)
    if call is not None:
        say(f"{call.layout.name} comes from {call.layout.origin}.\n\nExpected in {call.root}:\n{call.layout.tree}\n")
    try:
        entries, notes = search(dataset, data_root)
    except (ClipError, MissingInputError):
        inside = sorted(path.name for path in call.root.iterdir()) if call is not None and call.root.is_dir() else []
        say(f"Found: nothing that can be used{', only ' + some(inside, 8) if inside else ''}.")
        raise
    counts = Counter(entry.split for entry in entries)
    say("Found: " + ", ".join(f"{counts[split]:,} clips to {split}" for split in SPLITS))
    for note in notes:
        say(note)
    places = range(len(entries)) if every else np.unique(np.linspace(0, len(entries) - 1, min(OPENED, len(entries))).round().astype(int))
    faults = {i: fault for i in places if (fault := _fault(entries[i]))}
    for fault in faults.values():
        say(f"Broken: {fault}")
    more = "" if len(places) == len(entries) else f" (`{command('check', name, '--all', data_root=data_root)}` opens all {len(entries):,})"
    say(f"{len(places) - len(faults):,} of the {len(places):,} clips that were opened can be read{more}.")
    if len(faults) == len(places):
        raise ClipError(f"The data set {name} cannot be used, as no clip that was opened can be read: put them right as said above.")
    if absent := [split for split in SPLITS if not counts[split]]:
        raise ClipError(f"The data set {name} cannot be used, as it has no clip to {some(absent)}: compare it with what is expected.")
    usable = {entry.split for entry in validated([entry for i, entry in enumerate(entries) if i not in faults])}
    if lost := [split for split in SPLITS if split not in usable]:
        raise ClipError(f"The data set {name} cannot be used, as no clip to {some(lost)} can be read: put them right as said above.")
    say(f"It can be prepared: {command('prepare', name, '--size', '128', data_root=data_root)}")


def known_data_sets(data_root: str | Path = "data") -> list[dict[str, str | int]]:
    """A row for each known layout: its name, the clips of each split, how many of them are tagged as filmed by a moving camera,
    and notes, which say too why it cannot be used.
    """
    rows = []
    for name in LAYOUTS:
        try:
            entries, notes = search(name, data_root)
        except (ClipError, MissingInputError) as error:
            entries, notes = [], [str(error)]
        splits = Counter(entry.split for entry in entries)
        moving = sum(entry.tags.get("camera_motion") == "cm" for entry in entries)
        rows.append({"data set": name, **{split: splits[split] for split in SPLITS}, "camera moves": moving, "notes": " ".join(notes)})
    return rows


def _fault(entry: SourceEntry) -> str:
    try:
        entry.open()
    except VideoError as error:
        return str(error)
    return ""
