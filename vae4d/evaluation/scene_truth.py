"""Scores on procedural worlds, where everything is known: pictures in between, flow, depth, pose, and views from new cameras.

`score_scenes` writes into its folder scene_scores.csv (one row a measured value, `COLUMNS`), scene_summary.csv (`scene_summary`) and
scenes.json (settings, versions, hashes, failures). `parts/` keeps what is finished, one file for each bin of motion and each row of
the table; a later call takes from there what did not change. A second run gives the same bytes.

Columns of scene_scores.csv: bin, world (its seed) and kind, see `scene_cases`; size in pixels; motion, the mean length in px of the true
flow between the given frames; parallax, the px by which the camera's translation moves a point at the median depth; method; measure; t (of
a picture, else empty); value; unit; note, why there is no value: "undefined", or "no parallax", where the camera's translation moves
nothing by `PARALLAX` px, so that neither its direction nor depth can be told from the frames.
Measures are those of `scene_measures`.
"""

from __future__ import annotations

import hashlib
import json
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import ConfigError, MethodError
from ..files import atomic_path, sha256
from ..progress import Line, Say
from ..scenes.textures import Textures, load_textures
from . import record
from .estimates import Estimator
from .methods import Method
from .scene_cases import BINS, HELD_OUT, SceneCase, label_of, scene_case
from .scene_measures import MEASURES, PARALLAX, PLANE, UNMOVED, Value, between, estimated, plane, unmoved
from .scene_summary import scene_summary
from .scoring import one_thread

WORLDS = 18  # a bin: 12 have a moving camera, and about 9 of these parallax; intervals take 8
MODULES = (  # what scores hang on, beside `record.MODULES` and the package of scenes
    "faithful/losses", "synthesis", "evaluation/estimates", "evaluation/faithful_estimates", "evaluation/sharp_estimates",
    "evaluation/scene_cases", "evaluation/scene_measures", "evaluation/scene_metrics", "evaluation/scene_truth",
)  # fmt: skip
COLUMNS = ["bin", "world", "kind", "size", "motion", "parallax", "method", "measure", "t", "value", "unit", "note"]


@dataclass(frozen=True)
class SceneScores:
    """The tables, as they were written."""

    folder: Path
    scores: pd.DataFrame  # COLUMNS
    summary: pd.DataFrame  # scene_summary.COLUMNS
    record: dict[str, Any]  # what is in scenes.json


@dataclass(frozen=True, eq=False)
class Unit:
    """The least piece of work: one row of the tables (interpolation, estimates or a reference) in one bin."""

    bin: tuple[float, float]
    name: str
    part: Path
    score: Callable[[SceneCase], list[Value]]
    lasting: bool  # its code is known, so a finished part can be taken over


def score_scenes(
    methods: Mapping[str, Method],
    estimators: Mapping[str, Estimator],
    folder: str | Path,
    bins: Sequence[tuple[float, float]] = BINS,
    worlds_per_bin: int = WORLDS,
    size: int = 128,
    seed: int = 0,
    textures: Textures | None = None,
    progress: Say = print,
) -> SceneScores:
    """Score methods (frames in between) and estimators (flow, depth, pose, new views) on held-out worlds; one name may be both.

    What fails in a bin loses its rows there: it is reported, written to scenes.json and (with its traceback) scene_failures.log, and tried
    again by the next call.

    Args:
        bins: motion (low, high) in px of a picture 128 px wide; (0, 0) for still worlds.
        worlds_per_bin: below 8, figures have no interval.
        size: pixels, a multiple of 16. Flow and motion are in pixels of this size.
        textures: None takes the photographs of split "test".
        progress: gets plain lines.
    Raises:
        ConfigError: nothing to score, a bin, size or number of worlds out of range.
        MethodError: everything failed everywhere. StorageError: the folder cannot be written.
    """
    if not methods and not estimators:
        raise ConfigError("There is nothing to score on scenes: name a method or an estimator.")
    if not bins or len(set(map(label_of, bins))) < len(bins) or worlds_per_bin < 1:
        raise ConfigError(f"The bins are {list(bins)} with {worlds_per_bin} worlds each: give one or more bins that differ, and worlds.")
    folder, textures = Path(folder), load_textures(split="test") if textures is None else textures
    described = {"methods": record.rows_of(methods), "estimators": {name: record.method_record(e) for name, e in estimators.items()}}
    settings = {
        "bins": [list(map(float, limits)) for limits in bins], "worlds_per_bin": worlds_per_bin, "size": size, "seed": seed,
        "least_world_seed": HELD_OUT, "least_parallax": PARALLAX,
        "textures": {"names": list(textures.names), "sha256": textures.sha256},
    }  # fmt: skip
    about = {"versions": record.versions(False), "settings": settings, **described}

    units, failures, traces = [], [], []
    for limits in bins:
        here = _units(limits, methods, estimators, about, folder)
        units += here
        waiting = [unit for unit in here if not unit.lasting or not unit.part.exists()]
        failed = _run(limits, waiting, worlds_per_bin, size, seed, textures)
        failures += [failure for failure, _ in failed]
        traces += [f"{failure['message']}\n{trace}" for failure, trace in failed]
        for failure, _ in failed:
            progress(f"{failure['method']}, {failure['bin']}: FAILED. {failure['message']}")
        said = f"Scenes, {label_of(limits)}: {worlds_per_bin} worlds, {len(waiting)} of {len(here)} rows scored, the rest was there."
        progress(Line(said, (1 + list(bins).index(limits)) / len(bins)))
    lost = {(failure["bin"], failure["part"]) for failure in failures}
    done = [unit for unit in units if (label_of(unit.bin), unit.part.name) not in lost]
    scores = pd.concat([_read(unit) for unit in done], ignore_index=True)
    if set(scores["method"]) <= {UNMOVED, PLANE}:
        raise MethodError(f"Nothing could be scored on scenes; the first failure: {failures[0]['message']}")
    summary = scene_summary(scores, seed)
    about["failures"] = [{key: failure[key] for key in ("method", "bin", "world", "message")} for failure in failures]
    tables = {"scene_scores": scores, "scene_summary": summary}
    record.write_results(folder, tables, "scenes.json", about, "scene_failures.log", traces)
    return SceneScores(folder, scores, summary, about)


