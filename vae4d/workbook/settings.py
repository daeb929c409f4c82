"""Options of the notebooks that do not train (those that do have TrainConfig), and the conversion of parameters to options.

Names are the original's where it has the option.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import math
from typing import Any, TypeVar

from ..config import choice, unknown
from ..errors import ConfigError
from ..faithful.repairs import Repairs

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Options of notebook 01_data."""

    run_dir: str = "outputs/quick"
    dataset: str = "samples"
    input_size: int = 128  # pixels, side of the square frames
    interval: int = 1  # distance between the frames of a window, in source frames
    clip_length: int = 4  # frames of a window
    worlds: int = 8  # procedural worlds that are shown
    textures: str = ""  # folder of photographs for them; empty takes scikit-image's
    semantics: str = "repaired"  # published squashes frames to a square (row 10)
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, interval=1, clip_length=2, worlds=1, seed=0)
        check_size(self.input_size)
        Repairs.parse(self.semantics)


@dataclasses.dataclass(frozen=True)
class SynthesisSettings:
    """Options of notebook 04_interpolate."""

    run_dir: str = "outputs/quick"
    dataset: str = "samples"
    input_size: int = 128
    resume: str = "sharp"  # checkpoint that is shown; empty takes the best of the run's flow stage
    faithful: str = ""  # checkpoint of the faithful model beside a sharp one; empty takes the best of the run's flow stage
    interval: int = 1  # every interval-th frame of a clip is taken
    video_limit: int = 100  # test clips of the interpolation job; 0 for all
    frame_limit: int = 30  # frames of a clip, from its start; 0 for all
    shown: int = 4  # test clips that the notebook shows; 0 for all
    factor: int = 4  # times the frame rate
    reinit_k: int = 12  # frames for which a scene code is kept
    semantics: str = "repaired"  # or "published", "published+1+5", "repaired-4"
    padding_mode: str = ""  # zeros or border; empty: the checkpoint's
    scale_rotate: float = 0.0  # radians per unit of the pose network's output; 0: the checkpoint's
    scale_translate: float = 0.0  # normalised-cube units per unit of it; 0: the checkpoint's
    orbit_views: int = 48
    orbit_angle: float = 0.1  # radians
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, interval=1, video_limit=0, frame_limit=0, shown=0, factor=1, reinit_k=1, orbit_views=1, orbit_angle=0, seed=0)
        at_least(self, scale_rotate=0, scale_translate=0)
        if 0 < self.frame_limit < 3:
            raise ConfigError(f"frame_limit is {self.frame_limit}: interpolation needs 3 frames of a clip, give more, or 0 for all.")
        check_size(self.input_size)
        Repairs.parse(self.semantics)
        choice("device", self.device, ("auto", "cpu"))


@dataclasses.dataclass(frozen=True)
class ScoreSettings:
    """Options of notebook 05_evaluate."""

    run_dir: str = "outputs/quick"
    dataset: str = "samples"
    sizes: tuple[int, ...] = (128, 256)  # pixels, sides of the square frames; the first is that of the procedural worlds too
    gaps: tuple[int, ...] = (2, 4, 8)  # distances between the two given frames, in source frames
    resume: str = ""  # checkpoint; empty takes the best of the run's flow stage, "none" scores the baselines alone
    method: str = ""  # a function of one's own, "my_file.py:function"
    frames: str = ""  # folder of frames that another program made
    predicted: str = ""  # folder of predicted videos, scored as published; empty takes what 04_interpolate wrote
    true: str = ""  # folder of the true ones, by the same names; empty: `predicted` holds both
    given_ends: bool = False  # the first and last frame of those videos were given: they count as published, and not when repaired
    video_limit: int = 100  # clips of each split; 0 for all
    pair_limit: int = 0  # pairs a clip and gap, spread evenly; 0 for all
    worlds: int = 12  # procedural worlds per bin of motion; 0 leaves them out
    workers: int = 2  # processes
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, video_limit=0, pair_limit=0, worlds=0, workers=1, seed=0)
        if not self.sizes or len(set(self.sizes)) < len(self.sizes):
            raise ConfigError(f"sizes is {list(self.sizes)}: give different sides of frames in pixels, such as [128, 256].")
        for size in self.sizes:
            check_size(size, "sizes")
        choice("device", self.device, ("auto", "cpu"))
        if self.true and not self.predicted:
            raise ConfigError(f"true is {self.true!r} and predicted is empty: name the folder of the predicted videos too.")
        if not self.gaps or min(self.gaps) < 2 or len(set(self.gaps)) < len(self.gaps):
            raise ConfigError(f"gaps is {list(self.gaps)}: give different whole numbers of at least 2, such as [2, 4, 8].")


