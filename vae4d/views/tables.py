"""Views of results: methods beside each other, as a table and as bars.

Conventions:
    A table of metrics is a DataFrame with one row per method (its name is the index) and one column per metric.
    The best value of a metric whose direction is known carries a star.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..errors import ConfigError
from .figures import PALETTE, WIDTH, picture, view

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

# column (lower case) -> what to print, whether higher is better, decimals
METRICS = {
    "psnr": ("PSNR (dB)", True, 2),
    "psnr_pooled": ("pooled PSNR (dB)", True, 2),
    "ssim": ("SSIM", True, 4),
    "lpips": ("LPIPS", False, 4),
    "l1": ("L1", False, 4),
    "mse": ("MSE (grey levels²)", False, 2),
    "published_psnr": ("published PSNR (dB)", True, 2),
    "published_ssim": ("published SSIM", True, 4),
    "vgg_cosine": ("VGG cosine distance", False, 4),
}


def describe(column: str, higher_is_better: Mapping[str, bool] | None) -> tuple[str, bool | None, int]:
    """What to print for a metric's column, whether higher is better (None: unknown) and its decimals."""
    title, better, decimals = METRICS.get(str(column).lower(), (str(column), None, 4))
    return title, (higher_is_better or {}).get(column, better), decimals


def best_of(values: pd.Series, better: bool | None) -> float | None:
    """The best value of a metric, None where the direction is unknown or there are no values."""
    known = values.dropna()
    return None if better is None or known.empty else float(known.max() if better else known.min())


def written(value: float, decimals: int, best: float | None) -> str:
    """A rounded value, starred where it is the best; n/a where there is none, ∞ for the PSNR of equal frames."""
    return ("n/a" if np.isnan(value) else f"{value:.{decimals}f}".replace("inf", "∞")) + " ★" * (value == best)


def checked_table(table: pd.DataFrame) -> pd.DataFrame:
    """The numeric columns of `table` (methods by row)."""
    numbers = table.select_dtypes("number") if isinstance(table, pd.DataFrame) else None
    if numbers is None or numbers.empty:
        raise ConfigError("The metric table must be a DataFrame of the shape (methods, metrics) with the methods' names as its index.")
    return numbers


def metric_table(table: pd.DataFrame, higher_is_better: Mapping[str, bool] | None = None, caption: str | None = None) -> Styler:
    """Methods by metrics as a styled table: rounded, with each metric's direction and a star at its best value.

    The star is text and is drawn bold, so it survives where styles are stripped.

    Args:
        table: index methods, columns metrics; columns that are not numbers are left out.
        higher_is_better: direction of columns that METRICS does not know, or another one.
        caption: text above the table.

    Raises:
        ConfigError: no DataFrame, or one without numbers.
    """
    numbers = checked_table(table)
    formats, titles, bests = {}, {}, {}
    for column in numbers:
        title, better, decimals = describe(column, higher_is_better)
        titles[column] = title = title if better is None else f"{title} {'↑' if better else '↓'}"
        bests[title] = best_of(numbers[column], better)
        formats[title] = partial(written, decimals=decimals, best=bests[title])
    styler = numbers.rename(columns=titles).style.format(formats)
    styler = styler.apply(lambda values: ["font-weight: bold" if value == bests[values.name] else "" for value in values])
    return styler if caption is None else styler.set_caption(caption)


@view
def metric_bars(table: pd.DataFrame, higher_is_better: Mapping[str, bool] | None = None) -> Figure:
    """Methods side by side, one panel per metric, with the numbers printed and a star at the best.

    Args:
        table: index methods, columns metrics; columns that are not numbers are left out.
        higher_is_better: direction of columns that METRICS does not know, or another one.

    Raises:
        ConfigError: no DataFrame, or one without numbers.
    """
    numbers = checked_table(table)
    methods = [str(name) for name in numbers.index]
    lines = -(-numbers.shape[1] // 3)
    across = -(-numbers.shape[1] // lines)
    fig = picture(lines * (1.0 + 0.5 * len(methods)), max(6.5, WIDTH / 3 * across))
    axes = fig.subplots(lines, across, squeeze=False, sharey=True)
    for ax in axes.flat[numbers.shape[1] :]:
        ax.set_axis_off()
    for ax, column in zip(axes.flat, numbers, strict=False):
        title, better, decimals = describe(column, higher_is_better)
        values, best = numbers[column], best_of(numbers[column], better)
        longest = values[np.isfinite(values)].max() if np.isfinite(values).any() else 1.0  # also stands for an infinite value
        bars = ax.barh(methods, values.replace(np.inf, longest).fillna(0), color=[PALETTE[i % len(PALETTE)] for i in range(len(methods))])
        ax.bar_label(bars, [written(value, decimals, best) for value in values], padding=4)
        ax.set_title(title + ("" if better is None else "\nhigher is better" if better else "\nlower is better"))
        ax.spines["bottom"].set_visible(False)
        ax.set_xticks([])
        ax.margins(x=0.45)
    axes[0, 0].invert_yaxis()
    return fig
