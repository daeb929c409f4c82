"""A pair of frames of a clip, and what every method makes of it: pictures by method, moment and camera, without any widget.

Conventions: pictures are float (3, H, W) in [0, 1] on the CPU. t runs from 0 at the first frame of the pair to 1 at the second, by the
clip's time stamps. A camera offset is six numbers as in `geometry` (radians about y, x, z, then cube units along x, y, z); all zero is
the camera at t. A frame is encoded once for each model as long as it belongs to the pair.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..clips.clip import Clip
from ..config import choice
from ..errors import ClipError, ConfigError, MethodError, Vae4dError
from ..evaluation.methods import Pair, PairFunction, checked
from ..family import Model
from ..synthesis import Encoded, on_device, trajectory
from ..workbook.showcase import shot_of, telling

TRUTH = "true frame"
STILL = (0.0,) * 6
NEAR = 1e-3  # of the pair's time: so near a frame, a moment falls on it (sliders round)

FARTHEST_TURN, FARTHEST_SHIFT = math.pi / 2, 2.0  # of a camera's offset, radians and cube units: beyond lies nothing that a frame shows

Way = nn.Module | PairFunction  # a module has `encode` and `synthesise` as the models of both families do, see `register.model`


@dataclass(frozen=True, eq=False)
class Truth:
    """The frame of the clip that is nearest to a moment."""

    image: Tensor  # (3, H, W)
    number: int
    t: float  # its moment
    exact: bool  # whether that is the moment that was asked for


class Explorer:
    """A clip, a pair of its frames, and methods by name.

    Args:
        methods: models in eval mode, one's own too (`register.model`), and functions of two frames and moments (`PairFunction`).
        start: number of the first frame; None takes one in the middle of the longest shot.
        gap: the second frame is so many frames later; less where the clip is shorter and `start` is None.
    Raises:
        ClipError, ConfigError: see `choose`.
    """

    def __init__(self, methods: Mapping[str, Way], clip: Clip, start: int | None = None, gap: int = 4):
        if TRUTH in methods:
            raise ConfigError(f"A method cannot be named {TRUTH!r}, as the clip's own frames are: choose another name.")
        self.methods = dict(methods)
        self._codes: dict[tuple[str, int], Encoded] = {}
        self._made: dict[str, tuple[tuple, object]] = {}  # by method, what it made last: the views of one moment share it
        self._paths: dict[str, Tensor] = {}
        self.clip: Clip | None = None
        self.choose(clip, start, gap)

    @property
    def names(self) -> list[str]:
        """The methods, and the clip's own frames."""
        return [*self.methods, TRUTH]

    @property
    def models(self) -> dict[str, nn.Module]:
        """The methods that are models: they encode a frame, and synthesise a moment of two."""
        return {name: method for name, method in self.methods.items() if callable(getattr(method, "synthesise", None))}

    def moves(self, name: str) -> bool:
        """Whether a method is a model that takes a camera's offset."""
        if name not in self.models:
            return False
        try:
            inspect.signature(self.models[name].synthesise).bind("first", "second", "t", "offset")
        except TypeError:
            return False
        return True

    def choose(self, clip: Clip, start: int | None = None, gap: int = 4) -> None:
        """Take another pair; on an error the old one stays. What both pairs share stays encoded.

        Raises:
            ClipError: a clip of one frame. ConfigError: frames that the clip does not have.
        """
        if len(clip) < 2:
            raise ClipError(f"{clip.name} has one frame, and nothing lies between one frame and itself: choose a clip of two or more.")
        start, gap = default_pair(clip, gap) if start is None else (start, gap)
        if gap < 1 or start < 0 or start + gap >= len(clip):
            raise ConfigError(f"{clip.name} has frames 0 to {len(clip) - 1}, not {start} and {start + gap}: choose start and gap within.")
        first, second = clip.tensor(start), clip.tensor(start + gap)  # a damaged clip fails here, and the old pair stays
        same = clip is self.clip
        self._codes = {key: code for key, code in self._codes.items() if same and key[1] in (start, start + gap)}
        self._made, self._paths = {}, {}
        self.clip, self.start, self.gap, self.first, self.second = clip, start, gap, first, second
        times = clip.times[start : start + gap + 1]
        self.times = [float(time) for time in (times - times[0]) / (times[-1] - times[0])]  # of the frames of the pair and between

    def truth(self, t: float) -> Truth:
        """The clip's frame nearest to the moment t."""
        t = moment(t)
        index = min(range(len(self.times)), key=lambda i: abs(self.times[i] - t))
        number, time = self.start + index, self.times[index]
        return Truth(self.clip.tensor(number), number, time, abs(time - t) <= NEAR)

    def picture(self, name: str, t: float, offset: Sequence[float] = STILL) -> Tensor:
        """What a method shows at a moment (3, H, W); baselines and the clip's own frames leave the camera where it is.

        A function is asked for moments within (0, 1) alone, as it is promised; at 0 and 1 stand the frames that it is given.

        Raises:
            ConfigError: no such method, t outside [0, 1], or an offset out of range. MethodError: a user's method fails.
        """
        choice("method", name, self.names)
        if name == TRUTH:
            return self.truth(t).image
        if name in self.models:
            made = self.synthesis(name, t, offset)
            return made.image[0].cpu() if isinstance(self.models[name], Model) else self._checked(name, t, getattr(made, "image", None))
        t, _ = moment(t), camera(offset)
        if t in (0, 1):
            return self.second if t else self.first
        return self._last(name, (t,), lambda: self._checked(name, t, self._run(name, self.methods[name], self.first, self.second, (t,))))

    @torch.inference_mode()
    def synthesis(self, name: str, t: float, offset: Sequence[float] = STILL) -> Any:
        """All that a model says of a moment: `Synthesis`, `SharpSynthesis`, or what a user's own returns; a batch of one.

        Raises:
            ConfigError: see `picture`, or the method is no model. MethodError: a user's model fails.
        """
        model, t, offset = self.model(name), moment(t), camera(offset)
        moved = (torch.tensor(offset),) if any(offset) and self.moves(name) else ()
        return self._last(name, (t, moved and offset), lambda: self._run(name, model.synthesise, *self.encoded(name), t, *moved))

    def _run(self, name: str, act: Callable[..., Any], *given: Any) -> Any:
        """`act(*given)`; what a user's method raises becomes one sentence."""
        try:
            return act(*given)
        except Exception as error:
            if isinstance(error, Vae4dError) or isinstance(self.methods[name], Model):
                raise
            raise MethodError(f"Method {name!r} failed ({type(error).__name__}: {error}): correct it and run its cell again.") from error

    def _checked(self, name: str, t: float, image: Any) -> Tensor:
        """A user's picture (1, 3, S, S), checked as for scoring: (3, S, S) in [0, 1] on the CPU."""
        clip = self.clip
        return checked(name, image, Pair(clip.name, clip.size, self.gap, self.start, self.first, self.second, (self.start,), (t,)))[0]

    def model(self, name: str) -> nn.Module:
        """A method that is a model.

        Raises:
            ConfigError: it is none.
        """
        if name not in self.models:
            choice("method", name, self.names)
            raise ConfigError(f"{name} is no model and believes nothing: choose one of {', '.join(self.models) or '(none was given)'}.")
        return self.models[name]

    def encoded(self, name: str) -> tuple[Encoded, Encoded]:
        """Both frames of the pair as a model's codes, computed once."""
        model = self.model(name)
        for number, frame in ((self.start, self.first), (self.start + self.gap, self.second)):
            if (name, number) not in self._codes:
                with torch.inference_mode():
                    self._codes[name, number] = self._run(name, model.encode, on_device(model, frame))
        return self._codes[name, self.start], self._codes[name, self.start + self.gap]

    def path(self, name: str) -> Tensor:
        """A model's camera path (gap + 1, 3, 4) over the frames of the pair and between, computed once.

        Raises:
            ConfigError: it is no model of the two families, and nobody knows how its poses are to be chained.
        """
        if not isinstance(self.model(name), Model):
            raise ConfigError(f"{name} has no camera path: choose a model of vae4d's own, such as 'sharp'.")
        if name not in self._paths:
            frames = (self.clip.tensor(number) for number in range(self.start, self.start + self.gap + 1))
            self._paths[name] = trajectory(self.model(name), frames).cpu()
        return self._paths[name]

    def cut(self) -> int | None:
        """The frame between the two at which a new shot begins; None within one shot."""
        return next((cut for cut in self.clip.cuts if self.start < cut <= self.start + self.gap), None)

    def _last(self, name: str, key: tuple, make):
        if name not in self._made or self._made[name][0] != key:
            self._made[name] = (key, make())
        return self._made[name][1]


