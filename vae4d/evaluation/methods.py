"""Methods that make the frames between two given ones, behind one interface: baselines, models, and a user's own.

A method is called with the pairs of one clip at one gap, in order, and yields one prediction for each: a float tensor (K, 3, S, S),
one frame for every number of the pair. It never sees the frames in between. Conventions: RGB in [0, 1]; t runs from 0 at the first
given frame to 1 at the second, by the clip's time stamps.

A method joins by one function: `PairMethod(my_function, version="2")`, `my_function(first, second, times) -> (K, 3, S, S)`;
`register.model` puts it, or a model, among the `BASELINES` by a name.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..checkpoint import load_model, locate, read_checkpoint
from ..config import PRESETS, SharpConfig, choice
from ..errors import CheckpointError, ConfigError, MethodError, MissingInputError
from ..faithful.repairs import Repairs
from ..family import OWN, Model
from ..files import sha256
from ..register import digest
from ..synthesis import Encoded
from .minterpolate import Minterpolate
from .optical_flow import FARNEBACK, FlowWarp, dis_flow, farneback_flow, opencv_version

Settings = dict[str, str | int | float]
PairFunction = Callable[[Tensor, Tensor, tuple[float, ...]], Tensor]
"""(3, S, S), (3, S, S) and K moments in (0, 1) to (K, 3, S, S), all in [0, 1]."""

OVERSHOOT = 0.5  # beyond [0, 1] by more than this, values are in other units; within it they are clamped


@dataclass(frozen=True, eq=False)
class Pair:
    """What a method is given: two frames of a clip, and which frames between them are wanted."""

    clip: str
    size: int
    gap: int
    start: int
    first: Tensor  # (3, S, S) float32 in [0, 1], frame `start`
    second: Tensor  # the same, frame `start + gap`
    numbers: tuple[int, ...]  # frame numbers wanted: all from start + 1 to start + gap - 1
    times: tuple[float, ...]  # their t in (0, 1)

    def follows(self, other: Pair | None) -> bool:
        """Whether this pair begins with the frame that ends the other one."""
        if other is None:
            return False
        return (other.clip, other.size, other.gap, other.start + other.gap) == (self.clip, self.size, self.gap, self.start)

    def __str__(self) -> str:
        return f"{self.clip} ({self.size} px, gap {self.gap}, frames {self.start} and {self.start + self.gap})"


class Method(Protocol):
    """What can be scored. It is pickled to worker processes, so it opens files and loads weights when it is called, not before."""

    settings: Settings  # what defines it: implementation, versions, options, the checkpoint's sha256

    def __call__(self, pairs: Iterable[Pair]) -> Iterator[Tensor]:
        """Per pair (len(pair.numbers), 3, S, S) in [0, 1], in order and in constant memory."""


class PairMethod:
    """A function of two frames and the moments between them, as a method.

    Args:
        function: see `PairFunction`; to travel to worker processes it is defined at the top of a module, not in a cell or a lambda.
        settings: what else defines it, such as version="2"; a change in them makes the benchmark score it anew.
    """

    def __init__(self, function: PairFunction, /, **settings: str | int | float):
        self.function = function
        name = getattr(function, "__qualname__", type(function).__qualname__)
        self.settings: Settings = {"function": f"{function.__module__}.{name}", **settings}

    def __call__(self, pairs: Iterable[Pair]) -> Iterator[Tensor]:
        for pair in pairs:
            yield self.function(pair.first, pair.second, pair.times)


def repeat(first: Tensor, second: Tensor, times: tuple[float, ...]) -> Tensor:
    """The nearer of the two given frames; the first where both are equally near."""
    return torch.stack([first if t <= 0.5 else second for t in times])


def blend(first: Tensor, second: Tensor, times: tuple[float, ...]) -> Tensor:
    """Linear blend: (1 - t) first + t second."""
    return torch.stack([(1 - t) * first + t * second for t in times])


class ModelMethod:
    """A checkpoint of either family as a method. It is loaded once per process, on the first call; a frame that two pairs share is encoded
    once.

    Args:
        semantics: of the faithful model; the sharp one has no defects to choose from.
        use_flow: None takes flow where the checkpoint's flow stage has been trained.
    Raises:
        MissingInputError: no such checkpoint. ConfigError: unknown semantics, or other than the default for a sharp checkpoint.
    """

    def __init__(self, checkpoint: str | Path, device: str = "cpu", semantics: str = "repaired", use_flow: bool | None = None):
        repairs = Repairs.parse(semantics)
        self.checkpoint, self.device = locate(checkpoint).absolute(), device
        if not self.checkpoint.is_file():
            raise MissingInputError(f"There is no checkpoint {checkpoint}: train one with notebooks 02 and 03, or correct the path.")
        self.sharp = isinstance(PRESETS.get(self._metadata.get("config", {}).get("preset")), SharpConfig)
        if self.sharp and repairs != Repairs():
            raise ConfigError(f"{checkpoint} is a sharp model, which semantics {semantics!r} does not apply to: leave semantics out.")
        self.how: dict[str, str | bool | None] = ({} if self.sharp else {"semantics": semantics}) | {"use_flow": use_flow}
        flow = "as trained" if use_flow is None else str(use_flow).lower()
        self.settings: Settings = {"checkpoint": sha256(self.checkpoint), **self.how, "use_flow": flow}
        if self._registered:
            self.settings["source"] = digest(self._registered)
        self._model: Model | None = None

    def __getstate__(self) -> dict:
        # The registered class travels along: where its module is imported, it is registered again.
        state = {name: value for name, value in self.__dict__.items() if name != "_metadata"}
        return state | {"_model": None, "_registered": self._registered}

    @cached_property
    def _metadata(self) -> dict:
        """Of the checkpoint; empty where it cannot be read, which is told when the method is used."""
        try:
            return read_checkpoint(self.checkpoint)[0]
        except CheckpointError:
            return {}

    @cached_property
    def _registered(self) -> type[Model] | None:
        """The class of a preset that a user registered."""
        return OWN.get(self._metadata.get("config", {}).get("preset"))

    @property
    def seen(self) -> frozenset[str] | None:
        """SHA-256 of the clips that the checkpoint says it was trained or validated on; None where it does not say."""
        data = self._metadata.get("extra", {}).get("data")
        return None if data is None else frozenset(data)

    @property
    def model(self) -> Model:
        """The model on its device, in eval mode."""
        if self._model is None:
            with torch.inference_mode(False):  # tensors made in inference mode take no part in any gradient, whoever needs one later
                self._model = load_model(self.checkpoint).to(self.device)
        return self._model

    def __call__(self, pairs: Iterable[Pair]) -> Iterator[Tensor]:
        last, end = None, None
        for pair in pairs:
            start = end if pair.follows(last) else self._encode(pair.first)
            end = self._encode(pair.second)
            last = pair
            yield self._synthesise(start, end, pair.times)

    @torch.inference_mode()
    def _encode(self, frame: Tensor) -> Encoded:
        return self.model.encode(frame.to(self.device)[None])

    @torch.inference_mode()
    def _synthesise(self, start: Encoded, end: Encoded, times: tuple[float, ...]) -> Tensor:
        # One moment after the other: as one batch the same frames take up to 1.6 times as long on a CPU.
        return torch.cat([self.model.synthesise(start, end, t, **self.how).image for t in times]).cpu()


BASELINES: dict[str, Callable[[], Method]] = {
    "repeat": lambda: PairMethod(repeat),
    "linear blend": lambda: PairMethod(blend),
    "Farneback": lambda: PairMethod(FlowWarp(farneback_flow), flow="Farneback", opencv=opencv_version(), **FARNEBACK),
    "DIS": lambda: PairMethod(FlowWarp(dis_flow), flow="DIS PRESET_MEDIUM", opencv=opencv_version()),
    "minterpolate": Minterpolate,
}


def baselines(names: Iterable[str] | None = None) -> dict[str, Method]:
    """The baselines of these names, or all five, in their usual order.

    Raises:
        ConfigError: an unknown name.
    """
    wanted = list(BASELINES) if names is None else [choice("baseline", name, BASELINES) for name in names]
    return {name: BASELINES[name]() for name in BASELINES if name in wanted}


def load_user_method(where: str) -> PairMethod:
    """The function at "my_file.py:my_function", as a method; its file's sha256 stands in the settings.

    Raises:
        ConfigError: not of that form, no such file or function, or the file cannot be run.
    """
    path, _, name = where.rpartition(":")
    if not path or not name:
        raise ConfigError(f"{where!r} names no function: write my_file.py:my_function.")
    if not Path(path).is_file():
        raise ConfigError(f"There is no file {path}: correct the path before the colon in {where!r}.")
    function = UserFunction(path, name)
    function.load()
    return PairMethod(function, function=name, sha256=sha256(path))


class UserFunction:
    """A function by file and name, so that it can be pickled: a worker process reads the file again."""

    def __init__(self, path: str, name: str):
        self.path, self.name = str(Path(path).absolute()), name
        self._function: PairFunction | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_function": None}

    def __call__(self, first: Tensor, second: Tensor, times: tuple[float, ...]) -> Tensor:
        return self.load()(first, second, times)

    def load(self) -> PairFunction:
        """Run the file and return its function."""
        if self._function is None:
            name = f"vae4d_user_{Path(self.path).stem}"  # no other module's name
            spec = importlib.util.spec_from_file_location(name, self.path)
            if spec is None or spec.loader is None:
                raise ConfigError(f"{self.path} is no Python file: give one that ends in .py.")
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module  # where dataclasses look for the module of a class
            try:
                spec.loader.exec_module(module)
            except (Exception, SystemExit) as error:  # also a script that ends itself when it is read
                raise ConfigError(f"{self.path} cannot be run ({type(error).__name__}: {error}): correct it and start again.") from error
            self._function = getattr(module, self.name, None)
            if not callable(self._function):
                raise ConfigError(f"{self.path} has no function {self.name!r}: define it there, or correct the name after the colon.")
        return self._function


def checked(name: str, prediction: Tensor, pair: Pair) -> Tensor:
    """A prediction as float32 (K, 3, S, S) on the CPU, clamped to [0, 1].

    Small overshoots, as of a sharpening filter, are clamped; values beyond [-0.5, 1.5] are in other units and refused.

    Raises:
        MethodError: not a float tensor of that shape, or with values that are not finite or not in [0, 1]; names method, clip and remedy.
    """

    def wrong(what: str, remedy: str) -> MethodError:
        return MethodError(f"Method {name!r} returned {what} for {pair}: {remedy}.")

    shape = (len(pair.numbers), 3, pair.size, pair.size)
    if not isinstance(prediction, Tensor):
        kind = f"{type(prediction).__module__}.{type(prediction).__qualname__}".removeprefix("builtins.")
        raise wrong(kind, f"return a torch tensor {shape}, with torch.from_numpy or torch.stack")
    if not prediction.is_floating_point():
        raise wrong(str(prediction.dtype), "return floats in [0, 1], bytes divided by 255")
    if tuple(prediction.shape[1:]) == shape[1:] and len(prediction) != shape[0]:
        raise wrong(f"{len(prediction)} frames, not {shape[0]}", f"return one for each of the moments {moments(pair)}")
    if tuple(prediction.shape) != shape:
        raise wrong(f"shape {tuple(prediction.shape)}, not {shape}", "return frames, RGB, height, width, of the size that was given")
    prediction = prediction.detach().to("cpu", torch.float32)
    finite = prediction.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        frame = pair.numbers[int((~finite).nonzero()[0])]
        raise wrong(f"values that are not finite (NaN or infinite) in frame {frame}", "look for a division by zero in it")
    low, high = float(prediction.min()), float(prediction.max())
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        raise wrong(f"values from {low:.3g} to {high:.3g}", "return floats in [0, 1], bytes divided by 255")
    return prediction.clamp(0, 1)


def moments(pair: Pair) -> str:
    """The pair's moments, for a sentence."""
    return ", ".join(f"{t:.3g}" for t in pair.times)
