"""Examines and decodes many sources: one after the other, on worker processes, or shared out under `accelerate launch`.

The bytes are the same whoever makes them. Processes of a launch must see one and the same folder of prepared clips.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from .. import parallel
from ..errors import VideoError
from ..evaluation.processes import spread
from ..progress import Line, Say
from .cache import prepare
from .clip import Clip
from .entries import SourceEntry
from .sources import Digests, content_digest

T = TypeVar("T")
MANY = 1000  # sources; fewer are examined by the time that worker processes have started
PAUSE = 5.0  # seconds between two lines on progress
DIED = "ended the process that read it (out of memory, or a crash in a library): free some memory, or encode it again"


class Form(NamedTuple):
    """What prepared frames shall be like, and where they go; see `cache.prepare`."""

    root: Path
    size: int
    square_pixels: bool
    squash: bool


class Examined(NamedTuple):
    """The SHA-256 of a source, or why it cannot be read."""

    digest: str
    fault: str


def examine(entries: Sequence[SourceEntry], digests: Digests, workers: int, say: Say) -> list[Examined]:
    """What each of the entries is, in their order; every process of a launch gets the whole list. `digests` is completed."""
    tasks = parallel.share([(number, entry, _remembered(entry, digests)) for number, entry in enumerate(entries)])
    found: list[tuple[int, Examined, Digests]] = []
    report = _reporter("Reading all sources once", say, unit="sources")
    for task, result in _spread(tasks, _examine, workers if len(tasks) >= MANY else 1):
        report(len(found), len(tasks))
        found.append((task[0], *(result or (Examined("", f"{task[1].path} {DIED}."), {}))))
    results = [Examined("", "")] * len(entries)
    for number, result, learned in sorted(parallel.gathered(found), key=lambda item: item[0]):
        results[number] = result
        digests.update(learned)
    return results


def decode(
    entries: Sequence[tuple[str, SourceEntry, str]], form: Form, workers: int, say: Say
) -> Iterator[tuple[str, Path | str]]:
    """(label, prepared folder or why there is none) of every (label, entry, digest); each process of a launch gets all, in any order.

    Lines on the progress go to `say`: from this process, and within a source only where there are no worker processes.
    """
    done: list[tuple[str, Path | str]] = []
    mine = parallel.share(entries)

    def within(line: str) -> None:
        """A line of one source, as one of all."""
        say(Line(line, (len(done) + getattr(line, "share", 0.0)) / len(mine)))

    work = functools.partial(_decode, form=form, say=within if workers < 2 else None)
    for task, result in _spread(mine, work, workers):
        label, entry, _ = task
        result = f"{entry.path} {DIED}." if result is None else result
        done.append((label, result))
        wrong = isinstance(result, str)
        what = f"left out. {result}" if wrong else described(Clip.open(result))
        say(Line(f"{label}: {what}", len(done) / len(mine), wrong))
    yield from parallel.gathered(done)


def described(clip: Clip) -> str:
    """Length, rate, cuts and repeats in words."""
    rate = f"{float(clip.fps):.5g} frames a second{' (variable)' if clip.variable_rate else ''}"
    return f"{len(clip)} frames, {rate}, {len(clip.cuts)} cuts, {len(clip.duplicates)} repeated frames"


def _spread(tasks: Sequence[T], work: Callable, workers: int) -> Iterator[tuple[T, object]]:
    return spread(tasks, work, workers, portable=lambda task: True, crashed=lambda task: None)


def _remembered(entry: SourceEntry, digests: Digests) -> Digests:
    """The part of `digests` that a worker needs."""
    path = str(entry.path.absolute())
    return {path: digests[path]} if path in digests else {}


def _examine(task: tuple[int, SourceEntry, Digests]) -> tuple[Examined, Digests]:
    _, entry, known = task
    try:
        return Examined(content_digest(entry.open(), known), ""), known
    except VideoError as error:
        return Examined("", str(error)), {}


def _decode(task: tuple[str, SourceEntry, str], form: Form, say: Say | None) -> Path | str:
    label, entry, digest = task
    try:
        clip = prepare(
            entry.open(), form.root, form.size, entry.split, digest=digest, tags=entry.tags, square_pixels=form.square_pixels,
            squash=form.squash, progress=_reporter(label, say) if say else None,
        )
    except VideoError as error:
        return str(error)
    return clip.folder


def _reporter(label: str, say: Say, unit: str = "frames decoded") -> Callable[[int, int | None], None]:
    """Progress as a plain line every few seconds."""
    last = time.monotonic()

    def report(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= PAUSE:
            last = time.monotonic()
            said = f"{label}: {done} of {total or '?'} {unit}"
            say(Line(said, done / total) if total else said)

    return report