def default_pair(clip: Clip, gap: int) -> tuple[int, int]:
    """(start, gap): from the clip's telling frame on, or in the middle of the longest shot, the gap no longer than that allows; the first
    two frames where it is a single one."""
    number = telling(clip)
    if number is not None and number + gap in shot_of(clip, number):
        return number, gap
    shot = max(clip.shots(), key=len)
    if len(shot) < 2:
        return 0, 1
    gap = max(1, min(gap, len(shot) - 1))
    return shot.start + (len(shot) - 1 - gap) // 2, gap


def moment(t: float) -> float:
    """`t`, checked to lie in [0, 1]."""
    if not 0 <= t <= 1:
        raise ConfigError(f"t is {t}: a moment between the two frames lies in [0, 1].")
    return float(t)


def camera(offset: Sequence[float]) -> tuple[float, ...]:
    """A camera's offset, checked to be six finite numbers of a camera that may see something."""
    values = tuple(float(value) for value in offset)
    if len(values) != 6 or not all(map(math.isfinite, values)):
        raise ConfigError(f"offset is {list(values)}: give six finite numbers, radians about y, x, z and cube units along x, y, z.")
    if max(map(abs, values[:3])) > FARTHEST_TURN or max(map(abs, values[3:])) > FARTHEST_SHIFT:
        raise ConfigError(f"offset is {list(values)}: turn by at most a quarter (pi / 2 radians) and move by at most 2 cube units.")
    return values