@dataclasses.dataclass(frozen=True)
class OwnSettings:
    """Options of notebook 09_bring_your_own."""

    run_dir: str = "outputs/quick"
    dataset: str = "samples"  # whose first test clip is scored and shown
    input_size: int = 128
    resume: str = "sharp"  # checkpoint that the view looks at
    gap: int = 4  # distance between the two given frames, in source frames
    pair_limit: int = 8  # pairs that are scored, spread evenly; 0 for all
    max_steps: int = 3  # of the training with the added loss
    bsize: int = 2
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, gap=2, pair_limit=0, max_steps=1, bsize=1, seed=0)
        check_size(self.input_size)
        choice("device", self.device, ("auto", "cpu"))


def at_least(settings: object, **lowest: float) -> None:
    """Raise ConfigError for a number that is not finite or below its lowest value."""
    for name, least in lowest.items():
        if not least <= getattr(settings, name) < math.inf:
            raise ConfigError(f"{name} is {getattr(settings, name)}: use a finite number of at least {least}.")


def check_size(size: int, name: str = "input_size") -> None:
    """Raise ConfigError where the model cannot take frames of this side."""
    if size < 32 or size % 16:
        raise ConfigError(f"{name} is {size}: use a multiple of 16 of at least 32.")


def typed(kind: type[T], more: dict | str | None = None, /, **parameters: Any) -> T:
    """`kind(**parameters)` with every value in its default's type: papermill's command line hands over some values as text.

    Args:
        kind: a dataclass whose fields have defaults.
        more: further fields by name, as a dict or its text.
    Raises:
        ConfigError: an unknown parameter, or a value that does not say what its default's type asks for.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    if isinstance(more, str):
        with contextlib.suppress(ValueError, SyntaxError):
            more = ast.literal_eval(more)
    if not isinstance(more or {}, dict):
        raise ConfigError(f"more is {more!r}: give options by name, such as {{'workers': 4}}.")
    for name in (more or {}).keys() & parameters.keys():
        raise ConfigError(f"more holds {name!r}, which is a parameter of its own (or fixed in this notebook): set it there.")
    values = (more or {}) | parameters
    for name in values.keys() - defaults.keys():
        raise unknown("parameter", name, defaults)
    return kind(**{name: coerced(name, value, defaults[name]) for name, value in values.items()})


def as_options(name: str, value: Any, *options: str) -> dict[str, int]:
    """A list of whole numbers as the options that they are, by name.

    Raises:
        ConfigError: it is no list of so many whole numbers.
    """
    numbers = coerced(name, value, (1,) * len(options))
    if len(numbers) != len(options):
        raise ConfigError(f"{name} is {value!r}: give {len(options)} whole numbers, for {' and '.join(options)}.")
    return dict(zip(options, numbers, strict=True))


def coerced(name: str, value: Any, default: Any) -> Any:
    """`value` in the type of `default`; see `typed`."""
    wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a list"}[type(default)]
    problem = ConfigError(f"{name} is {value!r}: give {wanted}, such as {list(default) if isinstance(default, tuple) else default!r}.")
    if isinstance(default, str):
        return "" if value is None else str(value)  # papermill's command line turns None, 7 and True into their types
    try:
        if isinstance(value, str) and not isinstance(default, float):
            value = ast.literal_eval(value.strip().capitalize() if isinstance(default, bool) else value.strip())
        if isinstance(default, tuple):
            return tuple(coerced(name, part, default[0]) for part in (value if isinstance(value, list | tuple) else [value]))
        if isinstance(value, bool) is not isinstance(default, bool):
            raise problem
        result = type(default)(value)
    except (TypeError, ValueError, SyntaxError, OverflowError) as error:
        raise problem from error
    if isinstance(default, int) and result != value:  # 2.5 is no whole number
        raise problem
    return result
