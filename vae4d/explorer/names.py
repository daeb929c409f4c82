"""Names for screen readers, which the widgets' own HTML leaves out (names.js puts them into the page)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def names(scope: str, images: Mapping[str, str]) -> Any:
    """A widget without a look of its own; it belongs into the panel whose parts it names.

    Args:
        scope: CSS class of the panel. images: alternative texts by the CSS class of an image; set `.images` anew to change them.
    """
    import anywidget
    import traitlets

    class Names(anywidget.AnyWidget):
        _esm = Path(__file__).with_suffix(".js")
        scope = traitlets.Unicode().tag(sync=True)
        images = traitlets.Dict().tag(sync=True)

    return Names(scope=scope, images=dict(images))
