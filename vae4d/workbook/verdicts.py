"""Sentences from measured differences, by fixed rules, so that no prose about results is written by hand.

The words follow the 95 % interval alone: "better" or "worse" where it lies on one side of 0, "not told apart" where it does not, and
"not estimable" where there is none. A mean without an interval is given as a number and counts for nothing. What speaks against the
subject, and what weakens a figure, is said as plainly as what speaks for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..evaluation.pairs import CHAIN
from ..evaluation.statistics import LEAST
from ..views.tables import METRICS

PRIMARY_GAP, PRIMARY_SIZE = 4, 128  # at smaller gaps or pictures the methods hardly differ (docs/evaluation.md, rule 5)
UNITS = {"psnr": " dB"}
WORDS = {"better": "better than", "worse": "worse than", "undecided": "not told apart from"}


def number(value: float, metric: str = "psnr") -> str:
    """A difference with its sign."""
    return f"{value:+.{METRICS[metric][2]}f}".replace("-", "−")


def interval(row: Any, metric: str = "psnr") -> str:
    """Mean and interval of a row of differences: "−7.04 [−8.10, −6.00]"."""
    if pd.isna(row.mean):
        return "n/a"
    span = "not estimable" if pd.isna(row.low) else f"{number(row.low, metric)}, {number(row.high, metric)}"
    notes = [f"{row.videos} videos"] * (row.clip == "all" and row.videos > 1) + [f"{row.undefined} undefined"] * (row.undefined > 0)
    return f"{number(row.mean, metric)} [{'; '.join([span, *notes])}]"


def outcome(row: Any, metric: str = "psnr") -> str:
    """ "better", "worse", "undecided" or "not estimable", for the method of a row of differences."""
    if pd.isna(row.low) or pd.isna(row.high):
        return "not estimable"
    low, high = (row.low, row.high) if METRICS[metric][1] else (-row.high, -row.low)
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def comparison(row: Any, metric: str = "psnr") -> str:
    """A row of differences in words: "worse than DIS by 7.04 dB PSNR (95 % interval 6.00 to 8.10)"."""
    decimals, unit = METRICS[metric][2], UNITS.get(metric, "")
    name = METRICS[metric][0].split(" (")[0]
    verdict = outcome(row, metric)
    if pd.isna(row.mean):
        return f"not comparable with {row.reference} in {name}: no frame has a finite difference"
    if verdict == "not estimable":
        side = "equal to" if row.mean == 0 else f"{abs(row.mean):.{decimals}f}{unit} {'above' if row.mean > 0 else 'below'}"
        return f"{side} {row.reference} in mean {name}, an interval is not estimable ({rests_on(row)}, {LEAST} are needed)"
    if verdict == "undecided":
        return f"not told apart from {row.reference} in {name} ({number(row.mean, metric)}{unit}, 95 % interval {ends(row, metric)})"
    low, high = sorted(abs(value) for value in (row.low, row.high))
    span = f"95 % interval {low:.{decimals}f} to {high:.{decimals}f}"
    return f"{WORDS[verdict]} {row.reference} by {abs(row.mean):.{decimals}f}{unit} {name} ({span})"


def ends(row: Any, metric: str) -> str:
    """The interval of a row: "−0.10 to +0.30"."""
    return f"{number(row.low, metric)} to {number(row.high, metric)}"


def rests_on(row: Any) -> str:
    """What an interval of a row is drawn from, counted."""
    count, what = (row.videos, "video") if row.clip == "all" else (row.pairs, "pair")
    return f"{count} {what}{'' if count == 1 else 's'}"


def primary(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows at gap 4 and above and 128 px and above; all where there are none."""
    kept = rows[(rows["gap"] >= PRIMARY_GAP) & (rows["size"] >= PRIMARY_SIZE)]
    return kept if len(kept) else rows


def verdict(
    differences: pd.DataFrame, subject: str, record: Mapping[str, Any], splits: Sequence[str] = ("test",)
) -> tuple[list[str], list[str]]:
    """What the figures say about one method, worst news not left out: a headline for each reference, and the sentences behind them.

    Args:
        differences: columns as `evaluation.statistics.DIFFERENCES`.
        subject: the method spoken of.
        record: benchmark.json.
        splits: clips that count; a method that learned nothing may be judged on all.
    """
    split = {clip["clip"]: clip["split"] for clip in record["clips"]}
    rows = differences[differences["method"] == subject]
    rows = primary(rows[(rows["clip"] == "all") | rows["clip"].map(split).isin(splits)])
    clips = rows[rows["clip"] != "all"]
    if clips.empty:
        missing = f"no {' or '.join(splits)} clip has frames scored for it and for a reference"
        return [f"{subject}: nothing was compared, as {missing}."], cautions(subject, record, rows)
    headlines, details = [], []
    for reference, part in clips.groupby("reference", sort=False):
        headlines.append(headline(subject, str(reference), part))
        for row in part[part["metric"] == "psnr"].sort_values(["size", "gap"], kind="stable").itertuples():
            where = f"{row.clip}, {row.size} px, gap {row.gap} ({row.pairs} pairs, {row.frames} frames)"
            details.append(f"{where}: {subject} is {comparison(row)}.")
        whole = rows[(rows["clip"] == "all") & (rows["reference"] == reference) & (rows["metric"] == "psnr")]
        details.append(across_videos(subject, str(reference), whole))
    return headlines, details + cautions(subject, record, rows)


