"""The whole measurement: every method on every clip, size and gap, as tables that a second run gives again byte for byte.

`benchmark` writes into its folder scores.csv (one row a scored frame, `scoring.COLUMNS`), summary.csv and differences.csv
(`statistics`), and benchmark.json: versions, seeds, settings, hashes of checkpoints and clips, definitions, failures, leak check.
`parts/` keeps what is finished, one file for each clip, size, gap and method; a later call takes from there what did not change.

Which clips: methods that learned nothing are scored on all clips. So are trained ones (their settings name a checkpoint) whose
checkpoint records what it has seen, if none of these clips is among it. Others are scored on test clips only (`test_only` in
benchmark.json); with splits="all" on all, and each clip of another split is then flagged.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..clips.clip import Clip
from ..config import choice
from ..errors import ClipError, ConfigError, MethodError, MissingInputError
from ..parallel import processes, rank, share, wait
from ..progress import Line, Say
from . import record
from .leaks import THRESHOLD, find_leaks, leak_sentence
from .methods import Method
from .pairs import pairs_of
from .processes import spread
from .statistics import DIFFERENCES, RESAMPLES, differences, summary
from .units import Outcome, Unit, crash, lpips_model, read, safe_name, score_unit, travels, weight

SPLIT_RULES = ("auto", "test", "all")
REFERENCES = ("linear blend", "DIS")  # methods that the others are compared with

@dataclass(frozen=True)
class Results:
    """The tables of a benchmark, as they were written."""

    folder: Path
    scores: pd.DataFrame  # columns `scoring.COLUMNS`
    summary: pd.DataFrame  # columns `statistics.SUMMARY`
    differences: pd.DataFrame  # columns `statistics.DIFFERENCES`
    record: dict[str, Any]  # what is in benchmark.json


def benchmark(
    clips: Sequence[Clip],
    methods: Mapping[str, Method],
    gaps: Sequence[int] = (2, 4, 8),
    folder: str | Path = "outputs/benchmark",
    lpips: bool = True,
    workers: int = 1,
    limit: int | None = None,
    splits: str = "auto",
    seed: int = 0,
    resamples: int = RESAMPLES,
    weights: str | Path = "data/weights",
    progress: Say = print,
) -> Results | None:
    """Score methods on clips; see the module for what is written.

    Processes that `accelerate launch` starts share the scoring (`parallel`); the first one writes the tables, the others return None.

    A method that fails on a clip loses its rows there: it is reported, written to benchmark.json and (with its traceback) failures.log,
    and tried again by the next call. Results do not hang on `workers`.

    Args:
        clips: of one or several sizes, all splits together: the leak check compares them.
        workers: processes; models on a GPU and methods that cannot be sent to a process run in the calling one. In a script that is
            started by itself, call this below `if __name__ == "__main__":`.
        limit: pairs a clip, for a quick look (see `pairs.pairs_of`).
        splits: "auto" (see the module), or every method on "test" or "all" clips.
        progress: gets plain lines.
    Raises:
        ConfigError: no method, a gap or limit out of range, unknown splits.
        ClipError: no clip has a pair of frames at any of the gaps. MethodError: every method failed everywhere.
        AssetError: LPIPS is wanted and its weights are missing. StorageError: the folder cannot be written.
    """
    choice("splits", splits, SPLIT_RULES)
    if not methods or not gaps:
        raise ConfigError("A benchmark needs a method and a gap: name at least one of each.")
    if not clips:
        raise ClipError("There is no clip to score: give a data set with a video that can be read.")
    folder, labels = Path(folder), record.labels_of(clips)
    lpips_record = record.lpips_settings(weights) if lpips and lpips_model(Path(weights)) is not None else None
    if lpips and lpips_record is None:
        progress("LPIPS is not available: the package lpips is not installed.")
    described, records = record.rows_of(methods), [record.clip_record(clip, labels[clip.sha256]) for clip in clips]
    metrics = {"versions": record.versions(lpips_record is not None), "lpips": lpips_record}
    checked = _leak_check(clips, labels, progress)
    confined = {name for name, about in described.items() if about["trained"] and not unseen(methods[name], clips)}
    flags = _flags(clips, labels, confined, splits, checked, methods)
    for flag in flags:
        progress(f"NOTE: {flag['method']} on {flag['clip']}: {flag['reason']}")

    units, left_out = _units(clips, labels, records, methods, described, confined, gaps, limit, splits, metrics, folder, weights)
    for reason in left_out:
        progress(f"Left out: {reason}")
    if not units:
        raise ClipError(f"Nothing can be scored: {' '.join(left_out) or 'no clip is in a split that is scored, choose splits = all.'}")
    failures, traces = _run(units, workers, {name for name, about in described.items() if "code" in about}, progress)
    if rank():
        return None
    if len(failures) == len(units):
        raise MethodError(f"No method gave a frame that can be scored; the first failure: {failures[0]['message']}")
    lost = {(failure["clip"], failure["size"], failure["gap"], failure["method"]) for failure in failures}
    done = [unit for unit in units if (unit.label, unit.clip.size, unit.gap, unit.name) not in lost]
    scores = pd.concat([read(unit) for unit in done], ignore_index=True)
    table = summary(scores, {label[1:] for label in lost})
    measures = ["psnr", "ssim"] + ["lpips"] * (lpips_record is not None)
    present = [name for name in REFERENCES if name in set(scores["method"])]
    compared = [differences(scores, name, measure, seed, resamples) for name in present for measure in measures]
    compared = pd.concat(compared, ignore_index=True) if compared else pd.DataFrame(columns=DIFFERENCES)
    about = {
        "format": record.FORMAT, **metrics, "definitions": record.DEFINITIONS,
        "settings": {"gaps": list(gaps), "sizes": sorted({clip.size for clip in clips}), "limit": limit, "splits": splits,
                     "resamples": resamples, "seeds": {"bootstrap": seed}},
        "methods": {name: method | {"test_only": name in confined} for name, method in described.items()},
        "clips": [one | {"gaps": record.pair_counts(clip, gaps, limit)} for clip, one in zip(clips, records, strict=True)],
        "leaks": checked, "flags": flags, "left_out": left_out, "failures": failures,
    }  # fmt: skip
    tables = {"scores": scores, "summary": table, "differences": compared}
    record.write_results(folder, tables, "benchmark.json", about, "failures.log", traces)
    return Results(folder, scores, table, compared, about)


def _units(
    clips: Sequence[Clip], labels: Mapping[str, str], records: Sequence[dict], methods: Mapping[str, Method], described: Mapping[str, dict],
    confined: Collection[str], gaps: Sequence[int], limit: int | None, splits: str, metrics: dict, folder: Path, weights: str | Path,
) -> tuple[list[Unit], list[str]]:  # fmt: skip
    """What is to be scored, in the order of the tables, and why some clips are left out at some gaps."""
    units, left_out = [], []
    for clip, about in zip(clips, records, strict=True):
        label = labels[clip.sha256]
        for gap in dict.fromkeys(gaps):
            try:
                frames = sum(len(pair.numbers) for pair in pairs_of(clip, gap, limit))
            except ClipError as error:
                left_out.append(str(error))
                continue
            for name, method in methods.items():
                if not wanted(clip, name in confined, splits):
                    continue
                key = record.part_key(about, gap, limit, {"name": name, **described[name]}, metrics)
                part = folder / "parts" / f"{safe_name(label)}-{clip.size}-gap{gap}-{safe_name(name)}-{key}.csv"
                units.append(Unit(clip, label, gap, name, method, frames, part, limit, Path(weights) if metrics["lpips"] else None))
    return units, left_out


def wanted(clip: Clip, test_only: bool, splits: str) -> bool:
    """Whether a method is scored on a clip; see the module."""
    return clip.split == "test" or splits == "all" or (splits == "auto" and not test_only)


def unseen(method: Method, clips: Sequence[Clip]) -> bool:
    """Whether a trained method's record of what it has seen proves that none of the clips is among it."""
    seen = getattr(method, "seen", None)
    return seen is not None and not any(clip.sha256 in seen for clip in clips)


