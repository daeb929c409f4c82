"""The pieces of work of a benchmark, and what a process needs to do one."""

from __future__ import annotations

import pickle
import re
import time
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from ..clips.clip import Clip
from ..files import atomic_path
from ..perceptual import load_lpips
from .methods import Method
from .processes import FINISHING
from .record import sentence
from .scoring import COLUMNS, score_method


@dataclass(frozen=True, eq=False)
class Unit:
    """The least piece of work: one method on one clip of one size at one gap."""

    clip: Clip
    label: str
    gap: int
    name: str
    method: Method
    frames: int
    part: Path
    limit: int | None
    weights: Path | None  # of LPIPS; None leaves it out

    def __str__(self) -> str:
        return f"{self.label}, {self.clip.size} px, gap {self.gap}, {self.name}"


@dataclass(frozen=True)
class Outcome:
    """How a unit ended: seconds of work, or why it failed."""

    seconds: float
    failure: dict[str, Any] | None = None
    trace: str = ""


def score_unit(unit: Unit) -> Outcome:
    """Score one unit and write its part; what its method raises becomes a failure."""
    began = time.perf_counter()
    lpips = lpips_model(unit.weights) if unit.weights else None
    try:
        scores = score_method(unit.clip, unit.gap, unit.name, unit.method, lpips, unit.limit, unit.label)
    except (Exception, SystemExit) as error:  # a method that ends itself loses its rows like any other
        return Outcome(time.perf_counter() - began, _failure(unit, sentence(error)), traceback.format_exc())
    with FINISHING, atomic_path(unit.part) as partial_path:
        scores.to_csv(partial_path, index=False)
    return Outcome(time.perf_counter() - began)


def crash(unit: Unit) -> Outcome:
    """The outcome of a unit whose process died."""
    message = "its process died (out of memory, a crash in a library, or code that a new process cannot import): try workers = 1."
    return Outcome(0.0, _failure(unit, f"Method {unit.name!r} on {unit.label}: {message}"))


def _failure(unit: Unit, message: str) -> dict[str, Any]:
    return {"method": unit.name, "clip": unit.label, "size": unit.clip.size, "gap": unit.gap, "message": message}


def read(unit: Unit) -> pd.DataFrame:
    """A part, to the last bit as it was measured; names are the unit's, as a clip may be called "NA"."""
    exact = dict.fromkeys(("t", "motion", "mse", "psnr", "ssim", "lpips"), _number)
    table = pd.read_csv(unit.part, converters=exact)[COLUMNS]
    return table.assign(clip=unit.label, method=unit.name)


def _number(text: str) -> float:
    """A number as Python writes it; pandas' own parsers differ between versions in the last digit."""
    return float(text) if text else float("nan")


def weight(unit: Unit) -> float:
    """How much work a unit is, up to a factor: its pixels."""
    return unit.frames * unit.clip.size**2


def travels(method: Method) -> bool:
    """Whether a method can be sent to a process. What a notebook's cell defines is called __main__, which another process is not."""
    if str(getattr(method, "device", "cpu")).startswith("cuda"):
        return False
    try:
        return b"__main__" not in pickle.dumps(method)
    except Exception:  # any object may refuse in its own way
        return False


@cache
def lpips_model(weights: Path) -> nn.Module | None:
    """LPIPS, loaded once in a process; None where the package is not installed."""
    return load_lpips(weights)


def safe_name(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", name)
