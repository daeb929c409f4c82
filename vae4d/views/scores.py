"""Views of scores: methods beside each other with their 95 % intervals, by clip or by size of motion; errors of many clips against a limit.

Conventions:
    A table has one row per category and method: columns `category`, `method`, `mean`, `low`, `high` and `count`. Where `low` and `high`
    are NaN no interval can be estimated: the mean is then a hollow mark without a bar. A method has one colour, mark and line in all charts
    that are given the same list of methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ..errors import ConfigError
from .figures import LINES, MARKERS, PALETTE, WIDTH, picture, view

COLUMNS = ("category", "method", "mean", "low", "high", "count")
ACROSS = 3  # panels in a line
COLOURS = (*PALETTE[:-1], "#5D3A9B", "#808080", "#8B4513", "#999933")  # of methods; black is the truth
MARKS = (*MARKERS, "<", ">", "p", "*")  # one more than colours: no two methods look alike


@view
def interval_chart(
    panels: Mapping[str, pd.DataFrame],
    methods: Sequence[str],
    labels: str | Mapping[str, str],
    below: str = "n: pairs",
    zero: bool = False,
    shared: bool = False,
    across: int = ACROSS,
) -> Figure:
    """One panel per table: categories from left to right in the order of the table, methods side by side, bars for 95 % intervals.

    Under each category stands its `count`.

    Args:
        panels: title -> table as in the module's docstring; categories without a finite mean are left empty.
        methods: all methods of the report, in order; those in no panel do not show in the legend.
        labels: what is drawn upwards, with its unit; one text for all panels or one each.
        below: what the categories and their counts are.
        zero: draw a line at 0, where differences are drawn.
        shared: one scale for all panels.
        across: panels in a line.

    Raises:
        ConfigError: no panels, a table that lacks a column or has no rows, or a method that is not in `methods`.
    """
    if not panels:
        raise ConfigError("interval_chart needs at least one table: there is nothing to draw.")
    for title, table in panels.items():
        if missing := [name for name in COLUMNS if name not in table]:
            raise ConfigError(f"The table {title!r} of interval_chart lacks the column {missing[0]}: give {', '.join(COLUMNS)}.")
        if table.empty or not set(table["method"]) <= set(methods):
            raise ConfigError(f"The table {title!r} of interval_chart has no rows, or a method that is not among {', '.join(methods)}.")
    lines = -(-len(panels) // across)
    columns = min(across, len(panels))
    fig = picture(4.4 * lines + 0.6, max(6.5, WIDTH * columns / across))
    axes = fig.subplots(lines, columns, squeeze=False, sharey=shared)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    drawn = [name for name in methods if any((table["method"] == name).any() for table in panels.values())]
    for i, (ax, (title, table)) in enumerate(zip(axes.flat, panels.items(), strict=False)):
        draw_intervals(ax, table, methods, drawn, below)
        ax.set_title(title, fontweight="bold")
        if not shared or i % columns == 0:
            ax.set_ylabel(labels if isinstance(labels, str) else labels[title])
        if zero:
            ax.axhline(0, color="black", linewidth=1.2, zorder=1)
    hollow = any(table["low"].isna().any() for table in panels.values())
    marks = [Line2D([], [], color=colour, marker=mark, markersize=8, linestyle="", label=name)
             for name, (colour, mark, _) in styles(methods).items() if name in drawn]
    if hollow:
        marks += [Line2D([], [], color="black", marker="o", markerfacecolor="white", linestyle="", label="hollow: interval not estimable")]
    fig.legend(handles=marks, loc="outside lower center", ncols=min(4, len(marks)), frameon=False)
    return fig


@view
def error_histogram(errors: Any, limit: float, bins: int = 30) -> Figure:
    """How many clips have which error, with the limit as a line; those at or above it are removed and drawn hatched.

    The title counts the removed clips, and what cannot be drawn: infinite errors (removed, too) and NaN (clips that were not looked at).

    Args:
        errors: (N,), as `clips.cleaning.clean` puts them into its table.
        limit: the first error that is removed.

    Raises:
        ConfigError: another shape, no error that is a number, or a limit that is not positive.
    """
    errors = np.asarray(errors, float)
    if errors.ndim != 1 or np.isnan(errors).all():
        raise ConfigError(f"error_histogram needs errors (N,) with at least one number, not {errors.size} values of shape {errors.shape}.")
    if not 0 < limit < np.inf:
        raise ConfigError(f"limit must be a positive number, not {limit}.")
    looked, drawn = errors[~np.isnan(errors)], errors[np.isfinite(errors)]
    top = max(limit * 1.1, drawn.max(initial=0) * 1.02)
    width = limit / max(1, round(bins * limit / top))  # a bin ends at the limit, so that none is half removed
    edges = width * np.arange(np.ceil(top / width) + 1)
    fig = picture(4.4)
    ax = fig.subplots()
    ax.hist(drawn[drawn < limit], edges, color=PALETTE[0], label="kept")
    ax.hist(drawn[drawn >= limit], edges, color=PALETTE[1], hatch="//", edgecolor="white", label="removed")
    ax.axvline(limit, color="black", linestyle="--", label=f"limit {limit:g}")
    said = f"{(looked >= limit).sum()} of {len(looked)} clips removed"
    said += f", {np.isinf(looked).sum()} of them without a finite error" if np.isinf(looked).any() else ""
    said += f"; {len(errors) - len(looked)} test clips not looked at" if len(looked) < len(errors) else ""
    ax.set_title(said, fontweight="bold")
    ax.set(xlabel="reconstruction error of the first frame (sum of the channels' L2 norms)", ylabel="clips", xlim=(0, edges[-1]))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", alpha=0.3)
    ax.legend(frameon=False)
    return fig


def styles(methods: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Colour, mark and line of each method, by its place."""
    return {name: (COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)], LINES[i % len(LINES)]) for i, name in enumerate(methods)}