def _run(units: Sequence[Unit], workers: int, lasting: set[str], progress: Say) -> tuple[list[dict[str, Any]], list[str]]:
    """Do what is not done; returns failures and their traces in the order of the units. Parts of methods in `lasting` are taken over."""
    waiting = [unit for unit in units if unit.name not in lasting or not unit.part.exists()]
    if len(waiting) < len(units):
        progress(f"{len(units) - len(waiting)} of {len(units)} parts are there already.")
    portable = {name: travels(method) for name, method in {unit.name: unit.method for unit in waiting}.items()}
    if workers > 1:
        for name in (name for name, yes in portable.items() if not yes):
            progress(f"{name} runs in the calling process: it is on a GPU, or cannot be sent to another process. "
                     "What a notebook's cell defines can be sent once it stands in a .py file.")
    outcomes: dict[int, Outcome] = {}

    def do(some: Sequence[Unit]) -> None:
        total, ready, began = sum(map(weight, some)), 0.0, time.monotonic()
        for number, (unit, outcome) in enumerate(spread(some, score_unit, workers, portable_unit, crash), 1):
            outcomes[id(unit)] = outcome
            ready += weight(unit)
            minutes = (time.monotonic() - began) * (total - ready) / ready / 60
            ended = f"FAILED. {outcome.failure['message']}" if outcome.failure else f"{unit.frames} frames in {outcome.seconds:.1f} s"
            left = f", about {minutes:.0f} min left" if minutes >= 0.5 else ""
            progress(Line(f"[{number}/{len(some)}] {unit}: {ended}{left}", ready / total, outcome.failure is not None))

    def portable_unit(unit: Unit) -> bool:
        return portable[unit.name] and unit.clip.folder.is_dir()

    if processes() > 1:
        for unit in waiting if not rank() else ():
            unit.part.unlink(missing_ok=True)  # so that what is there after the work is this call's
        wait()
    do(share(waiting))
    wait()
    if not rank():  # what another process could not do is tried here, where its failure is told
        do([unit for unit in waiting if id(unit) not in outcomes and not unit.part.exists()])
    done = [outcomes[id(unit)] for unit in waiting if id(unit) in outcomes]
    failed = [outcome for outcome in done if outcome.failure]
    return [outcome.failure for outcome in failed], [f"{outcome.failure['message']}\n{outcome.trace}" for outcome in failed]


