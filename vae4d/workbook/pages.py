"""The page of a benchmark that was started from the command line: the video half of what 05_evaluate writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..clips.clip import Clip
from ..evaluation.benchmark import Results
from ..evaluation.methods import Method
from ..evaluation.report import Page
from . import provenance, scorecard, strips
from .sheet import NOTHING, Chart, picture_of


def write_page(results: Results, clips: Sequence[Clip], methods: Mapping[str, Method], seed: int = 0) -> Path:
    """Write `report.html` into the benchmark's folder, and its pictures to `figures/` there; returns the page's path.

    Args:
        clips, methods: those that were scored; the best and worst frames are made again.
        seed: of the bootstrap.
    Raises:
        MissingInputError: jinja2 is not installed. StorageError: the folder cannot be written.
    """
    page = Page("How good is it?", "Frames between two given ones")
    for title, pieces in (
        ("In words", scorecard.judgement(results)),
        ("Scores", scorecard.score_tables(results)),
        ("Differences to linear blend and DIS", scorecard.clip_charts(results)),
        ("Differences by motion", scorecard.motion_charts(results, scorecard.motion_tables(results, seed))),
        ("Best and worst cases", strips.strips(results, clips, methods)),
        ("Checks", [provenance.checks(results.record, None)]),
        ("How it was measured", provenance.definitions(results.record)),
    ):
        page.section(title)
        folder = results.folder / "figures"
        blocks = [picture_of(piece, folder / f"{piece.name}.png") if isinstance(piece, Chart) else piece for piece in pieces]
        page.add(*blocks or [NOTHING])
    return page.write(results.folder / "report.html")
