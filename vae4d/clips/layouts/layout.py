"""What every layout has: its expected tree, its origin, and a search that gives entries with their splits."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from ...errors import ClipError
from ..clip import SPLITS
from ..entries import SourceEntry

T = TypeVar("T", bound=Hashable)


class Found(NamedTuple):
    """The entries of a data set in their order, and sentences on what is absent or not used."""

    entries: list[SourceEntry]
    notes: list[str]


@dataclass(frozen=True)
class Layout:
    """A data set in the form in which its makers give it out."""

    name: str
    tree: str  # the expected folders and files
    origin: str  # project, paper, and where its terms of use stand
    find: Callable[[Path, frozenset[str]], Found]  # of the data set's folder and the chosen options; raises ClipError
    options: tuple[str, ...] = ()  # what may follow the name after a "+"


def split_folders(root: Path, name: str) -> list[str]:
    """Those of train, validate and test that are in `root`.

    Raises:
        ClipError: neither train nor test is there.
    """
    found = [split for split in SPLITS if (root / split).is_dir()]
    if not {"train", "test"} & set(found):
        raise ClipError(f"{root} has neither a folder train nor a folder test: put the data set there as `{command('check', name)}` shows.")
    return found


def command(verb: str, dataset: str | Path, *options: str, data_root: str | Path = "data") -> str:
    """A command of this program, as it is typed in a shell."""
    root = [] if Path(data_root) == Path("data") else ["--data-root", shlex.quote(str(data_root))]
    return " ".join(["python -m vae4d", verb, shlex.quote(str(dataset)), *options, *root])


def held_out(items: Sequence[T], groups: Sequence[str], fraction: float = 0.1) -> set[T]:
    """About a tenth of the items (at least one group, never more than the tenth otherwise), by whole groups.

    The choice depends on the names of the groups alone: groups are taken in the order of their names' SHA-256 as long as they fit.
    With a single group nothing is held out, as nothing would be left.
    """
    members: dict[str, list[T]] = {}
    for item, group in zip(items, groups, strict=True):
        members.setdefault(group, []).append(item)
    if len(members) < 2:
        return set()
    order = sorted(members, key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    wanted, held = fraction * len(items), []
    for group in order:
        if len(held) + len(members[group]) <= wanted:
            held += members[group]
    return set(held or members[min(order, key=lambda group: len(members[group]))])


def with_validation(entries: Sequence[SourceEntry]) -> list[SourceEntry]:
    """The entries, with a tenth of those that have a group moved from train to validate, by whole groups."""
    candidates = [number for number, entry in enumerate(entries) if entry.group and entry.split == "train"]
    held = held_out(candidates, [entries[number].group for number in candidates])
    return [replace(entry, split="validate") if number in held else entry for number, entry in enumerate(entries)]


def validated(readable: Sequence[SourceEntry]) -> list[SourceEntry]:
    """The entries that can be read; where none of those that were held out is among them, others are held out."""
    return list(readable) if any(entry.split == "validate" for entry in readable) else with_validation(readable)


def some(names: Sequence[object], shown: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(map(str, names[:shown])) + more