def draw_intervals(ax: Axes, table: pd.DataFrame, methods: Sequence[str], drawn: Sequence[str], below: str) -> None:
    """The marks and bars of one panel."""
    categories = list(dict.fromkeys(table["category"]))
    step = 0.75 / max(1, len(drawn))
    for name, (colour, mark, _) in styles(methods).items():
        rows = table[table["method"] == name]
        if rows.empty:
            continue
        x = np.array([categories.index(category) for category in rows["category"]]) + (drawn.index(name) - (len(drawn) - 1) / 2) * step
        mean, low, high = (rows[column].to_numpy(float) for column in ("mean", "low", "high"))
        known = np.isfinite(low) & np.isfinite(high)
        ax.vlines(x[known], low[known], high[known], color=colour, linewidth=2.5, alpha=0.6)
        ax.plot(x[known], mean[known], mark, color=colour, markersize=8, zorder=3)
        ax.plot(x[~known], mean[~known], mark, color=colour, markersize=8, markerfacecolor="white", zorder=3)
    counts = table.groupby("category")["count"].agg(["min", "max"])
    said = [f"{low}" if low == high else f"{low}-{high}" for low, high in counts.loc[categories].itertuples(index=False)]
    names = [wrapped(str(category)) for category in categories]
    ax.set_xticks(range(len(categories)), [f"{name}\nn = {n}" for name, n in zip(names, said, strict=True)], fontsize=11)
    ax.set_xlim(-0.5, len(categories) - 0.5)
    ax.set_xlabel(below, fontsize=11)
    for edge in np.arange(len(categories) - 1) + 0.5:
        ax.axvline(edge, color="black", linewidth=0.6, alpha=0.25)
    ax.grid(axis="y", alpha=0.3)


def wrapped(name: str, width: int = 9) -> str:
    """A category's name in lines of about `width` characters, so that neighbours do not touch."""
    words, lines = name.replace("_", "_ ").split(" "), [""]
    for word in words:
        joined = lines[-1] + ("" if not lines[-1] or lines[-1].endswith("_") else " ") + word
        lines = [*lines[:-1], joined] if len(joined) <= width or not lines[-1] else [*lines, word]
    return "\n".join(line if len(line) <= width + 3 else f"{line[: width + 2]}…" for line in lines)
