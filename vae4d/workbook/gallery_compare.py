"""The page that compares runs: parameters that differ, metrics side by side, curves over each other, the same figure of each in a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from ..evaluation.report import Links, Page, Picture, Row, Table
from ..views.charts import loss_curves
from .gallery_runs import PAGE, RunFolder, attempt, text

WIDEST = 900  # pixels of a figure that stands beside others; the run's own page has it whole
NONE = "–"  # this run has no such value
CASE = ("clip", "size", "gap", "method", "pairs")  # columns that name a scored case, as in 05_evaluate


def comparison(runs: Sequence[RunFolder]) -> Page:
    """The page of all runs."""
    page = Page("Runs", "One page for each run, and what they have in common")
    sections = [("Runs", [Links([(f"{run.name}/{PAGE}", run.name, summary(run)) for run in runs])])]
    if len(runs) < 2:
        sections[0][1].append("There is one run; a second one would stand beside it here.")
    else:
        sections += [
            ("Parameters and versions that differ", list(differing(runs))),
            ("Metrics side by side", list(side_by_side(runs))),
            ("Curves", list(overlaid(runs))),
            *same_figures(runs),
        ]
    for title, blocks in sections:
        page.section(title)
        page.add(*blocks or ["No two runs have any in common."])
    return page


def summary(run: RunFolder) -> str:
    """A run in one line."""
    counts = {"executed notebooks": run.notebooks, "trainings": run.trainings, "figures": run.figures, "videos": run.videos}
    said = ", ".join(f"{name} {len(found)}" for name, found in counts.items() if found) or "empty"
    return f"{said}; remarks on what is missing {len(run.problems)}" if run.problems else f"{said}; complete"


def differing(runs: Sequence[RunFolder]) -> Iterator[Any]:
    """Parameters and versions that are not the same in all runs that have them."""
    values = {run.name: named("parameters", run.parameters) | named("environment", run.environments) for run in runs}
    shared = [key for key in keys(values) if len({found[key] for found in values.values() if key in found}) > 1]
    if shared:
        shared.sort(key=lambda key: key[0] == "environment")
        groups = [(kind, len(list(part))) for kind, part in groupby(kind for kind, _ in shared)]
        frame = pd.DataFrame({name: [found.get(key, NONE) for key in shared] for name, found in values.items()},
                             index=pd.Index([name for _, name in shared], name="notebook: parameter"))
        yield Table(frame, f"All others are the same wherever two runs have them. {NONE}: this run has no such value. "
                           "<run> is the run's own folder.", groups)
    elif any(len([1 for found in values.values() if key in found]) > 1 for key in keys(values)):
        yield "None: what two runs both have is the same."


def named(kind: str, parts: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Values of all parts of a run by (kind, "part: name")."""
    return {(kind, f"{part}: {name}"): text(value) for part, some in parts.items() for name, value in some.items()}


def side_by_side(runs: Sequence[RunFolder]) -> Iterator[Any]:
    """Single values that at least two runs have, and the PSNR for each clip, gap and method that they scored."""
    values = {run.name: {(part, name): text(value) for part, some in run.scalars.items() for name, value in some.items()} for run in runs}
    shared = sorted((key for key in keys(values) if sum(key in found for found in values.values()) > 1), key=lambda key: key[0])
    if shared:
        frame = pd.DataFrame({name: [found.get(key, NONE) for key in shared] for name, found in values.items()},
                             index=pd.Index([name for _, name in shared], name="measure"))
        groups = [(part, len(list(rows))) for part, rows in groupby(key[0] for key in shared)]
        yield Table(frame, "Values that at least two runs have.", groups)
    scores = {run.name: scores_of(run) for run in runs if scores_of(run)}
    cases = [case for case in keys(scores) if sum(case in found for found in scores.values()) > 1]
    if cases:
        rows = [{name: f"{found[case]:.2f}" if case in found else NONE for name, found in scores.items()} for case in cases]
        heads = [f"{clip}, {size} px, gap {gap}, {pairs} pairs: {method}" for clip, size, gap, method, pairs in cases]
        yield Table(pd.DataFrame(rows, index=pd.Index(heads, name="case")), "PSNR in dB of what two runs scored on as many pairs.")


def scores_of(run: RunFolder) -> dict[tuple, float]:
    """PSNR by case, of a notebook's table or of the benchmark's summary; rows without cuts and repeated frames."""
    rows = [row for tables in run.tables.values() for rows in tables.values() for row in rows]
    if not rows and "summary.csv" in run.summaries:
        rows = run.summaries["summary.csv"].to_dict("records")
    return {tuple(row[name] for name in CASE): float(row["psnr"]) for row in rows
            if row.get("rows") == "clean" and row.get("psnr") not in (None, "") and all(name in row for name in CASE)}


def overlaid(runs: Sequence[RunFolder]) -> Iterator[Picture]:
    """Loss and validation PSNR of trainings of one name, over each other."""
    for name in dict.fromkeys(name for run in runs for name in run.trainings):
        found = {run.name: run.trainings[name] for run in runs if name in run.trainings and len(run.trainings[name].losses)}
        if len(found) < 2:
            continue
        for what, column, tables in (("loss", "loss", {run: one.losses for run, one in found.items()}),
                                     ("validation PSNR", "psnr", {run: one.validation for run, one in found.items()})):
            having = {run: table for run, table in tables.items() if column in table and table[column].notna().any()}
            if len(having) < 2:
                continue
            ends = {run: table.dropna(subset=column).iloc[-1] for run, table in having.items()}
            last = ", ".join(f"{run} {row[column]:.4g} at step {row['step']:.0f}" for run, row in ends.items())
            figure = loss_curves(list(having.values()), [column], list(having))
            yield Picture.drawn(figure, f"Curves of the {what} of {name}; at the end {last}.", f"{name}: {what}. At the end {last}.")


def same_figures(runs: Sequence[RunFolder]) -> Iterator[tuple[str, list[Row | str]]]:
    """A section for each notebook with the figures that at least two runs have."""
    names = sorted({path.name for run in runs for path in run.figures})
    having = {name: [run for run in runs if (run.folder / "figures" / name).is_file()] for name in names}
    shared = [name for name in names if len(having[name]) > 1]
    for number, part in groupby(shared, key=lambda name: name[:2]):
        rows: list[Row | str] = []
        for name in part:
            what = Path(name).stem[3:].replace("_", " ")
            rows += [what, Row([picture for run in having[name] if (picture := small(run, name, what))])]
        yield f"Figures of notebook {number}", rows


def small(run: RunFolder, name: str, what: str) -> Picture | None:
    """A figure of a run, at most `WIDEST` pixels wide; None where it cannot be read."""
    alt = f"Figure “{what}” of run {run.name}."
    return attempt(run, run.folder / "figures" / name, lambda path: Picture.of(path.read_bytes(), alt, run.name, WIDEST))


def keys(values: Mapping[str, Mapping[Any, Any]]) -> list[Any]:
    """All keys, in the order in which they come."""
    return list(dict.fromkeys(key for found in values.values() for key in found))
