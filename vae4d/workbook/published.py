"""The published system's interpolation job in 04_interpolate, and its scores beside the repaired ones in 05_evaluate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from ..checkpoint import locate
from ..clips.datasets import Dataset, ready_dataset
from ..errors import AssetError, MissingInputError, VideoError
from ..evaluation.predicted import samples_in, samples_of
from ..evaluation.published import MEASURES, Scores, score
from ..evaluation.report import Table
from ..jobs.run import JobOptions, run_job
from ..progress import Say
from .notebook import Workbook
from .settings import ScoreSettings, SynthesisSettings
from .showcase import is_sharp

JOB = "synthesis"  # folder of the jobs in the run's folder
NAMES = {"psnr": "PSNR, dB ↑", "ssim": "SSIM ↑", "vgg_cosine": "VGG cosine distance ↓", "lpips": "LPIPS ↓"}


def job_options(book: Workbook, settings: SynthesisSettings, checkpoint: str | Path) -> JobOptions:
    """The notebook's settings as those of its interpolation job; a sharp checkpoint has no padding and no scales of poses."""
    same = ("dataset", "input_size", "interval", "video_limit", "frame_limit", "reinit_k", "semantics", "device")
    options = {name: getattr(settings, name) for name in same}
    if not is_sharp(checkpoint):
        options |= {"padding_mode": settings.padding_mode}
        options |= {name: getattr(settings, name) or None for name in ("scale_rotate", "scale_translate")}
    return JobOptions(savepath=str(book.folder / JOB), resume=str(locate(checkpoint)), **options)


def data_of(options: JobOptions) -> Dataset:
    """The data set of a job; where 01_data did not prepare it, its test clips are prepared here.

    Raises:
        MissingInputError, ClipError, ConfigError, VideoError: see `ready_dataset`.
    """
    return ready_dataset(options.dataset, options.input_size, require=("test",), **options.preparation)


def interpolation(options: JobOptions, progress: Say = print) -> Path:
    """Run the interpolation job; what another checkpoint or other options left in its folder is replaced."""
    return run_job(options, progress, replace=True)


def scores(book: Workbook, settings: ScoreSettings) -> dict[str, Scores] | str:
    """Scores by name, repaired and published, of the folders that the settings name, else of what 04_interpolate wrote.

    Of the latter the reason is returned where they cannot be had; errors of folders that the user named are raised, see
    `evaluation.published.score`.
    """
    found: dict[str, Scores] = {}
    try:
        for name in ("repaired", "published"):
            ends = settings.given_ends and name == "repaired"
            if settings.true:
                samples = samples_of(settings.predicted, settings.true, ends)
            else:
                samples = samples_in(settings.predicted or book.folder / JOB / "interpolate", name == "published", ends)
            found[name] = score(samples, book.folder / "scores" / name, name, device=settings.device, progress=None)
    except (AssetError, MissingInputError, VideoError) as error:
        if settings.predicted:
            raise
        return f"Not scored as published: {error}"
    return found


def tables(found: Mapping[str, Scores] | str) -> Iterator[Table | str]:
    """Averages of `scores`, one row for each way, and what must be said of them."""
    if isinstance(found, str):
        yield found
        return
    rows = [
        {"videos": one.record["videos"], "frames": one.record["frames"]} | {NAMES[name]: _written(one, name) for name in MEASURES}
        for one in found.values()
    ]
    caption = (
        "The same predictions, scored in two ways: mean and standard deviation over videos, by the published definitions of PSNR and SSIM. "
        "The published column called lpips is the VGG cosine distance; LPIPS here is the real one. Videos one by one: "
        + ", ".join(f"{one.path.parent.parent.name}/{one.path.parent.name}/{one.path.name}" for one in found.values()) + "."
    )  # fmt: skip
    yield Table(pd.DataFrame(rows, index=pd.Index(found, name="scored as")), caption)
    yield from (f"{name}: {note}" for name, one in found.items() for note in one.record["notes"])


def averages(found: Mapping[str, Scores] | str) -> dict[str, dict[str, float | None]]:
    """The means by way and measure, for the metrics."""
    return {} if isinstance(found, str) else {name: one.record["mean"] for name, one in found.items()}


def _written(scores: Scores, name: str) -> str:
    mean, spread, decimals = scores.record["mean"][name], scores.record["std"][name], 2 if name == "psnr" else 4
    if mean is None:
        return "n/a"
    return f"{mean:.{decimals}f}" + (f" ± {spread:.{decimals}f}" if scores.record["finite"][name] > 1 else "")
