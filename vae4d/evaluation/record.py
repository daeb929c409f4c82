"""What a benchmark's figures hang on: versions, definitions, clips, settings; the key of a finished part; how results are written."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..assets import load_alexnet
from ..clips.clip import Clip
from ..errors import ClipError, ConfigError, Vae4dError
from ..files import atomic_path, sha256, write_json, write_text
from .methods import Method, UserFunction
from .optical_flow import opencv_version
from .pairs import pairs_of
from .scoring import LPIPS_BATCH
from .statistics import BLOCK, LEAST

FORMAT = 1  # of the parts
PACKAGE = Path(__file__).parent.parent
MODULES = (  # what scores hang on
    "metrics", "perceptual", "interface", "layers", "geometry", "checkpoint", "faithful/model", "faithful/modules",
    "evaluation/pairs", "evaluation/scoring", "evaluation/methods", "evaluation/optical_flow", "evaluation/minterpolate",
    "evaluation/frame_folders", "evaluation/units",
    "sharp/model", "sharp/features", "sharp/matching", "sharp/subpixel", "sharp/camera", "sharp/geometry",
    "sharp/volume", "sharp/fusion", "sharp/tiles",
)  # fmt: skip
DEFINITIONS = {
    "frames": "RGB, rounded to uint8, compared in memory; only frames between the given ones",
    "mse": "mean squared error over pixels and channels, in squared grey levels",
    "psnr": "10 log10(255^2 / mse) per frame; the mean leaves out infinite values, which `exact` counts",
    "psnr_pooled": "10 log10(255^2 / mean mse over all frames)",
    "ssim": "scikit-image structural_similarity: Gaussian weights, sigma 1.5, data_range 255, channel axis, no sample covariance",
    "lpips": "LPIPS v0.1, AlexNet with ImageNet weights; empty where not available",
    "motion": "mean length in pixels of the DIS flow (PRESET_MEDIUM) from the first given frame to the second",
    "clean": "without pairs across a cut and without repeated frames",
    "all": "mean over videos, each counting once, of those on which every method of that size and gap was scored",
    "differences": f"clean frames, method minus reference; 95 % percentile bootstrap: per clip by circular blocks of max({BLOCK}, n^(1/3)) "
                   f"of its n pairs within shots, across clips by video; not estimable below {LEAST} pairs or videos",
}


def versions(lpips: bool) -> dict[str, str]:
    """Versions of Python and of the packages that the figures hang on."""
    names = ["torch", "numpy", "scikit-image", "pandas", "scipy"] + ["lpips"] * lpips
    return {"python": platform.python_version(), **{name: _version(name) for name in names}, "opencv": opencv_version()}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@cache
def sources() -> str:
    """SHA-256 of the package's modules that scores hang on."""
    return hashlib.sha256("".join(sha256(PACKAGE / f"{name}.py") for name in MODULES).encode()).hexdigest()


def lpips_settings(weights: str | Path) -> dict[str, Any]:
    """What defines LPIPS: its version, the backbone's checksum, the batch."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_alexnet(Path(weights)).items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return {"package": _version("lpips"), "alexnet": digest.hexdigest(), "batch": LPIPS_BATCH}


def frames_sha256(clip: Clip) -> str:
    """Hash of what is scored: the prepared frames and their times, which another decoder may make differently."""
    digest = hashlib.sha256(np.asarray(clip.times, dtype="<f8").tobytes())
    for start in range(0, len(clip), 64):
        digest.update(np.ascontiguousarray(clip.frames[start : start + 64]))
    return digest.hexdigest()


def method_record(method: Method) -> dict[str, Any]:
    """A method's settings, and the hash of its code where there is any to be read.

    Raises:
        ConfigError: it has no settings.
    """
    if not isinstance(getattr(method, "settings", None), Mapping):
        raise ConfigError(f"{method!r} has no settings, so it is no method: give PairMethod(function) for a plain function.")
    code = code_sha256(method)
    return {"settings": dict(method.settings), "trained": trained(method)} | ({"code": code} if code else {})


def trained(method: Method) -> bool:
    """Whether a method was fitted to data: its settings name a checkpoint."""
    return "checkpoint" in method.settings


def code_sha256(method: Method) -> str | None:
    """Hash of the source of a function or a method's class; None where it cannot be read. What it calls is not part of it."""
    code = getattr(method, "function", method)
    if isinstance(code, UserFunction):
        return sha256(code.path)
    try:
        return hashlib.sha256(inspect.getsource(code if inspect.isroutine(code) else type(code)).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def part_key(clip: dict[str, Any], gap: int, limit: int | None, method: dict[str, Any], metrics: dict[str, Any]) -> str:
    """The name under which the scores of one clip, gap and method are kept: 16 hex digits that change with anything they hang on."""
    text = json.dumps([FORMAT, clip, gap, limit, method, metrics, sources()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def clip_record(clip: Clip, label: str) -> dict[str, Any]:
    """What is known of a clip at one size."""
    return {
        "clip": label, "size": clip.size, "split": clip.split, "sha256": clip.sha256, "frames_sha256": frames_sha256(clip),
        "frames": len(clip), "cuts": list(clip.cuts), "repeated": list(clip.duplicates), "fps": str(clip.fps),
    }  # fmt: skip


def pair_counts(clip: Clip, gaps: Sequence[int], limit: int | None) -> dict[str, dict[str, int]]:
    """Per gap the pairs of a clip, those across a cut, and the repeated frames among the scored; gaps without a pair are left out."""
    counts = {}
    for gap in gaps:
        try:
            pairs = pairs_of(clip, gap, limit)
        except ClipError:
            continue
        repeated = sum(sum(pair.repeated) for pair in pairs)
        counts[str(gap)] = {"pairs": len(pairs), "across_cuts": sum(pair.cut for pair in pairs), "frames": len(pairs) * (gap - 1),
                            "repeated": repeated}
    return counts


def labels_of(clips: Sequence[Clip]) -> dict[str, str]:
    """What each clip is called in the tables, by its sha256: its name, with eight hex digits where that would not be unique.

    "all" is what the tables call the mean over clips.
    """
    names: dict[str, set[str]] = {}
    for clip in clips:
        names.setdefault(clip.name, set()).add(clip.sha256)
    plain = {name for name, digests in names.items() if len(digests) == 1 and name != "all"}
    return {clip.sha256: clip.name if clip.name in plain else f"{clip.name}-{clip.sha256[:8]}" for clip in clips}


def sentence(error: BaseException) -> str:
    """What went wrong, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, Vae4dError) else f"{type(error).__name__}: {text}".rstrip(": ")


def rows_of(methods: Mapping[str, Method]) -> dict[str, dict[str, Any]]:
    """`method_record` of every method by name."""
    return {name: method_record(method) for name, method in methods.items()}


def write_results(
    folder: Path, tables: Mapping[str, pd.DataFrame], name: str, about: Mapping[str, Any], log: str, traces: Sequence[str]
) -> None:
    """Write tables as `<name>.csv`, their record as JSON, and the tracebacks of what failed; without any there is no log.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    for table, rows in tables.items():
        with atomic_path(folder / f"{table}.csv") as partial:
            rows.to_csv(partial, index=False)
    write_json(folder / name, about)
    if traces:
        write_text(folder / log, "\n".join(traces))
    else:
        (folder / log).unlink(missing_ok=True)
