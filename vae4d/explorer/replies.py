"""What the panel answers: sentences, links to files, and answers that wait until the hand rests."""

from __future__ import annotations

import asyncio
import base64
import html
import mimetypes
from collections.abc import Callable
from pathlib import Path

from ..errors import Vae4dError

LINKED = 12_000_000  # bytes; a larger file is named, but not sent to the browser


def said(error: Exception) -> str:
    """One sentence for an error: the project's own say what to do; others are faults to be reported."""
    if isinstance(error, Vae4dError):
        return str(error)
    return f"{type(error).__name__}: {error}. This is a fault of the explorer: please report it, with what you did last."


def sentence(text: str, wrong: bool = False) -> str:
    """HTML of a line for a reader and a screen reader; what went wrong begins with a sign and a word, not with a colour alone."""
    if not text:
        return ""
    mark, role = ("<b>\u26a0 Not done.</b> ", "alert") if wrong else ("", "status")
    border = "border-left: 5px solid #D55E00; padding-left: 8px" if wrong else "padding-left: 13px"
    return f'<div role="{role}" style="{border}">{mark}{html.escape(text)}</div>'


def download(path: Path) -> str:
    """HTML of a link that saves a file from the page itself, wherever the server's root lies, and of the file's place."""
    place, name = (html.escape(text) for text in (path.as_posix(), path.name))
    if path.stat().st_size > LINKED:
        return f"Written to <code>{place}</code>."
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    data = base64.b64encode(path.read_bytes()).decode()
    return f'Written to <code>{place}</code>. <a download="{name}" href="data:{kind};base64,{data}">Download {name}</a>'


class Pause:
    """Calls `act` once the hand has rested for `seconds`; at once where no event loop runs."""

    def __init__(self, act: Callable[[], None], seconds: float = 0.4):
        self.act, self.seconds, self._waiting = act, seconds, None

    def __call__(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.act()
            return
        self.cancel()
        self._waiting = loop.call_later(self.seconds, self.act)

    def cancel(self) -> None:
        """Do not call `act` any more."""
        if self._waiting is not None:
            self._waiting.cancel()
