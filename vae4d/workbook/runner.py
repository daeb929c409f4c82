"""Runs the ordered notebooks headlessly, one after the other, and skips those whose inputs did not change.

A run with profile `quick` writes into `outputs/quick/`: the executed notebooks under their own names, whatever the notebooks write, and
`run.json`, which remembers what ran; at the end `index.html` shows it all (`gallery`). A notebook that is running or has failed is
`<name>.partial.ipynb`. Every notebook runs in the interpreter that runs this, with the repository as its working directory.

A notebook is skipped when its fingerprint is unchanged and the files that it wrote still exist. The fingerprint covers the notebook,
its parameters, vae4d's sources, the videos, and the run of the notebook before it: whatever runs again makes all later ones run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import ConfigError, NotebookError, Vae4dError
from ..files import STORAGE_ERRNOS, sha256, storage_error, write_json
from ..progress import Say
from .profiles import Step, alternatives, find_notebooks, load_profile, plan

NEVER_ANSWERED = ("Kernel died", "Kernel didn't respond")  # jupyter_client raises plain RuntimeErrors when a kernel does not start


def run(profile: str = "quick", *, root: str | Path = ".", video: str | Path | None = None, settings: Iterable[str] = (),
        only: Sequence[str] = (), force: bool = False, log: Say = print) -> Path:
    """Run the notebooks of the repository `root` with a profile; returns the folder with the results.

    Args:
        video: a video file or folder to use as the data set.
        settings: "name=value" or "notebook.name=value", over the profile's values.
        only: names of the notebooks to run; the others are left as they are.
        force: run notebooks that would be skipped.
        log: called with each line of progress, the notebooks' own printed lines included.
    Raises:
        ConfigError, MissingInputError: before anything runs, for what was asked.
        NotebookError: a notebook failed; the message has the cell, its traceback and the partial notebook's path.
    """
    root = Path(root)
    find_notebooks(root / "notebooks")  # in the wrong folder, that is what to say, not that a profile is missing
    chosen = load_profile(profile, root / "notebooks" / "profiles")
    run_dir = f"outputs/{profile}"
    steps = plan(chosen, root / "notebooks", run_dir, settings, video)
    for name in only:
        if name not in (names := [step.name for step in steps]):
            raise ConfigError(f"There is no notebook {name!r}{alternatives(name, names)}")
    selected = [step for step in steps if not only or step.name in only]
    journal = Journal(root / run_dir / "run.json")
    expected = chosen.expected_seconds | {name: entry["seconds"] for name, entry in journal.entries.items()}
    began = time.monotonic()
    for step, before in zip(steps, [None, *steps], strict=False):
        if step not in selected:
            continue
        number = f"[{selected.index(step) + 1}/{len(selected)}] {step.name}"
        mark = fingerprint(step, root, journal.entries.get(before.name) if before else None)
        if not force and journal.is_current(step.name, mark, root):
            log(f"{number} unchanged, skipped")
            continue
        log(f"{number} running" + (f", expected {duration(expected[step.name])}" if step.name in expected else ""))
        start = time.time()
        journal.forget(step.name)
        try:
            execute(step, root, root / run_dir, chosen.cell_timeout, log)
        except NotebookError:
            pages(root / run_dir, log)  # they say how far it came
            raise
        seconds = time.time() - start
        journal.record(step.name, mark, start, seconds, written_since(start, root, run_dir))
        later = [other.name for other in selected[selected.index(step) + 1 :]]  # none of them will be skipped now
        known = later and expected.keys() >= set(later)
        log(f"{number} done in {duration(seconds)}" + (f", about {duration(sum(map(expected.get, later)))} left" if known else ""))
    pages(root / run_dir, log)
    log(f"\nReady after {duration(time.monotonic() - began)}. Look at:")
    for place in [*(f"{step.name}.ipynb" for step in steps), "figures", "videos", "report.html", "index.html"]:
        if (root / run_dir / place).exists():
            log(f"  {run_dir}/{place}")
    return root / run_dir


def pages(folder: Path, log: Say) -> None:
    """Write the run's page and the one that compares runs (`gallery`); where that fails the run is none the worse, whatever the fault."""
    from .gallery import write_gallery

    try:
        write_gallery(folder.parent, folder.name)
    except Exception as error:  # another run's file may be damaged in any way, and must neither end this run nor hide why it failed
        log(f"No index.html: {error if isinstance(error, Vae4dError) else f'{type(error).__name__}: {error}'}")


