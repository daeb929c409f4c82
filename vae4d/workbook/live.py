"""Long work that is watched while it runs, by a bar, and a training by its curves and a sample too; plain lines where nobody looks."""

from __future__ import annotations

import html
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from ..checkpoint import load_model
from ..family import Model
from ..training.result import TrainResult
from ..training.runlog import result_of
from ..views.charts import loss_curves, training_tables
from ..views.frames import frame_strip
from .notebook import display

Sample = Callable[[Model], Mapping[str, Tensor]]  # a model to pictures (3, H, W) by name
SHARE = 0.05  # of the time of a training, at most, that is spent on showing it
OFTEN, SELDOM = 0.2, 2.0  # seconds, at least, between two texts and between two drawings


def watched(train: Callable[..., TrainResult], config: Any, sample: Sample, interactive: bool) -> TrainResult:
    """`train(config)`; its lines are printed, and interactive, a `Live` view stands above them.

    The notebook's stop button interrupts the training between two steps, and what was learnt is kept: the same cell goes on with it.

    Args:
        train: `faithful.train.train` or `sharp.training.train_sharp`. config: its options.
        sample: draws what is shown of the best weights so far.
    """
    if not interactive:
        return train(config)
    live = Live(Path(config.savepath), sample)
    display(live.panel)
    try:
        result = train(config, watch=live.row)
    except BaseException as error:  # an interrupt too: what stood last is shown, and says why nothing follows
        live.end("Interrupted: run the cell again, and it goes on." if isinstance(error, KeyboardInterrupt) else "Stopped by an error.")
        raise
    live.end("Finished." if result.finished else "Out of time: run the cell again, and it goes on.")
    return result


class Bar:
    """A `progress.Say` for JupyterLab: a bar and the last line, below it all lines to unfold, in the cell that said them.

    It is no widget but an output that is shown anew, so that the lines stay in the notebook that is saved. Lines that do not know how far
    the work is, and those that tell of something wrong, are printed.
    """

    def __init__(self) -> None:
        self._cell: int | None = None  # in which the bar stands
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        share = getattr(line, "share", None)
        if share is None or line.wrong:
            print(line)
        if share is None:
            return
        first = self._cell is None or self._cell != running_cell()
        if first:
            self._cell, self._said, self.lines = running_cell(), 0.0, []
        self.lines.append(line)
        now = time.monotonic()
        if first or now - self._said >= OFTEN or share == 1:
            self._said = now
            picture = {"text/html": self.html(share), "text/plain": "\n".join(self.lines)}
            if first:
                self._shown = display(picture, raw=True, display_id=True)
            else:
                self._shown.update(picture, raw=True)

    def html(self, share: float) -> str:
        """The bar at this share."""
        rest = html.escape("\n".join(self.lines))
        bar = f'<progress max="1" value="{share:.3f}" aria-label="progress" style="width: min(100%, 760px)">{share:.0%}</progress>'
        return f"{bar}{status(self.lines[-1])}<details><summary>lines so far: {len(self.lines)}</summary><pre>{rest}</pre></details>"


def running_cell() -> int:
    """The number of the notebook's cell that runs; 0 outside of notebooks."""
    from IPython import get_ipython

    return getattr(get_ipython(), "execution_count", 0)


class Live:
    """The widgets of a run, in `panel`; `row` is a `runlog.Watch`.

    Args:
        folder: of the run. sample: see `watched`.
    """

    def __init__(self, folder: Path, sample: Sample):
        import ipywidgets as w

        self.folder, self.sample = folder, sample
        self.text = w.HTML(value=status("Preparing \u2026"))
        self.bar = w.IntProgress(description="training", max=1, layout=w.Layout(width="100%", max_width="760px"))
        layouts = (w.Layout(max_width="100%", align_self="flex-start", display="none") for _ in range(2))
        self.curves, self.picture = (w.Image(format="png", layout=layout) for layout in layouts)
        self.panel = w.VBox([self.text, self.bar, self.curves, self.picture])
        self._first: tuple[int, float] | None = None  # step and moment of the first row
        self._said = self._drawn = 0.0  # when there was a text, and a drawing
        self._cost = 0.0  # seconds of the last drawing
        self._last, self._psnr = "", ""
        self._shown: float | None = None  # when the weights that the sample shows were written

    def row(self, total: int, table: str, row: dict[str, float]) -> None:
        """A step or a validation is done. Drawing takes a twentieth of the time at most, and its faults stop no training."""
        now, step = time.monotonic(), int(row["step"])
        if table == "validation":
            self._psnr = f", validation {row['psnr']:.2f} dB"
            return
        self._first = self._first or (step, now)
        since = step - self._first[0]
        left = f", about {(now - self._first[1]) / since * (total - step) / 60:.1f} min left" if since else ""
        self._last = f"Step {step} of {total}, loss {row['loss']:.4g}{self._psnr}{left}"
        if now - self._said >= OFTEN:
            self._said = now
            self.bar.max, self.bar.value = total, step
            self.text.value = status(f"{self._last}. The stop button of the notebook ends it, and nothing is lost.")
        if now - self._drawn >= max(SELDOM, self._cost / SHARE):
            self.draw()

    def draw(self) -> None:
        """The curves of the run, and the sample where better weights were written since; a fault is named in the text."""
        began = time.monotonic()
        try:
            self._draw_curves()
            self._draw_sample()
        except Exception as error:
            self.text.value = status(f"{self._last}. No picture: {type(error).__name__}: {error}")
        self._drawn = time.monotonic()
        self._cost = self._drawn - began

    def _draw_curves(self) -> None:
        found = training_tables(self.folder)
        columns = [name for name in ("loss", "psnr") if any(name in table for table in found.values())]
        if columns:
            show(self.curves, loss_curves(found, columns))

    def _draw_sample(self) -> None:
        path = result_of(self.folder)
        written = path.stat().st_mtime if path.is_file() else None
        if written is None or written == self._shown:
            return
        images = self.sample(load_model(path))
        show(self.picture, frame_strip(list(images.values()), list(images)))
        self._shown = written

    def end(self, how: str) -> None:
        """The last state, and how the run ended."""
        self.draw()
        if how == "Finished.":
            self.bar.value = self.bar.max
        self.text.value = status(" ".join(part for part in (self._last and f"{self._last}.", how) if part))


def show(image: Any, figure: Figure) -> None:
    """Put a figure into an Image widget."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    image.value, image.layout.display = buffer.getvalue(), ""


def status(text: str) -> str:
    """HTML of a line that a screen reader may look up, but is not interrupted by."""
    return f'<div role="status" aria-live="off">{html.escape(text)}</div>'
