"""Means over frames, and paired differences between methods with 95 % intervals.

Frames of one clip are no independent observations: neighbouring pairs of frames show the same motion. So within a clip consecutive
pairs are resampled in blocks that stay within a shot, and across clips whole videos are resampled (docs/evaluation.md, rule 4).

Within a clip: circular blocks (Politis & Romano 1992) of max(5, n^(1/3)) of its n pairs, at most a shot's length; a block that reaches
the end of a shot goes on at the shot's beginning. Blocks of short shots are drawn more often, so that every pair is as likely as any
other. Across clips: the mean of the videos' means, videos drawn with replacement. Below `LEAST` pairs or videos no interval is given:
low and high are NaN, "not estimable". Intervals are percentiles of at least `RESAMPLES` resamples. They depend on the seed
and on a row's clip, size, gap, metric and motion, not on what else is in the table or in which order. Method and reference have no part
in the draws, so that a minus b mirrors b minus a.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np
import pandas as pd

from ..errors import ConfigError
from ..metrics import psnr_of_mse
from .scoring import clean

RESAMPLES = 2000
LEAST = 8  # videos, or pairs of a clip, below which an interval says nothing
BLOCK = 5  # pairs, the least length of a block
MOTION_EDGES = (0.0, 1.0, 2.0, 4.0, 8.0, np.inf)  # px between the given frames
MOTION_BINS = ("below 1 px", "1-2 px", "2-4 px", "4-8 px", "8 px and more")

UNIT = ["clip", "size", "gap", "method"]
SUMMARY = [*UNIT, "rows", "videos", "pairs", "frames", "exact", "psnr", "psnr_pooled", "ssim", "lpips"]
DIFFERENCES = [*UNIT, "reference", "metric", "videos", "pairs", "frames", "undefined", "mean", "low", "high"]


def summary(scores: pd.DataFrame, failed: Collection[tuple[int, int, str]] = ()) -> pd.DataFrame:
    """Means per clip, size, gap and method (columns `SUMMARY`), of the clean rows and with cuts and repeated frames included.

    Frames that were rebuilt exactly have infinite PSNR: they are counted in `exact` and left out of the mean `psnr` (infinite where
    nothing is left). `psnr_pooled` is that of the mean squared error over all frames. The clip "all" is the mean over videos, each
    counting once, of the videos on which every method of that size and gap was scored, so that its rows compare.

    Args:
        scores: see `scoring`.
        failed: (size, gap, method) that failed on a clip: they get no row "all", and the others' does not hang on them.
    """
    tables = []
    for kind, rows in (("clean", clean(scores)), ("cuts included", scores)):
        exact = np.isinf(rows["psnr"])
        groups = rows.assign(exact=exact, psnr=rows["psnr"].mask(exact)).groupby(UNIT, sort=False)
        table = groups.agg(pairs=("start", "nunique"), frames=("frame", "size"), exact=("exact", "sum"), psnr=("psnr", "mean"),
                           mse=("mse", "mean"), ssim=("ssim", "mean"), lpips=("lpips", "mean")).reset_index()
        tables.append(pd.concat([table.assign(videos=1), _over_videos(table, failed)]).assign(rows=kind))
    table = pd.concat(tables, ignore_index=True)
    table["psnr"] = table["psnr"].mask(table["exact"] == table["frames"], np.inf)
    return table.assign(psnr_pooled=psnr_of_mse(table["mse"].to_numpy()))[SUMMARY]


def _over_videos(table: pd.DataFrame, failed: Collection[tuple[int, int, str]]) -> pd.DataFrame:
    """The rows of the clip "all" for rows of `summary`."""
    kept = np.array([label not in set(failed) for label in zip(table["size"], table["gap"], table["method"], strict=True)], dtype=bool)
    parts = []
    for _, part in table[kept].groupby(["size", "gap"], sort=False):
        common = set.intersection(*(set(clips) for _, clips in part.groupby("method")["clip"]))
        groups = part[part["clip"].isin(common)].groupby(["size", "gap", "method"], sort=False)
        sums, means = groups[["pairs", "frames", "exact"]].sum(), groups[["psnr", "mse", "ssim", "lpips"]].mean()
        parts.append(sums.join(means).assign(videos=groups.size()).reset_index().assign(clip="all"))
    return pd.concat(parts) if parts else table[:0].assign(videos=1)


def differences(scores: pd.DataFrame, reference: str, metric: str = "psnr", seed: int = 0, resamples: int = RESAMPLES) -> pd.DataFrame:
    """Every method minus the reference on the same clean frames, per clip and across videos (clip "all"); columns `DIFFERENCES`.

    A frame that both methods rebuild exactly has difference 0; where one does, its PSNR difference is infinite: such frames are counted
    in `undefined` and left out. Videos count where both methods were scored.

    Args:
        metric: "psnr" (dB), "ssim", "lpips" or "mse".
    Raises:
        ConfigError: unknown reference or metric, fewer than 2,000 resamples.
    """
    return pd.DataFrame(_differences(_pairs(scores, reference, metric), (reference, metric), seed, resamples), columns=DIFFERENCES)


def difference_by_motion(
    scores: pd.DataFrame, reference: str, metric: str = "psnr", seed: int = 0, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """As `differences`, apart by the motion between the given frames: a further column `motion`, one of `MOTION_BINS`.

    Blocks are those of the whole clip, of which the pairs of a bin are taken; bins without a pair have no row.
    """
    pairs = _pairs(scores, reference, metric)
    tables = []
    for number, name in enumerate(MOTION_BINS):
        inside = pairs["motion"].between(MOTION_EDGES[number], MOTION_EDGES[number + 1], inclusive="left")
        part = pairs.assign(**{column: pairs[column].where(inside, 0) for column in ("total", "frames", "undefined")})
        rows = _differences(part, (reference, metric, name), seed, resamples)
        table = pd.DataFrame(rows, columns=DIFFERENCES).assign(motion=name)
        tables.append(table[table["frames"] + table["undefined"] > 0])
    return pd.concat(tables, ignore_index=True)


def _pairs(scores: pd.DataFrame, reference: str, metric: str) -> pd.DataFrame:
    """One row a pair of frames and method: total of the frames' differences, frames, undefined, motion, run."""
    if metric not in ("psnr", "ssim", "lpips", "mse"):
        raise ConfigError(f"metric is {metric!r}: choose psnr, ssim, lpips or mse.")
    names = list(dict.fromkeys(scores["method"]))
    if reference not in names:
        raise ConfigError(f"There is no method {reference!r} to compare with: scored are {', '.join(names)}.")
    keys = ["clip", "size", "gap", "start", "frame"]
    rows = clean(scores).sort_values([*keys, "method"])
    against = rows.loc[rows["method"] == reference, [*keys, metric]].rename(columns={metric: "against"})
    rows = rows[rows["method"] != reference].merge(against, on=keys, validate="many_to_one")
    a, b = rows[metric].to_numpy(float), rows["against"].to_numpy(float)
    both = np.isinf(a) & np.isinf(b)
    with np.errstate(invalid="ignore"):
        difference = np.where(both, 0.0, a - b)
    known = np.isfinite(difference)
    rows = rows.assign(total=np.where(known, difference, 0.0), known=known, undefined=~known)
    groups = rows.groupby(["clip", "size", "gap", "method", "start"], sort=True)
    pairs = groups.agg(total=("total", "sum"), frames=("known", "sum"), undefined=("undefined", "sum"), motion=("motion", "first"))
    return pairs.reset_index().merge(_runs(scores), on=["clip", "size", "gap", "start"])


