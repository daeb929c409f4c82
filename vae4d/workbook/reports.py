"""Tables and sentences made from measured numbers, so that the notebooks' prose holds none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..clips.clip import Clip
from ..clips.datasets import Dataset
from ..clips.windows import ClipWindows
from ..errors import ClipError, ConfigError
from ..evaluate import Method, gaps, moments, nothing_scored, summary
from ..metrics import mse, psnr_of_mse
from ..views.tables import METRICS

SCORED = ["psnr", "psnr_pooled", "ssim", "lpips"]  # columns of `evaluate.summary` that compare methods


def clip_table(data: Dataset) -> pd.DataFrame:
    """One row a clip: split, frames, seconds, exact rate, cuts, repeated frames, source."""
    rows = [
        {
            "clip": clip.name,
            "split": clip.split,
            "frames": len(clip),
            "seconds": round(float(clip.times[-1]), 2),
            "frames a second": f"{clip.fps}{' on average' if clip.variable_rate else ''}",
            "cuts": len(clip.cuts),
            "repeated frames": len(clip.duplicates),
            "source": clip.path.name,
        }
        for clip in data.clips
    ]
    return pd.DataFrame(rows).set_index("clip")


def free_psnr(windows: ClipWindows, blend: bool) -> float:
    """Pooled PSNR in dB, on validation's own frames, of what costs nothing.

    Args:
        blend: mix the first and the last frame by time (inner frames are scored, as in the flow stage); else repeat the first
            frame (all later ones are scored, as in the base stage).
    """
    errors = []
    for item in windows:
        frames, t = item["frames"], item["times"][:, None, None, None]
        guess = (1 - t) * frames[:1] + t * frames[-1:] if blend else frames[:1].expand_as(frames)
        scored = slice(1, -1 if blend else None)
        errors.append(mse(guess[scored], frames[scored]))
    return float(psnr_of_mse(np.concatenate(errors).mean()))


def versus(name: str, value: float, other: str, reference: float, what: str) -> str:
    """A sentence that says which of two PSNRs is higher."""
    relation = "as good as" if value == reference else f"{abs(value - reference):.2f} dB {'above' if value > reference else 'below'}"
    return f"{what}: {name} {value:.2f} dB, {other} {reference:.2f} dB; {name} is {relation} {other}."


def pair_table(clips: Iterable[Clip], distances: Iterable[int], limit: int | None) -> pd.DataFrame:
    """What is scored and what is left out, one row a clip and gap."""
    rows = []
    for clip in clips:
        for gap in distances:
            starts = gaps(clip, gap, limit)
            rows.append(
                {
                    "clip": clip.name,
                    "gap": gap,
                    "frames": len(clip),
                    "cuts (no pair spans one)": len(clip.cuts),
                    "repeated frames (not scored)": len(clip.duplicates),
                    "pairs possible": len(gaps(clip, gap)),
                    "pairs used": len(starts),
                    "frames scored": sum(len(moments(clip, start, gap)) for start in starts),
                }
            )
    return pd.DataFrame(rows).set_index(["clip", "gap"])


def scored_gaps(pairs: pd.DataFrame) -> list[int]:
    """The gaps of a `pair_table` at which there is a frame to score; the others are printed with the reason.

    Raises:
        ClipError: there is none.
    """
    sums = pairs.groupby("gap", sort=False)[["pairs used", "frames scored"]].sum()
    reasons = {gap: nothing_scored(gap, used) for gap, used, frames in sums.itertuples() if not frames}
    if len(reasons) == len(sums):
        raise ClipError(f"Nothing can be scored: {'; '.join(reasons.values())}.")
    for gap, reason in reasons.items():
        print(f"gap {gap} is left out: {reason}")
    return [gap for gap in sums.index if gap not in reasons]


def caption(pairs: pd.DataFrame, gap: int) -> str:
    """How many clips and frames are scored at a gap of a `pair_table`."""
    frames = pairs.xs(gap, level="gap")["frames scored"]
    clips = (frames > 0).sum()
    return f"gap {gap}: {clips} clip{'s' if clips > 1 else ''}, {frames.sum()} frames a method"


def method_table(scores: pd.DataFrame, gap: int) -> pd.DataFrame:
    """Methods by metrics over the scored frames of all clips at one gap, columns `SCORED`."""
    table = summary(scores[scores["gap"] == gap].assign(clip="all"))
    return table.set_index("method")[SCORED]


def verdicts(table: pd.DataFrame, ours: str, reference: str) -> list[str]:
    """Sentences from `evaluate.summary`, one a clip and gap: the best of each column, and `ours` against `reference`."""
    lines = []
    for (clip, gap), part in table.groupby(["clip", "gap"], sort=False):
        part = part.set_index("method")
        bests = []
        for column in SCORED:
            title, higher, decimals = METRICS[column]
            values = part[column].dropna()
            if len(values):
                best = values.idxmax() if higher else values.idxmin()
                bests.append(f"{title} {best} ({values[best]:.{decimals}f})")
        difference = part.loc[ours, "psnr"] - part.loc[reference, "psnr"]
        side = "above" if difference > 0 else "below"
        relation = f"{ours} is {abs(difference):.2f} dB {side} {reference} in PSNR" if np.isfinite(difference) else "PSNRs do not compare"
        lines.append(f"{clip}, gap {gap}, {part.loc[ours, 'frames']} frames: best {', '.join(bests)}. Here {relation}.")
    return lines


def extremes(scores: pd.DataFrame, gap: int, ours: str, reference: str, count: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Frames where `ours` gains most on `reference` in PSNR (or loses least), and where it loses most, at least `gap` frames apart.

    Returns:
        Two tables with columns clip, frame, t, difference (dB); at most `count` rows each.
    """
    wide = scores[scores["gap"] == gap].pivot(index=["clip", "frame", "t"], columns="method", values="psnr")
    for name in (ours, reference):
        if name not in wide:
            raise ConfigError(f"There is no method {name!r} at gap {gap}: scored are {', '.join(map(str, wide.columns))}.")
    difference = (wide[ours] - wide[reference]).fillna(0).rename("difference").sort_values()  # no number: both are exact
    return apart(difference[::-1].reset_index(), gap).head(count), apart(difference.reset_index(), gap).head(count)


def apart(rows: pd.DataFrame, distance: int) -> pd.DataFrame:
    """The rows in order, without those nearer than `distance` frames to an earlier one of the same clip."""
    kept: list[tuple[str, int]] = []
    for clip, frame in zip(rows["clip"], rows["frame"], strict=True):
        if all(clip != other or abs(frame - place) >= distance for other, place in kept):
            kept.append((clip, frame))
    chosen = [(clip, frame) in kept for clip, frame in zip(rows["clip"], rows["frame"], strict=True)]
    return rows[chosen].reset_index(drop=True)


def retrace(rows: pd.DataFrame, clips: Sequence[Clip], gap: int, limit: int | None, methods: dict[str, Method]) -> tuple[Tensor, dict]:
    """Truth (N, 3, H, W) and each method's frames for rows of `extremes`, made again from the same pairs."""
    by_name = {clip.name: clip for clip in clips}
    truth, made = [], {name: [] for name in methods}
    for row in rows.itertuples():
        clip = by_name[row.clip]
        first = max(start for start in gaps(clip, gap, limit) if start < row.frame)
        ends = clip.tensor(first), clip.tensor(first + gap)
        truth.append(clip.tensor(row.frame))
        for name, method in methods.items():
            made[name].append(method(*ends, [row.t])[0])
    return torch.stack(truth), {name: torch.stack(frames) for name, frames in made.items()}
