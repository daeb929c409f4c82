"""The gallery: one page for each run, `outputs/<run>/index.html`, and one that compares them, `outputs/index.html`.

A page opens offline, from a mail or a USB stick: figures and videos stand in it. Videos above `VIDEO_LIMIT`, and those that follow when
`VIDEOS_LIMIT` is reached, are named and linked instead. Links to notebooks and other files work while the page lies in its folder.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import MissingInputError
from ..evaluation.report import Links, Page, Picture, Row, Table, Video
from ..files import write_text
from ..views.charts import loss_curves
from .gallery_compare import comparison
from .gallery_runs import PAGE, RunFolder, Training, attempt, is_run, read_run, text
from .profiles import find_notebooks

VIDEO_LIMIT = 4_000_000  # bytes of one video in a page
VIDEOS_LIMIT = 16_000_000  # of all of them
ROWS = 20  # of a table; more stand in the file
WIDE = 12  # columns of a table above which it may be turned
ALL_TERMS = 16  # columns of losses that are still drawn one by one
TIMES = ("lr", "loader_seconds", "drawing_seconds", "step_seconds")  # columns of losses.csv that are none


def write_gallery(outputs: str | Path = "outputs", only: str | None = None) -> list[Path]:
    """Write the page of every run below `outputs`, and the page that compares them; returns their paths, the latter last.

    Args:
        only: name of the one run whose page is written anew; the page that compares is written in any case.
    Raises:
        MissingInputError: no such folder, no run in it, none of that name, or jinja2 is not installed. StorageError: a page cannot be
            written.
    """
    outputs = Path(outputs)
    folders = sorted(path for path in outputs.iterdir() if path.is_dir() and is_run(path)) if outputs.is_dir() else []
    if not folders:
        raise MissingInputError(f"There is no run in {outputs}: run the notebooks first (`make run`), or name the folder of the runs.")
    if only not in (None, *(names := [folder.name for folder in folders])):
        raise MissingInputError(f"There is no run {only!r} in {outputs}: choose one of {', '.join(names)}.")
    notebooks = outputs.absolute().parent / "notebooks"
    expected = [path.stem for path in find_notebooks(notebooks)] if notebooks.is_dir() else []
    runs, written = [read_run(folder, expected) for folder in folders], []
    for run in runs:
        if only in (None, run.name):
            write_text(run.folder / PAGE, run_page(run).html())
            written.append(run.folder / PAGE)
    write_text(outputs / PAGE, comparison(runs).html())
    return [*written, outputs / PAGE]


def run_page(run: RunFolder) -> Page:
    """The page of one run."""
    pictures = figures(run)  # first, as one that cannot be read is among the problems
    page = Page(f"Run {run.name}", subtitle(run))
    sections: list[tuple[str, Sequence[Any]]] = [
        ("What is missing", [run.problems or "Nothing: every notebook ran to its end and left its metrics."]),
        ("Notebooks and reports", list(notebooks(run))),
        ("Parameters", list(parameters(run))),
        ("Environment", list(environment(run))),
        ("Metrics", list(metrics(run))),
        ("Curves", list(curves(run))),
        ("Videos", list(videos(run))),
        *((f"Figures of {source}", part) for source, part in pictures.items()),
    ]
    for title, blocks in sections:
        page.section(title)
        page.add(*blocks or ["None."])
    return page


def subtitle(run: RunFolder) -> str:
    """When a run ended and how long it took."""
    ended = [entry["ended"] for entry in run.journal.values() if "ended" in entry]
    if not ended:
        return "Parameters, environment, curves, metrics, videos and figures"
    moment = datetime.datetime.fromtimestamp(max(ended), datetime.UTC)
    minutes = sum(entry.get("seconds", 0) for entry in run.journal.values()) / 60
    return f"Notebooks run: {len(ended)}, in {minutes:.1f} minutes; the last one ended {moment:%Y-%m-%d %H:%M} UTC"


def notebooks(run: RunFolder) -> Iterator[Any]:
    """Links to the executed notebooks, to reports and to what else lies in the folder."""
    yield "These links work while this page lies in the run's folder."
    seconds = {name: values.get("seconds") for name, values in run.metrics.items()}
    done = [(path.name, name, f"{seconds[name]:.0f} s" if isinstance(seconds.get(name), int | float) else "")
            for name, path in run.notebooks.items()]
    partial = [(path.name, path.name, "not finished") for path in sorted(run.folder.glob("*.partial.ipynb"))]
    reports = [(run.at(path), run.at(path), f"{path.stat().st_size / 1e6:.1f} MB, opens offline")
               for path in sorted({*run.folder.glob("*.html"), *run.folder.glob("*/*.html")}) if path != run.folder / PAGE]
    folders = [path.name for path in sorted(run.folder.iterdir()) if path.is_dir() and ".old-" not in path.name]
    rest = [(f"{name}/", f"{name}/", "folder") for name in folders]
    rest += [(path.name, path.name, "table") for path in sorted(run.folder.glob("*.csv"))]
    yield from (Links(files) for files in (done + partial, reports, rest) if files)


def parameters(run: RunFolder) -> Iterator[Table]:
    """One table, a row for each parameter and value; a column for each notebook would be too wide to read."""
    having: dict[str, dict[str, list[str]]] = {}  # notebooks by parameter and value
    for source, values in run.parameters.items():
        for name, value in values.items():
            number = source[:2] if source[:2].isdigit() else source
            having.setdefault(name, {}).setdefault(text(value), []).append(number)
    rows = [(name, value, sources) for name, values in having.items() for value, sources in values.items()]
    if rows:
        cells = {"value": [value for _, value, _ in rows],
                 "notebooks": ["all" if len(sources) == len(run.parameters) else ", ".join(sources) for _, _, sources in rows]}
        frame = pd.DataFrame(cells, index=pd.Index([name for name, _, _ in rows], name="parameter"))
        caption = "Notebooks by their numbers; those that are not named have no such parameter. <run> is the run's own folder."
        yield Table(frame, caption, prose=True)


def environment(run: RunFolder) -> Iterator[Table]:
    """Versions and hardware; a column for each group of notebooks that ran in the same."""
    groups: dict[tuple, list[str]] = {}
    for source, facts in run.environments.items():
        groups.setdefault(tuple(facts.items()), []).append(source)
    if groups:
        names = list(dict.fromkeys(name for facts in groups for name, _ in facts))
        head = {facts: ", ".join(sources) if len(groups) > 1 else "all" for facts, sources in groups.items()}
        cells = {head[facts]: [dict(facts).get(name, "") for name in names] for facts in groups}
        yield Table(pd.DataFrame(cells, index=pd.Index(names, name="")), "Versions and hardware.")


def metrics(run: RunFolder) -> Iterator[Any]:
    """What every notebook measured: sentences, single values, tables; of a benchmark without notebook its summary."""
    for source, values in run.scalars.items():
        if run.sentences[source]:
            yield run.sentences[source]
        if values:
            frame = pd.DataFrame({"value": [text(value) for value in values.values()]}, index=pd.Index(list(values), name="measure"))
            yield Table(frame, f"{source}.metrics.json", prose=True)
        for name, rows in run.tables[source].items():
            yield short(pd.DataFrame(rows), f"{source}.metrics.json: {name}")
    if not run.metrics:
        yield from (short(frame, place) for place, frame in run.summaries.items())


def short(frame: pd.DataFrame, caption: str) -> Table:
    """A table of at most `ROWS` rows whose first column heads the rows; of the others it says where they are.

    Where it is far wider than high, rows and columns are exchanged, so that it fits onto paper.
    """
    more = f"; the first {ROWS} of {len(frame):,} rows, the others stand in that file" if len(frame) > ROWS else ""
    shown = frame.head(ROWS).astype(object)
    shown = shown.where(shown.notna(), None).map(text)
    shown = shown.set_index(shown.columns[0])
    turned = len(shown.columns) > WIDE and len(shown) * 3 <= len(shown.columns)
    return Table(shown.T.rename_axis("measure") if turned else shown, caption + more, prose=turned)


def curves(run: RunFolder) -> Iterator[Any]:
    """Losses and validation of each training of the run."""
    for training in run.trainings.values():
        if not len(training.losses):
            yield f"{training.name}: no step was done yet."
            continue
        terms = [name for name in training.losses.columns if name not in ("step", *TIMES)]
        terms = terms if len(terms) <= ALL_TERMS else ["loss", "gradient_norm"]
        checks = [name for name in training.validation.columns if name != "step" and len(training.validation)]
        checks = [name for name in checks if name not in terms]
        known = [name for name in terms if name in training.losses]
        tables = {"training": training.losses[["step", *known]]}
        if checks:
            tables["validation"] = training.validation[["step", *checks]]
        yield Picture.drawn(loss_curves(tables, [*known, *checks]), *described(training, checks))
    hidden = sum(1 for path in run.folder.glob("*/**/losses.csv") if len(path.relative_to(run.folder).parts) > 2)
    if hidden:
        yield f"Trainings deeper in the folder, parts of studies, are not drawn here: {hidden}."


def described(training: Training, checks: Sequence[str]) -> tuple[str, str]:
    """What a picture of curves shows, for those who do not see it, and its caption."""
    ends = [(name, training.losses[name]) for name in ("loss",) if name in training.losses]
    ends += [(f"validation {name}", training.validation[name]) for name in checks]
    said = [f"{name} {values.iloc[0]:.4g} at first, {values.iloc[-1]:.4g} at last" for name, values in ends]
    caption = f"{training.name}: pale what each step had, strong its moving average; with markers the validation."
    return f"Curves of the training {training.name} over {training.steps:,} steps: {'; '.join(said)}.", caption


def videos(run: RunFolder) -> Iterator[Any]:
    """The videos of `videos/`, those that fit into the page playing in it, and where others lie."""
    shown, left, total = [], [], 0
    for path in run.videos:
        size = path.stat().st_size
        if size <= VIDEO_LIMIT and total + size <= VIDEOS_LIMIT:
            shown.append(Video.read(path, f"Video {path.stem.replace('_', ' ')}", f"{path.name}, {size / 1e6:.2f} MB"))
            total += size
        else:
            left.append((run.at(path), path.name, f"{size / 1e6:.1f} MB"))
    if shown:
        yield Row(shown)
    if left:
        yield "Left out of this page, as they are too large for it; they play from the run's folder:"
        yield Links(left)
    elsewhere = {path.relative_to(run.folder).parts[0] for path in run.folder.glob("*/**/*.mp4")} - {"videos"}
    if elsewhere:
        yield f"More videos lie in {', '.join(f'{name}/' for name in sorted(elsewhere))} and are left out of this page."


def figures(run: RunFolder) -> dict[str, list[Picture]]:
    """The figures by the notebook that drew them, which their names begin with the number of, in the order in which it shows them.

    Those that it does not name, as an earlier run of it left them, are the last.
    """
    known = {name[:2]: name for name in [*run.metrics, *run.notebooks, *run.journal]}
    told = {name: alt for values in run.metrics.values() for name, alt in values.get("figures", {}).items()}
    place = {name: number for number, name in enumerate(told)}
    found: dict[str, list[Picture]] = {}
    for path in sorted(run.figures, key=lambda path: (path.name[:2], place.get(path.name, len(place)), path.name)):
        source = known.get(path.name[:2], "other sources")
        what = path.stem.removeprefix(f"{path.stem[:2]}_").replace("_", " ")
        caption = what[:1].upper() + what[1:]
        alt = told.get(path.name) or f"Figure “{what}” of {source}; the notebook says what it shows."
        if picture := attempt(run, path, lambda path, alt=alt, caption=caption: Picture.read(path, alt, caption)):
            found.setdefault(source, []).append(picture)
    return found