def _runs(scores: pd.DataFrame) -> pd.DataFrame:
    """For every pair the number of its run: pairs that follow each other without a cut."""
    pairs = scores[["clip", "size", "gap", "start", "cut"]].drop_duplicates().sort_values(["clip", "size", "gap", "start"])
    last = pairs.shift()
    follows = (pairs["start"] == last["start"] + pairs["gap"]) & ~pairs["cut"] & (last["cut"] == False)  # noqa: E712 (the first is NaN)
    for column in ("clip", "size", "gap"):
        follows &= pairs[column] == last[column]
    return pairs.assign(run=(~follows).cumsum()).drop(columns="cut")


def _differences(pairs: pd.DataFrame, labels: tuple[str, ...], seed: int, resamples: int) -> list[tuple]:
    if resamples < RESAMPLES:
        raise ConfigError(f"resamples is {resamples}: intervals take at least {RESAMPLES}.")
    rows = []
    for (clip, size, gap, method), part in pairs.groupby(UNIT, sort=True):
        total, count = part["total"].to_numpy(), part["frames"].to_numpy(float)
        low = high = np.nan
        if (count > 0).sum() >= LEAST:
            rng = row_generator(seed, clip, size, gap, *labels[1:])  # the same draws for all methods: a minus b mirrors b minus a
            low, high = percentiles(block_means(total, count, part["run"].to_numpy(), rng, resamples))
        mean = total.sum() / count.sum() if count.any() else np.nan
        rows.append((clip, size, gap, method, *labels[:2], 1, int((count > 0).sum()), int(count.sum()), int(part["undefined"].sum()),
                     mean, low, high))
    clips = pd.DataFrame(rows, columns=DIFFERENCES)
    for (size, gap, method), part in clips.groupby(["size", "gap", "method"], sort=True):
        means = part["mean"].dropna().to_numpy()
        low, high = mean_interval(means, row_generator(seed, "all", size, gap, *labels[1:]), resamples)
        sums = (int(part[column].sum()) for column in ("pairs", "frames", "undefined"))
        rows.append(("all", size, gap, method, *labels[:2], len(means), *sums, means.mean() if len(means) else np.nan, low, high))
    return rows