def headline(subject: str, reference: str, rows: pd.DataFrame) -> str:
    """The outcome of all comparisons with one reference, counted, in PSNR; then in the other measures."""
    counts = {str(metric): Counter(outcome(row, str(metric)) for row in part.itertuples()) for metric, part in rows.groupby("metric")}
    psnr = counts.pop("psnr")
    total, what = psnr.total(), "every comparison of a clip, size and gap"
    if psnr["better"] == total:
        said = f"{subject} is better than {reference} in PSNR in {what} ({total} of {total})"
    elif psnr["worse"] == total:
        said = f"{subject} is worse than {reference} in PSNR in {what} ({total} of {total})"
    else:
        kinds = {"worse": "worse", "undecided": "not told apart", "better": "better", "not estimable": "not estimable"}
        parts = ", ".join(f"{word} in {psnr[kind]}" for kind, word in kinds.items())
        said = f"{subject} does not beat {reference} throughout in PSNR: of {total} comparisons (clip, size, gap) it is {parts}"
    for name, count in counts.items():
        said += f"; {METRICS[name][0]}: worse in {count['worse']}, better in {count['better']} of {count.total()}"
    return f"{said}."


def across_videos(subject: str, reference: str, rows: pd.DataFrame) -> str:
    """The comparison over whole videos, which alone speaks of videos that were not measured."""
    if rows["low"].isna().all():
        videos = int(rows["videos"].max()) if len(rows) else 0
        count = f"{videos} video{'' if videos == 1 else 's'}"
        missing = f"not estimable ({count}, {LEAST} are needed)"
        return f"Across videos {subject} minus {reference} is {missing}: these figures speak of their clips alone."
    parts = [f"at {row.size} px, gap {row.gap} {comparison(row)}" for row in rows.itertuples()]
    return f"Across {int(rows['videos'].max())} videos {subject} is {'; '.join(parts)}."


def cautions(subject: str, record: Mapping[str, Any], rows: pd.DataFrame) -> list[str]:
    """What weakens the figures."""
    said = []
    if len(rows) and ((rows["gap"] < PRIMARY_GAP) | (rows["size"] < PRIMARY_SIZE)).all():
        said.append(f"No gap of at least {PRIMARY_GAP} at {PRIMARY_SIZE} px was scored: at smaller ones the methods hardly differ.")
    if limit := record["settings"]["limit"]:
        said.append(f"A quick look: at most {limit} pairs a clip and gap were scored, in runs of {CHAIN} that are spread evenly "
                    "over the clip. Score all before you quote a figure: another choice of pairs may move means by decibels.")
    flags = [flag for flag in record["flags"] if flag["method"] == subject]
    said += [f"Proves nothing: {subject} on {flag['clip']}, as {flag['reason']}." for flag in flags]
    if not record["leaks"]["checked"]:
        said.append("Whether footage of one split shows up in another was not checked.")
    elif any(pair["leak"] for pair in record["leaks"]["pairs"]):
        said.append(record["leaks"]["result"])
    lost = [failure for failure in record["failures"] if failure["method"] == subject]
    if lost:
        said.append(f"{subject} failed on {len(lost)} of its parts (below): its figures leave them out.")
    if record["lpips"] is None:
        said.append("LPIPS is not available, and PSNR and SSIM favour blur: look at the pictures as well.")
    return said


def by_motion(table: pd.DataFrame, subject: str) -> list[str]:
    """One sentence for each clip, size, gap and reference of a table of differences by motion."""
    sentences = []
    rows = table[table["method"] == subject]
    for (clip, size, gap, reference), part in rows.groupby(["clip", "size", "gap", "reference"], sort=False):
        known = [f"{row.motion} {interval(row)} ({rests_on(row)})" for row in part.itertuples() if np.isfinite(row.mean)]
        if known:
            where = "across videos" if clip == "all" else clip
            sentences.append(f"{where}, {size} px, gap {gap}, {subject} minus {reference} by motion, in dB: {'; '.join(known)}.")
    return sentences
