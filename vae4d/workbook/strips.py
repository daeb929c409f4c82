"""Where a method does best and worst, found by the metric and drawn again beside the truth."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from ..clips.clip import Clip
from ..errors import ConfigError
from ..evaluation.benchmark import REFERENCES, Results
from ..evaluation.methods import Method, Pair, checked
from ..evaluation.pairs import pairs_of
from ..evaluation.record import labels_of
from ..evaluation.scoring import clean, one_thread
from ..evaluation.units import safe_name
from ..views.frames import comparison_strip
from . import verdicts
from .scorecard import primary, subjects
from .sheet import Chart

NAME = 18  # letters of a clip's name in a line: a column holds no more
APART = 4  # gaps between two frames that are shown, so that they are not one moment twice


def extremes(
    scores: pd.DataFrame, size: int, gap: int, subject: str, reference: str, count: int = 2
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Clean frames where the subject gains most on the reference in PSNR (or loses least), and where it loses most.

    They lie at least `APART` gaps apart. Where both rebuilt a frame exactly the difference is 0.

    Returns:
        Two tables with columns clip, start, frame, t, difference (dB); at most `count` rows each.
    Raises:
        ConfigError: a method that was not scored there.
    """
    rows = clean(scores[(scores["size"] == size) & (scores["gap"] == gap)])
    wide = rows.pivot(index=["clip", "start", "frame", "t"], columns="method", values="psnr")
    for name in (subject, reference):
        if name not in wide:
            raise ConfigError(f"There is no method {name!r} at gap {gap}, {size} px: scored are {', '.join(map(str, wide.columns))}.")
    wide = wide[wide[subject].notna() & wide[reference].notna()]
    difference = (wide[subject] - wide[reference]).fillna(0).rename("difference").sort_values(kind="stable")
    return apart(difference[::-1].reset_index(), APART * gap).head(count), apart(difference.reset_index(), APART * gap).head(count)


def apart(rows: pd.DataFrame, distance: int) -> pd.DataFrame:
    """The rows in order, without those nearer than `distance` frames to an earlier one of the same clip."""
    kept: list[tuple[str, int]] = []
    for clip, frame in zip(rows["clip"], rows["frame"], strict=True):
        if all(clip != other or abs(frame - place) >= distance for other, place in kept):
            kept.append((clip, frame))
    chosen = [(clip, frame) in kept for clip, frame in zip(rows["clip"], rows["frame"], strict=True)]
    return rows[chosen].reset_index(drop=True)


def retrace(
    rows: pd.DataFrame, clips: Sequence[Clip], size: int, gap: int, methods: Mapping[str, Method]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Truth (N, 3, S, S) and each method's frames for rows of `extremes`, made again from the same pairs."""
    labels = labels_of(clips)
    by_label = {labels[clip.sha256]: clip for clip in clips if clip.size == size}
    truth: list[Tensor] = []
    made: dict[str, list[Tensor]] = {name: [] for name in methods}
    for row in rows.itertuples():
        clip = by_label[row.clip]
        index = next(one for one in pairs_of(clip, gap) if one.start == row.start)
        ends = clip.tensor(index.start), clip.tensor(index.start + gap)
        pair = Pair(row.clip, size, gap, index.start, *ends, index.numbers, index.times)
        truth.append(clip.tensor(row.frame))
        for name, method in methods.items():
            with one_thread():
                made[name].append(checked(name, next(iter(method(iter([pair])))), pair)[index.numbers.index(row.frame)])
    return torch.stack(truth), {name: torch.stack(frames) for name, frames in made.items()}


def strips(results: Results, clips: Sequence[Clip], methods: Mapping[str, Method], count: int = 2) -> Iterator[Chart]:
    """Where each subject does best and worst beside each reference, at the primary gaps, chosen by the metric."""
    for subject in subjects(results):
        for reference in REFERENCES:
            for size, gap in primary(results):
                scores = clean(results.scores.query("size == @size and gap == @gap"))
                if subject == reference or not {subject, reference} <= set(scores["method"]):
                    continue
                best, worst = extremes(scores, size, gap, subject, reference, count)
                rows = pd.concat([best, worst]).drop_duplicates(["clip", "frame"], ignore_index=True)
                if rows.empty:  # no clip on which both were scored
                    continue
                there = scores[scores["clip"].isin(rows["clip"])].groupby("method")["clip"].nunique()
                there = set(there[there == rows["clip"].nunique()].index)  # one that failed on a clip cannot be drawn there
                shown = {name: methods[name] for name in dict.fromkeys((subject, *REFERENCES)) if name in there}
                truth, made = retrace(rows, clips, size, gap, shown)
                ranks = ["best"] * len(best) + ["worst"] * (len(rows) - len(best))
                titles = [f"{rank}: {verdicts.number(row.difference)} dB\n{textwrap.fill(row.clip, NAME)}\nframe {row.frame}"
                          for rank, row in zip(ranks, rows.itertuples(), strict=True)]
                caption = (
                    f"The {len(best)} frames where {subject} gains most on {reference} in PSNR (or loses least) and those where it loses "
                    f"most, gap {gap}, {size} px, at least {APART * gap} frames apart; below, the errors on one scale "
                    "(red too bright, blue too dark). "
                    "Look for doubled or torn edges and for blur. Single frames show what goes wrong, not how often."
                )
                alt = f"Frames of {', '.join(shown)} and the truth, with error maps: best and worst of {subject} against {reference}."
                name = safe_name(f"strip_{subject}_{reference}_gap{gap}")
                yield Chart(name, comparison_strip(truth, made, rows["t"].tolist(), titles=titles), alt, caption)