def block_means(total: np.ndarray, count: np.ndarray, runs: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Means (resamples,) of block bootstrap samples of pairs.

    Args:
        total, count: (n,) per pair in order, the sum and the number of its frames' values; pairs with count 0 only keep their place.
        runs: (n,) equal for pairs of one shot.
    """
    n = len(total)
    wanted = max(BLOCK, round(n ** (1 / 3)))
    start, length = np.zeros(n, int), np.zeros(n, int)  # of the run that a pair lies in
    _, first, sizes = np.unique(runs, return_index=True, return_counts=True)
    for begin, size in zip(first, sizes, strict=True):
        start[begin : begin + size], length[begin : begin + size] = begin, size
    block = np.minimum(wanted, length)
    steps = np.arange(wanted)
    members = start[:, None] + (np.arange(n)[:, None] - start[:, None] + steps) % length[:, None]  # (n, wanted), around within the run
    taken = steps < block[:, None]
    block_total, block_count = (total[members] * taken).sum(axis=1), (count[members] * taken).sum(axis=1)
    chance = (1 / block) / (1 / block).sum()  # a pair lies in `block` blocks: this gives each pair the same weight
    draws = rng.choice(n, size=(resamples, max(1, round(n / (chance @ block)))), p=chance)
    counts = block_count[draws].sum(axis=1)
    return block_total[draws].sum(axis=1)[counts > 0] / counts[counts > 0]  # a sample may miss a motion bin altogether


def mean_interval(values: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % interval of the mean of independent values (n,), drawn with replacement; (NaN, NaN) below `LEAST` of them."""
    if len(values) < LEAST:
        return float("nan"), float("nan")
    return percentiles(values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1))


def percentiles(means: np.ndarray) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile of resampled means."""
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def row_generator(seed: int, *labels: object) -> np.random.Generator:
    """A generator of its own for every row of a table."""
    digest = hashlib.sha256(repr((seed, *map(str, labels))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
