"""Scores of predicted videos as the published system made them, beside the same without its defect (row 9 of the defect table).

A row a video: `id`, `psnr` (dB), `ssim` and `vgg_cosine` by the published definitions (`metrics.published_psnr`, `published_ssim`,
`vgg_cosine`; the published file calls the last one lpips, which it is not), and `lpips`, the real one, empty where not available. A video's
value is the mean over its frames; below stand mean and standard deviation (divisor n) over videos.

- published: frames are read back from the lossy mp4, the given frames at both ends count, and a video with a value that is not finite
  is dropped (one frame rebuilt exactly has an infinite PSNR).
- repaired: only synthesised frames count, lossless where there are PNGs, and no video is dropped; frames rebuilt exactly are counted
  and left out of the mean of PSNR.

`take_every_other`, for pairs: two rows in a row, sorted by id, are two predictions of one sample, and the better value of each measure
counts (highest PSNR and SSIM, lowest distances), under the first one's id. The published scripts have it from SynSin (Wiles et al. 2020).

Everything runs on one thread, so that the figures do not hang on the number of threads; processes that `accelerate launch` starts share
the videos.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from .. import metrics
from ..errors import ConfigError, VideoError
from ..faithful.repairs import Repairs
from ..files import write_json, write_text
from ..jobs.options import device_of
from ..parallel import gathered, rank, share, wait
from ..perceptual import VGGFeatures, load_lpips
from ..progress import Line, Say
from .predicted import Sample, samples_in
from .scoring import one_thread

MEASURES = {"psnr": max, "ssim": max, "vgg_cosine": min, "lpips": min}  # by name, which of two values is the better one
BATCH = 8  # frames that go through the networks at once


@dataclass(frozen=True)
class Scores:
    """What was measured: the table of results.csv, and all that is said of it in results.json."""

    table: pd.DataFrame  # id, psnr, ssim, vgg_cosine, lpips; NaN where not available
    record: dict[str, Any]
    path: Path  # results.csv

    def __str__(self) -> str:
        """Averages and what must be said of them, as text."""
        about = self.record
        lines = [f"{about['videos']} videos, {about['frames']} frames, scored as {about['scored']}"]
        for name, value in about["mean"].items():
            spread = f" +- {about['std'][name]:.4f}" if about["finite"][name] > 1 else ""
            lines.append(f"{name:>10}  " + ("not available" if value is None else f"{value:.4f}{spread}"))
        return "\n".join(lines + about["notes"])


def score(
    samples: Sequence[Sample],
    output: str | Path,
    semantics: str | Repairs = "repaired",
    take_every_other: bool = False,
    lpips: bool = True,
    weights: str | Path = "data/weights",
    device: str = "auto",
    progress: Say | None = print,
) -> Scores:
    """Score predicted videos, write `results.csv` and `results.json` into the folder `output`, and return what they hold.

    Args:
        samples: from `predicted.samples_in` (for published scores with `videos=True`) or `predicted.samples_of`.
        semantics: row 9 decides, see the module.
    Raises:
        VideoError: a video cannot be read, or a predicted and a true one differ in size or length.
        ConfigError: take_every_other with an odd number of predictions (published: the last one is dropped). AssetError: no weights.
    """
    say, honest = progress or (lambda line: None), Repairs.parse(semantics).true_metrics
    if take_every_other and len(samples) % 2 and honest:
        raise ConfigError(f"take_every_other needs two predictions of every sample, there are {len(samples)}: add or remove one.")
    mine, place = share(samples), device_of(device)
    for sample in mine:
        sample.check()
    networks = VGGFeatures(weights, blocks=5).to(place), load_lpips(weights).to(place) if lpips else None
    rows = []
    with one_thread():
        for count, sample in enumerate(mine, 1):
            rows.append({"id": sample.name} | measured(sample, *networks, honest))
            found = f"PSNR {rows[-1]['psnr']:.2f} dB, SSIM {rows[-1]['ssim']:.4f}"
            say(Line(f"[{count}/{len(mine)}] {sample.name}: {found}", count / len(mine)))
    rows = sorted(gathered(rows), key=lambda row: row["id"])
    lossy = [sample.name for sample in samples if sample.lossy]
    table, record = _summary(rows, lossy, honest, take_every_other)
    results = Scores(table, record | {"semantics": str(Repairs.parse(semantics))}, Path(output) / "results.csv")
    if rank() == 0:
        write_text(results.path, table.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
        write_json(results.path.with_suffix(".json"), results.record)
    wait()
    return results


def score_folder(folder: str | Path, output: str | Path, semantics: str | Repairs = "repaired", **options) -> Scores:
    """`score` of what lies in one folder, read as the semantics say: from the mp4 of a job as published, from its PNGs when repaired.

    Raises:
        MissingInputError, VideoError, ConfigError: see `predicted.samples_in` and `score`.
    """
    return score(samples_in(folder, videos=not Repairs.parse(semantics).true_metrics), output, semantics, **options)


def measured(sample: Sample, vgg: VGGFeatures, lpips: nn.Module | None, honest: bool = True) -> dict[str, float]:
    """The measures of one video, means over its frames; how many frames, and how many of them rebuilt exactly.

    Args:
        honest: a frame with an infinite PSNR is left out of the mean of PSNR (unless all are); else that mean is infinite.
    Raises:
        VideoError: see `Sample.frames`; or no frame is left to score.
    """
    place = next(vgg.buffers()).device
    parts = []
    for made, true in _batches(sample.scored(), place):
        parts.append({
            "psnr": metrics.published_psnr(made, true),
            "ssim": metrics.published_ssim(made, true),
            "vgg_cosine": metrics.vgg_cosine(vgg, made, true),
            "lpips": torch.from_numpy(metrics.lpips(lpips, made, true)) if lpips else torch.full((len(made),), torch.nan),
        })
    if not parts:
        raise VideoError(f"{sample.predicted} holds no synthesised frame: make it again with more frames.")
    values = {name: torch.cat([part[name].cpu().double() for part in parts]) for name in MEASURES}
    exact = values["psnr"].isposinf()
    if honest and not exact.all():
        values["psnr"] = values["psnr"][~exact]
    return {name: float(value.mean()) for name, value in values.items()} | {"frames": len(exact), "exact": int(exact.sum())}


def _batches(frames: Iterator[tuple[np.ndarray, np.ndarray]], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Predicted and true frames as (B, 3, H, W) in [0, 1], at most `BATCH` at once."""
    while batch := list(islice(frames, BATCH)):
        made, true = (torch.from_numpy(np.stack(side)).to(device).permute(0, 3, 1, 2).float() / 255 for side in zip(*batch, strict=True))
        yield made, true