def execute(step: Step, root: Path, folder: Path, cell_timeout: float, log: Say) -> None:
    """Run one notebook into `folder`; it gets its name only when every cell ran and no widget holds an error.

    Raises:
        NotebookError: see `run`.
        StorageError: the disk is full, or the folder cannot be written.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    partial, final = folder / f"{step.name}.partial.ipynb", folder / f"{step.name}.ipynb"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        final.unlink(missing_ok=True)  # should this run fail, no older result looks like its own
    except OSError as error:
        raise storage_error(partial, error) from error
    source, target = (str(path).replace("{", "{{").replace("}", "}}") for path in (step.notebook, partial))  # papermill formats paths
    try:
        with own_kernel():
            notebook = papermill.execute_notebook(source, target, step.parameters, kernel_name="python3", cwd=str(root), progress_bar=False,
                                                  execution_timeout=cell_timeout, stdout_file=Lines(log))
    except PapermillExecutionError as error:
        raise NotebookError(failure(step, partial, error.source, error.ename, error.evalue, error.traceback)) from error
    except CellTimeoutError as error:
        reason = f"The cell took longer than {duration(cell_timeout)}: give it less to do, or raise cell_timeout in the profile."
        raise NotebookError(failure(step, partial, last_started(partial), "Time-out", reason)) from error
    except RuntimeError as error:
        if not isinstance(error, DeadKernelError) and not str(error).startswith(NEVER_ANSWERED):
            raise  # such as that of a running event loop, when called inside Jupyter
        reason = f"The notebook's process died ({error}), most often for want of memory: close other programs or choose smaller settings."
        raise NotebookError(failure(step, partial, last_started(partial), "Dead kernel", reason)) from error
    except OSError as error:
        if error.errno in STORAGE_ERRNOS:
            raise storage_error(partial, error) from error
        raise
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            reason = "The notebook ended before this cell, without an error: does a cell call sys.exit?"
            raise NotebookError(failure(step, partial, cell.source, "Not run", reason))
    for output in [output for cell in notebook.cells for output in cell.get("outputs", [])] + list(widget_outputs(notebook)):
        if output.get("output_type") == "error":
            where = "(an output or a widget's callback)"
            raise NotebookError(failure(step, partial, where, output["ename"], output["evalue"], output.get("traceback", ())))
    os.replace(partial, final)


def failure(step: Step, partial: Path, source: str, name: str, reason: str, traceback: Iterable[str] = ()) -> str:
    """What the user reads when a notebook fails: the sentence of an error of ours first, then cell, traceback, where to look."""
    ours = {kind.__name__ for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Vae4dError)}
    headline = reason if name in ours or not traceback else f"{name}: {reason}"
    trace = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", "\n".join(traceback))
    blocks = [f"{step.name} failed. {headline}", "The cell:\n" + indented(source), trace and "The traceback:\n" + indented(trace),
              f"The notebook as far as it came: {partial}"]
    return "\n\n".join(block for block in blocks if block)


def indented(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())


def last_started(partial: Path) -> str:
    """Source of the cell that was running when the notebook was last saved."""
    cells = json.loads(partial.read_text(encoding="utf-8"))["cells"] if partial.is_file() else []
    started = [cell for cell in cells if cell["metadata"].get("papermill", {}).get("start_time")]
    return "".join(started[-1]["source"]) if started else ""


def widget_outputs(notebook: Any) -> Iterator[dict]:
    """Outputs kept in the state of widgets: an exception in a callback ends there and fails no cell."""
    for kind in notebook.metadata.get("widgets", {}).values():
        for widget in kind.get("state", {}).values():
            yield from widget.get("state", {}).get("outputs") or ()


@contextmanager
def own_kernel() -> Iterator[None]:
    """Within the block, the kernel `python3` is this interpreter, whatever kernels the user has installed, and it draws inline."""
    with tempfile.TemporaryDirectory(prefix="vae4d-") as folder:
        launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=CRITICAL"]  # spares users its advice
        spec = {"argv": launch, "display_name": "Python 3", "language": "python"}
        write_json(Path(folder, "kernels", "python3", "kernel.json"), spec)
        before = dict(os.environ)
        os.environ["JUPYTER_PATH"] = os.pathsep.join([folder, *filter(None, [before.get("JUPYTER_PATH")])])
        os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # silences a debugger's warning on the terminal
        os.environ.pop("MPLBACKEND", None)  # a backend from the shell would keep figures out of the notebook
        try:
            yield
        finally:
            for name in ("JUPYTER_PATH", "PYDEVD_DISABLE_FILE_VALIDATION", "MPLBACKEND"):
                os.environ.pop(name, None)
                if name in before:
                    os.environ[name] = before[name]


class Lines:
    """A stream for the cells' stdout that hands whole lines to `log`, indented."""

    def __init__(self, log: Say):
        self.log, self.rest = log, ""

    def write(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            self.log("    " + line.rpartition("\r")[2])

    def flush(self) -> None:
        """Lines are handed on when they are complete."""


class Journal:
    """What ran, in a JSON file: by notebook its fingerprint, when it ended, how long it took, and the files that it wrote."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.entries: dict[str, dict] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or damaged: everything runs
            self.entries = {}

    def is_current(self, name: str, mark: str, root: Path) -> bool:
        entry = self.entries.get(name, {})
        return entry.get("fingerprint") == mark and all((root / file).exists() for file in entry["files"])

    def forget(self, name: str) -> None:
        if self.entries.pop(name, None):
            write_json(self.path, self.entries)

    def record(self, name: str, mark: str, start: float, seconds: float, files: list[str]) -> None:
        self.entries[name] = {"fingerprint": mark, "ended": start + seconds, "seconds": seconds, "files": files}
        write_json(self.path, self.entries)


def fingerprint(step: Step, root: Path, before: dict | None) -> str:
    """Hex digest of all that the result of a notebook depends on; `before` is the journal's entry of the previous notebook."""
    sources = [sha256(path) for path in sorted(Path(__file__).parents[1].rglob("*.py"))]
    dataset = step.parameters.get("dataset")
    data = [root / "data" / "videos", *([root / dataset] if isinstance(dataset, str) and (root / dataset).exists() else [])]
    previous = before and (before["fingerprint"], before["ended"])
    parts = (sha256(step.notebook), step.parameters, sources, [listing(path) for path in data], previous)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def listing(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a file, or of the files below a folder; hidden ones do not count."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file() and not file.name.startswith(".")]


def written_since(start: float, root: Path, run_dir: str) -> list[str]:
    """Files of the run, and prepared clips, that changed since `start`: what must still exist for a notebook to be skipped."""
    files = [file for folder in (root / run_dir, root / "data" / "cache") for file in folder.rglob("*") if file.is_file()]
    changed = [file for file in files if file.stat().st_mtime >= start - 1 and file.name != "run.json" and ".partial." not in file.name]
    return sorted(file.relative_to(root).as_posix() for file in changed)


def duration(seconds: float) -> str:
    """Seconds in words: "9 s", "3 min 10 s", "2 h 5 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
