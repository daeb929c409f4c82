"""The original's data sets in the layouts in which they are given out.

    layout          what every layout has; which clips are held out for validation
    hmdb51          class folders and official splits
    realestate10k   camera files with frames or videos
    frame_layouts   image pairs (Matterport3D, Replica) and walk-throughs (Matterport3D)

Such a data set is called by its name, with options and another folder where they are wanted: "HMDB51" lies in `data_root/HMDB51`,
"HMDB51+split2+cm:/somewhere" is the second official split in another folder, clips with camera motion only.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ...errors import ClipError, ConfigError, MissingInputError
from .frame_layouts import MATTERPORT_PAIRS, MATTERPORT_WALKS, REPLICA_PAIRS
from .hmdb51 import HMDB51
from .layout import Found, Layout, command
from .realestate10k import REALESTATE10K

__all__ = ["LAYOUTS", "Found", "Layout", "Named", "named"]

LAYOUTS = {layout.name: layout for layout in (HMDB51, REALESTATE10K, MATTERPORT_PAIRS, MATTERPORT_WALKS, REPLICA_PAIRS)}


class Named(NamedTuple):
    """A data set that was called by its name."""

    layout: Layout
    root: Path
    options: frozenset[str]

    def find(self) -> Found:
        """Its entries.

        Raises:
            MissingInputError: its folder is not there. ClipError: what is there is of another form, or cannot be read.
        """
        self.require()
        try:
            return self.layout.find(self.root, self.options)
        except PermissionError as error:
            raise ClipError(f"{error.filename} cannot be read ({error.strerror}): allow yourself to read it.") from error

    def require(self) -> None:
        """Raise MissingInputError where its folder is not there."""
        if not self.root.is_dir():
            name = self.layout.name
            remedy = f"put it there (`{command('check', name)}` shows how), or name its folder as {name}:/some/folder"
            raise MissingInputError(f"The data set {name} is not in {self.root}: {remedy}.")


def named(dataset: str | Path, data_root: str | Path = "data") -> Named | None:
    """The data set that `dataset` calls by its name; None for a path or "samples".

    Raises:
        ConfigError: an option that the layout does not have.
    """
    found = re.fullmatch(rf"({'|'.join(map(re.escape, LAYOUTS))})((?:\+[^+:]*)*)(?::(.+))?", str(dataset))
    if not found:
        return None
    layout, options = LAYOUTS[found[1]], frozenset(found[2].split("+")[1:])
    if unknown := sorted(options - set(layout.options)):
        known = f"give of +{', +'.join(layout.options)}" if layout.options else "it has none, so leave it out"
        raise ConfigError(f"dataset = {str(dataset)!r} has the unknown option +{unknown[0]}: {known}.")
    return Named(layout, Path(found[3]) if found[3] else Path(data_root) / layout.name, options)
