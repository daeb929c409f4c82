"""Means of the scores on procedural worlds, with 95 % intervals over worlds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..metrics import psnr_of_mse
from .scene_cases import STILL
from .statistics import RESAMPLES, mean_interval, row_generator

COLUMNS = ["bin", "method", "measure", "unit", "motion", "worlds", "values", "undefined", "no_parallax", "exact", "mean", "low", "high"]
ALL = "all"


def scene_summary(scores: pd.DataFrame, seed: int = 0, resamples: int = RESAMPLES) -> pd.DataFrame:
    """One row per bin, method and measure; columns `COLUMNS`. The bin "all" holds every world of the other bins alike but the still ones:
    there some methods are exact, which cannot be averaged with figures of those that are not.

    mean is that of the worlds' means, [low, high] the 95 % interval by drawing worlds with replacement: NaN, "not estimable", below 8
    worlds. worlds and motion (px) are of those that have a value. Of the values, `undefined` and `no_parallax` are missing for that reason,
    and `exact` are infinite; all these are left out of the mean, which is infinite where nothing else is left. "psnr pooled" is the PSNR
    of the mean squared error.

    Args:
        scores: see `scene_truth`.
    """
    finite = np.isfinite(scores["value"])
    rows = scores.assign(known=scores["value"].where(finite), exact=np.isposinf(scores["value"]), undefined=scores["note"] == "undefined",
                         no_parallax=scores["note"] == "no parallax")
    parts = pd.concat([rows, rows[rows["bin"] != STILL].assign(bin=ALL)])
    table = []
    for (limits, method, measure, unit), part in parts.groupby(["bin", "method", "measure", "unit"], sort=False):
        worlds = part.groupby("world", sort=True).agg(known=("known", "mean"), motion=("motion", "first")).dropna(subset="known")
        means = worlds["known"].to_numpy()
        counts = (len(part), *(int(part[name].sum()) for name in ("undefined", "no_parallax", "exact")))
        mean = float(means.mean()) if len(means) else np.inf if counts[-1] else np.nan
        low, high = mean_interval(means, row_generator(seed, "scenes", limits, method, measure), resamples)
        common = (worlds["motion"].mean(), len(means), *counts)
        table.append((limits, method, measure, unit, *common, mean, low, high))
        if measure == "mse":
            exact = (*common[:-1], int((part["value"] == 0).sum()))
            pooled = (float(psnr_of_mse(x)) for x in (mean, high, low))  # a large error is a small PSNR
            table.append((limits, method, "psnr pooled", "dB", *exact, *pooled))
    return pd.DataFrame(table, columns=COLUMNS)
