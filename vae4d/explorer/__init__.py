"""The explorer: one pair of frames of a clip, moved through time and space by hand, or drawn as still pictures.

    settings   options of notebook 00_explore, and the clips and methods that they name
    core       a pair of frames and what every method makes of it; encodes a frame once; knows no widget
    canvas     pictures side by side, split or as error maps, enlarged and captioned, as PNG bytes
    modes      what is to be shown, and the picture that shows it
    beliefs    what a method believes (depth, occupancy, flow, motion, shares, camera) as figures by name
    exports    PNG, MP4, GIF and npz of what is shown
    uploads    a video that was handed to the panel, as a clip
    controls   the widgets of the panel, labelled; panel joins them to the core; replies are its sentences and links
    page       what the panel needs of the page itself: names for screen readers, uploads (their parts in the browser: *.js)
    stills     the panel, or where nobody is there to move it, its pictures; and how long a picture takes

Nothing here imports ipywidgets before a panel is made.
"""

from .core import TRUTH, Explorer, Truth
from .modes import MODES, View, draw
from .settings import ExploreSettings, clips_of, explorer_of, methods_of
from .stills import explore, latency, show_beliefs

__all__ = [
    "MODES", "TRUTH", "ExploreSettings", "Explorer", "Truth", "View", "clips_of", "draw", "explore", "explorer_of", "latency", "methods_of",
    "show_beliefs",
]  # fmt: skip
