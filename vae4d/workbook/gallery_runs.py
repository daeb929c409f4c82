"""What a run left in its folder, read for the gallery: notebooks, parameters, environment, metrics, trainings, figures and videos.

A run is a folder directly below `outputs/`. Nothing is required of it: what cannot be read, and what is missing, becomes a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError, safe_open

from ..training.runlog import NEWEST

PAGE = "index.html"
# In every metrics.json.
STANDING = ("notebook", "settings", "versions", "device", "hardware", "seconds", "laps", "peak_memory_gb", "figures")
OPTIONS, LOSSES, VALIDATION = "options.json", "losses.csv", "validation.csv"


@dataclass(frozen=True)
class Training:
    """A training's folder: the run's own (name "training") or one directly below it."""

    name: str
    folder: Path
    options: dict[str, Any]
    losses: pd.DataFrame  # one row a step; empty where nothing was written
    validation: pd.DataFrame
    total: int = 0  # steps of the whole run; 0 where nobody says

    @property
    def steps(self) -> int:
        """The last step that was done."""
        return int(self.losses["step"].max()) if len(self.losses) else 0


@dataclass
class RunFolder:
    """One run. `problems` are sentences on what is missing, unfinished or unreadable."""

    folder: Path
    journal: dict[str, dict] = field(default_factory=dict)  # run.json
    notebooks: dict[str, Path] = field(default_factory=dict)  # executed, by name
    metrics: dict[str, dict] = field(default_factory=dict)  # by notebook
    benchmarks: dict[str, dict] = field(default_factory=dict)  # benchmark.json, by folder
    summaries: dict[str, pd.DataFrame] = field(default_factory=dict)  # summary.csv of benchmarks, by its place in the run
    trainings: dict[str, Training] = field(default_factory=dict)
    figures: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """Settings of each notebook; of trainings and benchmarks where no notebook tells."""
        found = {name: values.get("settings", {}) for name, values in self.metrics.items()}
        if not found:
            found = {name: training.options for name, training in self.trainings.items()}
            found |= {name: record.get("settings", {}) for name, record in self.benchmarks.items()}
        return {name: {key: self.relative(value) for key, value in values.items()} for name, values in found.items() if values}

    @property
    def environments(self) -> dict[str, dict[str, str]]:
        """Versions and hardware for each notebook or benchmark."""
        found = {name: {"device": values.get("device"), "hardware": values.get("hardware"), **values.get("versions", {})}
                 for name, values in self.metrics.items()}
        found |= {} if found else {name: record.get("versions", {}) for name, record in self.benchmarks.items()}
        return {name: {key: str(value) for key, value in values.items() if value} for name, values in found.items()}

    @property
    def scalars(self) -> dict[str, dict[str, Any]]:
        """Single values that each notebook measured."""
        return {name: dict(flat({key: value for key, value in values.items() if key not in STANDING or key == "seconds"}))
                for name, values in self.metrics.items()}

    @property
    def tables(self) -> dict[str, dict[str, list[dict]]]:
        """Tables that each notebook measured: lists of rows."""
        return {name: {key: value for key, value in values.items() if is_table(value)} for name, values in self.metrics.items()}

    @property
    def sentences(self) -> dict[str, list[str]]:
        """What each notebook concluded in words."""
        return {name: [line for value in values.values() if is_prose(value) for line in value] for name, values in self.metrics.items()}

    def relative(self, value: Any) -> Any:
        """A value without the run's own name, by which the same parameters of two runs would differ."""
        mark = f"outputs/{self.name}"
        return value.replace(mark, "<run>") if isinstance(value, str) and (value == mark or value.startswith(mark + "/")) else value

    def at(self, path: Path) -> str:
        """A path within the run."""
        return path.relative_to(self.folder).as_posix()


def is_run(folder: Path) -> bool:
    """Whether a folder holds anything that a run leaves."""
    own = (*folder.glob("*.metrics.json"), *folder.glob("*.ipynb"), *folder.glob("run.json"))
    return bool(own or any(places(folder, name) for name in (LOSSES, OPTIONS, "benchmark.json")))


def places(folder: Path, name: str) -> dict[str, Path]:
    """Files of this name in the run's folder and directly below it, by their folder's name; what was put aside (`.old-N`) is left out."""
    own = {"": folder / name} if (folder / name).is_file() else {}
    below = {path.parent.name: path for path in sorted(folder.glob(f"*/{name}")) if ".old-" not in path.parent.name}
    return own | below


