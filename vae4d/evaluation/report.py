"""One page of results that stands alone: HTML with its pictures inside, for the screen, a phone and paper.

A `Page` is a list of sections, each with texts, tables, pictures and videos in order. Everything that is written into it is escaped.
Nothing in the page is fetched from anywhere: no script, no font; pictures and videos are data URIs. Only `Links` point at files, beside the
page. A picture above `LARGE` bytes (strips of photographs) is written as WebP of quality 90, the others stay PNG.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from ..errors import ConfigError, MissingInputError
from ..files import write_text

TEMPLATE = "report.html.jinja"
LARGE = 250_000  # bytes of a PNG
QUALITY = 90  # of WebP
BROAD = 704  # pixels; on a phone wider pictures are scrolled sideways, where they would be too small to read


@dataclass(frozen=True)
class Table:
    """A table of texts (what is no text is written with `str`); columns may have two levels, of which the upper one spans.

    Raises:
        ConfigError: the groups do not cover the rows.
    """

    frame: pd.DataFrame  # its index heads the rows
    caption: str
    groups: Sequence[tuple[str, int]] = ()  # (heading, number of rows below it), over all rows in order; empty for none
    prose: bool = False  # cells hold sentences: set to the left and broken into lines

    def __post_init__(self) -> None:
        if self.groups and sum(count for _, count in self.groups) != len(self.frame):
            raise ConfigError(f"The groups of a table must cover its {len(self.frame)} rows, not {sum(n for _, n in self.groups)}.")

    @property
    def heads(self) -> list[list[tuple[str, int]]]:
        """Rows of (text, columns it spans)."""
        columns = self.frame.columns
        if columns.nlevels == 1:
            return [[(str(name), 1) for name in columns]]
        upper: list[tuple[str, int]] = []
        for name in columns.get_level_values(0):
            upper = [*upper[:-1], (name, upper[-1][1] + 1)] if upper and upper[-1][0] == name else [*upper, (str(name), 1)]
        return [upper, [(str(name), 1) for name in columns.get_level_values(1)]]

    @property
    def parts(self) -> list[tuple[str, list[tuple[str, list[str]]]]]:
        """(heading or "", rows of (head, cells))."""
        cells = self.frame.astype(str).to_numpy(object).tolist()
        rows = [(str(name), line) for name, line in zip(self.frame.index, cells, strict=True)]
        parts, start = [], 0
        for heading, count in self.groups or [("", len(rows))]:
            parts.append((heading, rows[start : start + count]))
            start += count
        return parts

    def _repr_html_(self) -> str:
        """The table alone, as a notebook shows it."""
        return str(_environment().get_template(TEMPLATE).module.table(self)).strip()


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI."""

    uri: str
    alt: str  # what is seen, for those who do not see it
    caption: str
    width: int
    height: int

    @property
    def shape(self) -> str:
        """Names by which the page's style knows it: a broad one scrolls on a phone, a tall one may fill a printed page."""
        return " ".join(name for name, so in (("broad", self.width > BROAD), ("tall", self.height > self.width)) if so)

    @classmethod
    def read(cls, path: str | Path, alt: str, caption: str) -> Picture:
        """A PNG file.

        Raises:
            MissingInputError: it is not there.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingInputError(f"There is no picture {path} for the report: draw it first.")
        return cls.of(path.read_bytes(), alt, caption)

    @classmethod
    def drawn(cls, figure: Figure, alt: str, caption: str) -> Picture:
        """A figure, as it would be saved."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return cls.of(buffer.getvalue(), alt, caption)

    @classmethod
    def of(cls, data: bytes, alt: str, caption: str, widest: int | None = None) -> Picture:
        """The bytes of a PNG file; made narrower where it has more than `widest` pixels in a row."""
        kind = "png"
        with Image.open(io.BytesIO(data)) as image:
            small = min(1.0, (widest or image.width) / image.width)
            size = (round(image.width * small), max(1, round(image.height * small)))
            if small < 1 or len(data) > LARGE:
                buffer, kind = io.BytesIO(), "webp"
                image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(buffer, "WEBP", quality=QUALITY, method=4)
                data = buffer.getvalue()
        return cls(uri(data, f"image/{kind}"), alt, caption, *size)


@dataclass(frozen=True)
class Video:
    """A video as a data URI; the browser plays it when asked to."""

    uri: str
    name: str  # what it is called to those who do not see it
    caption: str

    @classmethod
    def read(cls, path: Path, name: str, caption: str) -> Video:
        """An MP4 file."""
        return cls(uri(path.read_bytes(), "video/mp4"), name, caption)


@dataclass(frozen=True)
class Row:
    """Pictures or videos beside each other, as far as the page is wide."""

    items: Sequence[Picture | Video]

    @property
    def kinds(self) -> list[tuple[str, Picture | Video]]:
        """Each with the name of its kind."""
        return [("video" if isinstance(item, Video) else "picture", item) for item in self.items]


@dataclass(frozen=True)
class Links:
    """Files beside the page: (path relative to it, its name, what it is)."""

    files: Sequence[tuple[str, str, str]]


def uri(data: bytes, kind: str) -> str:
    """Bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


Block = str | list[str] | Table | Picture | Row | Links
KINDS = {str: "text", list: "items", Table: "table", Picture: "picture", Row: "row", Links: "links"}


@dataclass
class Section:
    """A heading and what stands below it, block by block."""

    title: str
    blocks: list[Block] = field(default_factory=list)

    @property
    def kinds(self) -> list[tuple[str, Any]]:
        """Each block with the name of its kind."""
        return [(KINDS[type(block)], block) for block in self.blocks]


class Page:
    """A page in the making: sections in order, filled by `add`."""

    def __init__(self, title: str, subtitle: str = ""):
        self.title, self.subtitle = title, subtitle
        self.sections: list[Section] = []

    def section(self, title: str) -> None:
        """Begin a section."""
        self.sections.append(Section(title))

    def add(self, *blocks: Block) -> None:
        """Put blocks below what the last section holds.

        Raises:
            ConfigError: no section was begun, or a block of another type.
        """
        if not self.sections:
            raise ConfigError("A page's blocks stand in sections: call section(title) first.")
        for block in blocks:
            if type(block) not in KINDS:
                kinds = "a text, a list of texts, a Table, a Picture, a Row of these or Links"
                raise ConfigError(f"A {type(block).__name__} cannot stand on a page: give {kinds}.")
        self.sections[-1].blocks += blocks

    def html(self) -> str:
        """The whole page."""
        return _environment().get_template(TEMPLATE).render(page=self)

    def write(self, path: str | Path) -> Path:
        """Write the page, whole or not at all.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        write_text(path, self.html())
        return Path(path)


def _environment() -> Any:
    """Jinja with everything escaped.

    Raises:
        MissingInputError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingInputError("The report needs the package jinja2, which is not installed: pip install jinja2.") from error
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
