"""The pieces of a report, shown in the notebook and kept for the page, so that both hold the same."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from ..evaluation.report import Page, Picture, Table
from ..views.figures import save
from .notebook import Workbook, display, display_figure

NOTHING = "Nothing to show: what this section needs was not scored."


@dataclass(frozen=True)
class Chart:
    """A figure with what the page says of it."""

    name: str  # of its file
    figure: Figure
    alt: str
    caption: str


class Sheet:
    """Shows pieces in the notebook and keeps them for the page."""

    def __init__(self, book: Workbook, title: str, subtitle: str = ""):
        self.book, self.page = book, Page(title, subtitle)

    def show(self, title: str, pieces: Iterable[Chart | Table | str | list[str]]) -> None:
        """A section of the page, and the same below the cell."""
        self.page.section(title)
        for piece in pieces:
            if isinstance(piece, Chart):
                display_figure(piece.figure, piece.alt)
                say(piece.caption)
                self.page.add(picture_of(piece, self.book.figure_path(piece.name, piece.alt)))
                continue
            if isinstance(piece, Table):
                display(piece)
            elif isinstance(piece, str):
                say(piece)
            else:
                for line in piece:
                    say(line, "- ")
            self.page.add(piece)
        if not self.page.sections[-1].blocks:
            say(NOTHING)
            self.page.add(NOTHING)

    def write(self, name: str = "report.html") -> Path:
        """Write the page into the run's folder and link to it."""
        path = self.page.write(self.book.folder / name)
        self.book.link(path, f"everything above as one file that opens offline, {path.stat().st_size / 1e6:.1f} MB")
        return path


def picture_of(chart: Chart, path: Path) -> Picture:
    """Save a chart's figure as a PNG, for the page."""
    return Picture.read(save(chart.figure, path), chart.alt, chart.caption)


def say(text: str, mark: str = "") -> None:
    """Print a text in lines; not as Markdown, which would read names of files as its own."""
    print(textwrap.fill(text, 130, initial_indent=mark, subsequent_indent="  " if mark else ""))