def _units(
    limits: tuple[float, float], methods: Mapping[str, Method], estimators: Mapping[str, Estimator], about: dict[str, Any], folder: Path
) -> list[Unit]:
    """What is to be scored in a bin, in the order of the table."""
    common = [about["versions"], {k: v for k, v in about["settings"].items() if k != "bins"}, list(limits), _scene_sources()]

    def unit(role: str, name: str, described: dict[str, Any], score: Callable[[SceneCase], list[Value]]) -> Unit:
        key = hashlib.sha256(json.dumps([role, name, described, *common], sort_keys=True).encode()).hexdigest()[:16]
        file = re.sub(r"[^\w.-]+", "_", f"scenes-{label_of(limits)}-{role}-{name}-{key}")
        return Unit(limits, name, folder / "parts" / f"{file}.csv", score, "code" in described)

    own = {"code": "sources"}  # references are part of the package, whose sources are in every key
    units = [unit("frames", n, about["methods"][n], lambda case, n=n, m=m: between(n, m, case)) for n, m in methods.items()]
    units += [unit("estimates", n, about["estimators"][n], lambda case, n=n, e=e: estimated(n, e, case)) for n, e in estimators.items()]
    return [*units, unit("reference", UNMOVED, own, unmoved), unit("reference", PLANE, own, plane)]


def _scene_sources() -> str:
    """SHA-256 of the modules that scores on scenes hang on: those of the benchmark, and those of scenes and estimates."""
    paths = sorted((record.PACKAGE / "scenes").glob("*.py")) + [record.PACKAGE / f"{name}.py" for name in MODULES]
    return hashlib.sha256((record.sources() + "".join(map(sha256, paths))).encode()).hexdigest()


def _run(
    limits: tuple[float, float], units: Sequence[Unit], worlds: int, size: int, seed: int, textures: Textures
) -> list[tuple[dict[str, Any], str]]:
    """Score the units of a bin on all its worlds and write their parts; returns the failures with their traces."""
    rows: dict[Unit, list[tuple]] = {unit: [] for unit in units}
    failed = []
    with one_thread():
        for number in range(worlds if units else 0):
            case = scene_case(limits, number, size, seed, textures)
            about = (case.bin, case.seed, case.kind, size, case.motion, case.parallax)
            for unit in list(rows):
                try:
                    values = unit.score(case)
                except (Exception, SystemExit) as error:
                    failure = {"method": unit.name, "bin": case.bin, "world": case.seed, "message": record.sentence(error)}
                    failed.append((failure | {"part": unit.part.name}, traceback.format_exc()))
                    del rows[unit]
                    continue
                rows[unit] += [(*about, unit.name, measure, t, value, MEASURES[measure], note) for measure, t, value, note in values]
    for unit, table in rows.items():
        with atomic_path(unit.part) as partial_path:
            pd.DataFrame(table, columns=COLUMNS).to_csv(partial_path, index=False)
    return failed


def _read(unit: Unit) -> pd.DataFrame:
    """A part to the last bit as it was measured, which pandas' own reading of numbers does not promise; a method may be called "NA"."""
    table = pd.read_csv(unit.part, dtype=str, keep_default_na=False)
    numbers = {name: table[name].replace("", "nan").astype(float) for name in ("motion", "parallax", "t", "value")}
    return table.assign(**numbers, **{name: table[name].astype(int) for name in ("world", "size")})