def _leak_check(clips: Sequence[Clip], labels: Mapping[str, str], progress: Say) -> dict[str, Any]:
    """The result of `leaks.find_leaks` on the clips at their smallest size, for benchmark.json; said as well."""
    size = min(clip.size for clip in clips)
    compared = [clip for clip in clips if clip.size == size]
    try:
        table = find_leaks(compared, [labels[clip.sha256] for clip in compared])
    except MissingInputError as error:
        progress(f"LEAKS WERE NOT CHECKED: {error}")
        return {"checked": False, "result": str(error), "threshold_bits": THRESHOLD, "pairs": []}
    progress(leak_sentence(table))
    return {"checked": True, "result": leak_sentence(table), "threshold_bits": THRESHOLD, "pairs": table.astype(object).to_dict("records")}


def _flags(
    clips: Sequence[Clip], labels: Mapping[str, str], confined: Collection[str], splits: str, checked: dict[str, Any],
    methods: Mapping[str, Method],
) -> list[dict[str, str]]:  # fmt: skip
    """Rows of trained methods that prove nothing: on a clip that the checkpoint has seen (another data set may call it test), on one of
    another split than test, or on one that shares footage with such a clip. Those that have seen no clip prove something on all."""
    split = {labels[clip.sha256]: clip.split for clip in clips if wanted(clip, True, splits)}
    reasons = {label: f"the clip is in split {name}" for label, name in split.items() if name != "test"}
    for pair in checked["pairs"]:
        ends = ((pair["clip"], pair["other"], pair["other split"]), (pair["other"], pair["clip"], pair["split"]))
        for label, other, other_split in ends if pair["leak"] else ():
            if split.get(label) == "test":
                reasons[label] = f"the clip shares footage with {other} (split {other_split})"
    flags = []
    for name in (name for name in methods if name in confined):
        seen = getattr(methods[name], "seen", None) or frozenset()
        known = {labels[clip.sha256]: "the checkpoint was trained on this very video" for clip in clips if clip.sha256 in seen}
        own = reasons | {label: reason for label, reason in known.items() if label in split}
        flags += [{"method": name, "clip": label, "reason": reason} for label, reason in own.items()]
    return flags