def read_run(folder: Path, expected: Sequence[str] = ()) -> RunFolder:
    """Read a run.

    Args:
        expected: names of the notebooks that belong to a whole run of the runner.
    """
    run = RunFolder(folder)
    run.notebooks = {path.stem: path for path in sorted(folder.glob("*.ipynb")) if ".partial" not in path.name}
    partial = sorted(path.name.removesuffix(".partial.ipynb") for path in folder.glob("*.partial.ipynb"))
    run.journal = attempt(run, folder / "run.json", read_journal, {})
    for path in sorted(folder.glob("*.metrics.json")):
        if (values := attempt(run, path, read_json)) is not None:
            run.metrics[path.name.removesuffix(".metrics.json")] = values
    for name, path in places(folder, "benchmark.json").items():
        run.benchmarks[name or "benchmark"] = attempt(run, path, read_json, {})
        for summary in (path.with_name("summary.csv"), folder / "summary.csv"):
            if (frame := attempt(run, summary, read_summary)) is not None:
                run.summaries[run.at(summary)] = frame
                break
    for name in sorted({*places(folder, LOSSES), *places(folder, OPTIONS)}):
        place = folder / name
        if (place / LOSSES).is_file() or (place / NEWEST).is_file():  # else a job's options
            options = attempt(run, place / OPTIONS, read_json, {})
            tables = (attempt(run, place / table, read_rows, pd.DataFrame()) for table in (LOSSES, VALIDATION))
            total = options.get("steps") or attempt(run, place / NEWEST, read_total, 0)
            run.trainings[name or "training"] = Training(name or "training", place, options, *tables, total)
    run.figures = sorted(folder.glob("figures/*.png"))
    run.videos = sorted(folder.glob("videos/*.mp4"))
    run.problems += missing(run, partial, expected if run.journal or partial else ())
    return run


def missing(run: RunFolder, partial: Sequence[str], expected: Sequence[str]) -> Iterator[str]:
    """A sentence for each thing that a finished run has and this one lacks."""
    for name in partial:
        yield f"{name} failed or is still running: {name}.partial.ipynb shows how far it came."
    known = {*run.notebooks, *partial, *run.metrics}
    if absent := [name for name in expected if name not in known]:
        yield f"Not run: {', '.join(absent)}."
    for name in sorted(run.notebooks.keys() - run.metrics.keys()):
        yield f"{name} ran and left no metrics."
    for name in sorted(run.metrics.keys() - run.notebooks.keys() - set(partial)):
        yield f"There is no executed copy of {name}: it was run in JupyterLab, or another run of it was begun since."
    for training in run.trainings.values():
        if training.steps < training.total:
            yield f"The training {training.name} is not finished: {training.steps:,} of {training.total:,} steps are done."
    lacks = {"metrics": run.metrics or run.benchmarks, "training curves": run.trainings, "figures": run.figures, "videos": run.videos}
    if names := [name for name, found in lacks.items() if not found]:
        yield f"This run has no {', no '.join(names)}."


def attempt(run: RunFolder, path: Path, read: Callable[[Path], Any], default: Any = None) -> Any:
    """`read(path)`; the default where there is no such file, or where it cannot be read, which is told then."""
    try:
        return read(path)
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:
        run.problems.append(f"{run.at(path)} cannot be read ({str(error).splitlines()[0]}): run what writes it again.")
        return default


def read_json(path: Path) -> dict[str, Any]:
    """Values by name; `settings`, `versions` and `figures`, where they are there, hold such again."""
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict) or not all(isinstance(values.get(name, {}), dict) for name in ("settings", "versions", "figures")):
        raise ValueError("it does not hold values by name")
    return values


def read_journal(path: Path) -> dict[str, dict]:
    """What `runner.Journal` wrote: for each notebook values by name."""
    journal = read_json(path)
    if not all(isinstance(entry, dict) for entry in journal.values()):
        raise ValueError("it does not hold values by name for each notebook")
    return journal


def read_rows(path: Path) -> pd.DataFrame:
    """A CSV of numbers with a column `step`; empty where it has no rows yet."""
    rows = pd.read_csv(path).apply(pd.to_numeric) if path.read_text(encoding="utf-8").strip() else pd.DataFrame()
    if len(rows.columns) and "step" not in rows:
        raise ValueError("it has no column step")
    return rows


def read_summary(path: Path) -> pd.DataFrame:
    """The scores of a benchmark, in which what is empty stays a text, but for a PSNR that is a number."""
    rows = pd.read_csv(path, keep_default_na=False)
    pd.to_numeric(rows.get("psnr"))
    return rows


def read_total(path: Path) -> int:
    """Steps of a whole training, from the header of its newest checkpoint; 0 where that does not say."""
    try:
        with safe_open(path, framework="numpy") as stream:
            meta = json.loads((stream.metadata() or {}).get("vae4d", "{}"))
    except SafetensorError as error:
        raise ValueError(f"it is not a whole safetensors file: {error}") from error
    return meta.get("extra", {}).get("total", 0)


def is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def is_prose(value: Any) -> bool:
    """Whether a value is sentences rather than names."""
    return isinstance(value, list) and bool(value) and all(isinstance(line, str) and line.endswith(".") for line in value)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of single values and short lists of them; names of nested ones are joined by dots."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            if not is_table(value) and not is_prose(value) and not any(isinstance(part, list | dict) for part in value):
                yield f"{prefix}{key}", ", ".join(map(text, value)) or "none"
        elif value is not None:
            yield f"{prefix}{key}", value


def text(value: Any) -> str:
    """A value as a table shows it: floats with four significant digits."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.4e}"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text(part)}" for key, part in value.items())
    return str(value)
