"""What the panel needs of the page itself, beyond ipywidgets: names for screen readers, and a button for files that knows their size
before it sends them. Each has its part in the browser in a .js file beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def names(scope: str, images: Mapping[str, str]) -> Any:
    """A widget without a look of its own; it belongs into the panel whose sliders, players and images it names (names.js).

    Args:
        scope: CSS class of the panel. images: alternative texts by the CSS class of an image; set `.images` anew to change them.
    """
    import anywidget
    import traitlets

    class Names(anywidget.AnyWidget):
        _esm = HERE / "names.js"
        scope = traitlets.Unicode().tag(sync=True)
        images = traitlets.Dict().tag(sync=True)

    return Names(scope=scope, images=dict(images))


def upload(description: str, tooltip: str, accept: str, largest: int) -> Any:
    """A button that asks for a file and sends it (upload.js). ipywidgets' own sends files of any size, and a server drops the connection,
    without a word, at a message that is too large.

    Its messages (`on_msg`) are {"name": str, "size": bytes} with the content as their one buffer, or none where the file is larger.

    Args:
        accept: kinds of files that the browser's dialogue offers. largest: bytes that are sent.
    """
    import anywidget
    import traitlets

    class Upload(anywidget.AnyWidget):
        _esm = HERE / "upload.js"
        description = traitlets.Unicode().tag(sync=True)
        tooltip = traitlets.Unicode().tag(sync=True)
        accept = traitlets.Unicode().tag(sync=True)
        largest = traitlets.Int().tag(sync=True)

    return Upload(description=description, tooltip=tooltip, accept=accept, largest=largest)
