"""Your own model, loss, data set or view, added from a notebook's cell or a script; from then on its name works where vae4d's names do.

    @vae4d.register.model("mine")              a function of two frames and times, or a class
    @vae4d.register.loss("edges", weight=0.1)  (made, batch) -> (B,), a term of the sharp model's training
    @vae4d.register.dataset("mine")            () -> videos and folders
    @vae4d.register.view("mine")               (made, first, second) -> Figure

Each decorator gives back what it was put on. Nothing is stored: a name is known in the process that registered it. A cell that is run again
replaces what it registered before; any other name that is taken is refused, and `forget` frees one. Conventions: pictures are RGB in
[0, 1], float32; t is in [0, 1]; B is the number of samples.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from . import checkpoint, family
from .config import PRESETS, ModelConfig, SharpConfig, preset
from .errors import ConfigError, MethodError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T", bound=Callable)

views: dict[str, Callable[..., Figure]] = {}
"""Registered views by name, `(made, first, second) -> Figure`: what `synthesise` gave, and both frames (3, H, W) in [0, 1]."""

functions: dict[str, Callable[..., torch.Tensor]] = {}
"""Registered models that are functions, by name; those that are modules are in `checkpoint.OWN`."""

BASES = {SharpConfig: "sharp", ModelConfig: "small"}  # presets whose sizes a class of a family takes
TAKEN_COLUMNS = ("step", "loss", "gradient_norm", "lr", "drawing_seconds", "step_seconds")  # of losses.csv
_makers: dict[tuple[str, str], str] = {}  # (kind, name): the function or class that registered it


def model(name: str, **sizes: Any) -> Callable[[T], T]:
    """Register a model. What it is decides what it can do:

    - a function `(first, second, times) -> (K, 3, S, S)` of frames (3, S, S) and K moments in (0, 1) is scored by name, beside the
      baselines, and is a method of the explorer;
    - a `torch.nn.Module` (a class without arguments, or an object) whose `encode(frame)` and `synthesise(first, second, t, ...)` are as
      those of vae4d's models, frames (B, 3, H, W), is all that too, and `vae4d.load(name)` gives it back;
    - a subclass of SharpAutoencoder4D or VideoAutoencoder4D, made from a config as they are, becomes a preset: `vae4d.build_model(name)`
      makes it, `SharpTrainConfig(preset=name)` trains it, and its checkpoints are read where it is registered.

    Args:
        sizes: of a subclass alone: fields of its config other than those of preset "sharp" ("small" for the faithful family).
    Raises:
        ConfigError: a name that is taken, or something else than these three.
    """

    def add(what: T) -> T:
        from .evaluation.methods import BASELINES, PairMethod
        from .synthesis import between

        claim("model", name, what, {*BASELINES, *PRESETS, *checkpoint.shipped()})
        base = next((BASES[config] for config, kind in family.CLASSES.items() if isinstance(what, type) and issubclass(what, kind)), None)
        if base and takes_config(what):
            config = preset(base, **sizes, preset=name)
            enter("model", name, what)
            PRESETS[name], family.OWN[name] = config, what
        elif sizes:
            raise ConfigError(f"Model {name!r} takes no sizes ({', '.join(sizes)}): only a subclass that is made from a config does.")
        elif isinstance(what, nn.Module) or (isinstance(what, type) and issubclass(what, nn.Module)):
            ready = interface(name, what)
            enter("model", name, what)
            checkpoint.OWN[name] = ready
            how = {"function": f"{what.__module__}.{type(ready).__qualname__}", "source": digest(ready)}
            BASELINES[name] = lambda: PairMethod(functools.partial(between, ready), **how)
        else:
            takes(name, what, "a model", "first", "second", "times")
            enter("model", name, what)
            functions[name] = what
            BASELINES[name] = lambda: PairMethod(what, source=digest(what))
        return what

    return add


def loss(name: str, weight: float) -> Callable[[T], T]:
    """Register a term of the sharp model's training, `(made, batch) -> (B,)`, that is added `weight` times its mean.

    `made` is `vae4d.sharp.model.Made` (made.fused.image is the picture, (B, 3, S, S)), `batch` is `vae4d.scenes.collage.Sample`
    (batch.target is the truth); its flow, depth and pose are empty in samples of real video. No gradient passes through the camera
    (made.pair.xi), which is solved from motion and depth. Name, weight and the source's hash stand in
    the options and checkpoints of a run, which goes on only where they are the same.

    Raises:
        ConfigError: a name that is taken, a weight that is not above 0, or a function of other arguments.
    """

    def add(function: T) -> T:
        from .sharp.losses import ADDED, WEIGHTS, Term

        claim("loss", name, function, {*WEIGHTS, *TAKEN_COLUMNS})
        takes(name, function, "a loss", "made", "batch")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ConfigError(f"The weight of loss {name!r} is {weight!r}: give a finite number above 0.")
        enter("loss", name, function)
        ADDED[name], WEIGHTS[name] = Term(function, digest(function)), float(weight)
        return function

    return add


def dataset(name: str) -> Callable[[T], T]:
    """Register a data set, `() -> paths` of videos, folders of frames or folders of these; `prepare_dataset(name, size)` prepares it.

    A list is split by source, as a folder is; {"train": paths, "test": paths} says the splits, and where validate is not among them a
    tenth of train is held out. Once prepared, the data set opens in every process, registered there or not.

    Raises:
        ConfigError: a name that is taken, or a function with arguments.
    """

    def add(function: T) -> T:
        from .clips.layouts import LAYOUTS
        from .clips.sources import OWN

        claim("data set", name, function, {"samples", *LAYOUTS})
        takes(name, function, "a data set")
        enter("data set", name, function)
        OWN[name] = function
        return function

    return add


def view(name: str) -> Callable[[T], T]:
    """Register a view, `(made, first, second) -> Figure`, in `views`; it is drawn in the style of vae4d's own.

    `made` is what a model's `synthesise` gave for one pair (`Synthesis`, or `SharpSynthesis` with depth, motion, weights and more), with a
    batch axis of one; `first` and `second` are the two frames, (3, H, W). In `views` it raises one sentence (MethodError) where it
    fails or returns no Figure.

    Raises:
        ConfigError: a name that is taken, or a function of other arguments.
    """

    def add(function: T) -> T:
        from matplotlib.figure import Figure

        from . import views as own
        from .explorer.beliefs import BELIEFS
        from .views.figures import view as styled

        claim("view", name, function, {*own.__all__, *BELIEFS})
        takes(name, function, "a view", "made", "first", "second")

        @functools.wraps(function)
        def drawn(made: Any, first: Any, second: Any) -> Figure:
            try:
                figure = styled(function)(made, first, second)
            except Exception as error:  # a user's function may fail in any way, and below a slider a sentence has to do
                raise MethodError(f"View {name!r} failed ({type(error).__name__}: {error}): correct it and run its cell again.") from error
            if not isinstance(figure, Figure):
                raise MethodError(f"View {name!r} returned {type(figure).__name__}: return a matplotlib Figure.")
            if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
                pyplot.close(figure)  # it would keep one figure for every move of a slider; one that is closed can still be drawn
            return figure

        enter("view", name, function)
        views[name] = drawn
        return function

    return add


def forget(name: str) -> None:
    """Take back all that was registered under a name.

    Raises:
        ConfigError: nothing was.
    """
    kinds = [kind for kind, known in _makers if known == name]
    if not kinds:
        known = ", ".join(sorted({known for _, known in _makers})) or "no names"
        raise ConfigError(f"Nothing was registered as {name!r}: registered are {known}.")
    for kind in kinds:
        release(kind, name)


def release(kind: str, name: str) -> None:
    """Take one registration back."""
    from .clips import sources
    from .evaluation.methods import BASELINES
    from .sharp.losses import ADDED, WEIGHTS

    tables = {
        "model": (BASELINES, PRESETS, family.OWN, checkpoint.OWN, functions),
        "loss": (ADDED, WEIGHTS),
        "data set": (sources.OWN,),
        "view": (views,),
    }
    for table in tables[kind]:
        table.pop(name, None)
    del _makers[kind, name]


def claim(kind: str, name: str, what: Any, taken: set[str]) -> None:
    """Raise ConfigError where a name cannot be had: it is no name, or taken by something else than this function or class itself."""
    if not isinstance(name, str) or name != name.strip() or not name or "/" in name:
        raise ConfigError(f"{name!r} is no name for a {kind}: give a text without slashes, such as 'mine'.")
    before = _makers.get((kind, name))
    if before == maker(what):
        return
    if before:
        raise ConfigError(f"There is a {kind} {name!r} already, registered by {before}: choose another name, or forget({name!r}) first.")
    if name in taken:
        raise ConfigError(f"There is a {kind} {name!r} already, vae4d's own: choose another name.")


def enter(kind: str, name: str, what: Any) -> None:
    """Note who registers a name, once all of it is checked, and take back what it registered before."""
    if (kind, name) in _makers:
        release(kind, name)
    _makers[kind, name] = maker(what)


def takes_config(kind: type) -> bool:
    """Whether a class of a family is made from a config, as its base is."""
    try:
        inspect.signature(kind).bind("config")
    except TypeError:
        return False
    return True


def takes(name: str, function: Any, what: str, *wanted: str) -> None:
    """Raise ConfigError unless `function` can be called with so many arguments by position."""
    if not callable(function):
        raise ConfigError(f"{name!r} is to be {what}, and {type(function).__name__} cannot be called: put the decorator on a function.")
    try:
        signature = inspect.signature(function)
    except ValueError:  # of some functions written in C nobody knows
        return
    try:
        signature.bind(*wanted)
    except TypeError as error:
        raise ConfigError(f"{name!r} takes {signature}: {what} takes ({', '.join(wanted)}).") from error


def interface(name: str, what: Any) -> nn.Module:
    """The model, made where a class was given, in eval mode.

    Raises:
        ConfigError: it lacks `encode` or `synthesise`, or the class needs arguments.
    """
    for needed in ("encode", "synthesise"):
        if not callable(getattr(what, needed, None)):
            raise ConfigError(f"Model {name!r} has no {needed}: give it encode(frame) and synthesise(first, second, t), or a function.")
    if isinstance(what, type):
        takes(name, what, "a class of its own kind")
        what = what()
    return what.eval()


def maker(what: Any) -> str:
    """What a cell that is run again has in common with itself."""
    kind = what if hasattr(what, "__qualname__") else type(what)
    return f"{kind.__module__}.{kind.__qualname__}"


def digest(what: Any) -> str:
    """16 hex digits of the source of a function, a class or a model's class, and of a model's weights: results say by it what made them.

    What the source reads from elsewhere (a global, another function) does not count.
    """
    found = hashlib.sha256()
    kind = what if inspect.isfunction(what) or isinstance(what, type) else type(what)
    for part in [kind] if inspect.isfunction(kind) else [part for part in vars(kind).values() if inspect.isfunction(part)]:
        try:
            found.update(inspect.getsource(part).encode())
        except (OSError, TypeError):  # typed into a bare interpreter: the compiled code has to do
            found.update(part.__code__.co_code + repr(part.__code__.co_consts).encode())
    for key, value in what.state_dict().items() if isinstance(what, nn.Module) else ():
        found.update(key.encode() + value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