def better_of_two(table: pd.DataFrame) -> pd.DataFrame:
    """Rows 0 and 1 as one, 2 and 3 as one, and so on: the better value of each measure, the first one's id; an odd last row is dropped."""
    pairs = [table.iloc[start : start + 2] for start in range(0, len(table) - 1, 2)]
    rows = [{"id": pair["id"].iloc[0]} | {name: better(pair[name]) for name, better in MEASURES.items()} for pair in pairs]
    return pd.DataFrame(rows, columns=["id", *MEASURES])


def _summary(
    rows: list[dict[str, Any]], lossy: list[str], honest: bool, take_every_other: bool
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table, and its averages with what must be said of them."""
    notes = []
    if lossy and honest:
        notes.append(f"{len(lossy)} of {len(rows)} were read from a video file, which is lossy as a rule: PNG frames would be exact.")
    table = pd.DataFrame(rows)[["id", *MEASURES]]
    if take_every_other:
        notes.append("Two predictions in a row count as one sample, with the better value of each measure.")
        table = better_of_two(table)
    scored = [name for name in MEASURES if not table[name].isna().all()]
    dropped = [] if honest else table["id"][~np.isfinite(table[scored]).all(axis=1)].tolist()
    if dropped:
        notes.append(f"Dropped, as published, for a value that is not finite: {len(dropped)} of {len(table)} ({', '.join(dropped)}).")
        table = table[~table["id"].isin(dropped)].reset_index(drop=True)
    exact = sum(row["exact"] for row in rows)
    if exact and honest:
        frames = sum(row["frames"] for row in rows)
        notes.append(f"{exact} of {frames} frames were rebuilt exactly: their PSNR is infinite and left out of the means.")
    finite = {name: table[name][np.isfinite(table[name])] for name in MEASURES}
    record = {
        "scored": "repaired" if honest else "published",
        "videos": len(table),
        "frames": sum(row["frames"] for row in rows),
        "exact": exact,
        "dropped": dropped,
        "take_every_other": take_every_other,
        "mean": {name: float(f"{values.mean():.6f}") if len(values) else None for name, values in finite.items()},
        "std": {name: float(f"{values.std(ddof=0):.6f}") if len(values) else None for name, values in finite.items()},
        "finite": {name: len(values) for name, values in finite.items()},
        "notes": notes,
    }
    return table, record
