"""Lines that say how far a long work is: printed as they are, or drawn as a bar beside the last one (`workbook.live`)."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]


class Line(str):
    """A line that knows how far the work is.

    Args:
        share: of the work that is done, in [0, 1].
        wrong: it tells of a part that was left out or failed, and must not be folded away.
    """

    share: float
    wrong: bool

    def __new__(cls, text: str, share: float, wrong: bool = False) -> Line:
        line = super().__new__(cls, text)
        line.share, line.wrong = min(max(share, 0.0), 1.0), wrong
        return line
