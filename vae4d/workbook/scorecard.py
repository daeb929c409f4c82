"""The video half of the report: from a benchmark's results to tables and charts, each with its caption."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

from ..evaluation.benchmark import REFERENCES, Results
from ..evaluation.estimates import ESTIMATORS
from ..evaluation.methods import BASELINES
from ..evaluation.report import Table
from ..evaluation.scene_measures import PLANE, UNMOVED
from ..evaluation.statistics import LEAST, MOTION_BINS, difference_by_motion
from ..views.scores import interval_chart
from ..views.tables import METRICS, best_of, written
from . import verdicts
from .sheet import Chart

SCORED = ("psnr", "psnr_pooled", "ssim", "lpips", "exact")
CLIPS = 4  # clips that have a panel of their own in a chart
VARIANTS = "model, "  # begins the names of other ways to use the same checkpoint


def subjects(results: Results) -> list[str]:
    """The methods that the report judges: those that are no baseline; DIS where there is none."""
    names = list(results.record["methods"])  # also those that failed everywhere
    judged = [name for name in names if name not in BASELINES and not name.startswith(VARIANTS)]
    return judged or [name for name in ("DIS",) if name in names]


def judgement(results: Results) -> Iterator[list[str]]:
    """The verdict on every subject: its headlines, then what is behind them."""
    for name in subjects(results):
        splits = ("test",) if results.record["methods"][name]["test_only"] else ("train", "validate", "test")
        yield from verdicts.verdict(results.differences, name, results.record, splits)


def drawn_order(methods: Iterable[str]) -> list[str]:
    """All that a report draws, in the order that colours and marks go by: its methods, references of worlds, other ways to use a model."""
    return sorted(dict.fromkeys([*methods, *ESTIMATORS, UNMOVED, PLANE]), key=lambda name: name.startswith(VARIANTS))


def order(results: Results) -> list[tuple[int, int]]:
    """The (size, gap) that were scored, primary ones first."""
    found = results.summary[["size", "gap"]].drop_duplicates().itertuples(index=False, name=None)
    return sorted(found, key=lambda at: (at[0] < verdicts.PRIMARY_SIZE or at[1] < verdicts.PRIMARY_GAP, *at))


def primary(results: Results) -> list[tuple[int, int]]:
    """Those of `order` that strips are made of: the primary gaps at the smallest primary size; all gaps where there is none."""
    both = order(results)
    chosen = [at for at in both if at[0] >= verdicts.PRIMARY_SIZE and at[1] >= verdicts.PRIMARY_GAP] or both
    return [at for at in chosen if at[0] == min(size for size, _ in chosen)]


def score_tables(results: Results) -> Iterator[Table]:
    """One table for each size and gap: every method on every clip, clean and with cuts, and its difference to the references."""
    for size, gap in order(results):
        yield score_table(results, size, gap)


def score_table(results: Results, size: int, gap: int) -> Table:
    """The table of one size and gap; a star marks the best of a clip."""
    rows = results.summary[(results.summary["size"] == size) & (results.summary["gap"] == gap)]
    compared = results.differences[(results.differences["size"] == size) & (results.differences["gap"] == gap)]
    compared = {(row.clip, row.method, row.reference): row for row in compared[compared["metric"] == "psnr"].itertuples()}
    references = [name for name in REFERENCES if name in set(results.scores["method"])]
    lines, groups, names = [], [], []
    for clip in dict.fromkeys(rows["clip"]):
        kinds = {kind: rows[(rows["clip"] == clip) & (rows["rows"] == kind)].set_index("method") for kind in ("clean", "cuts included")}
        present = list(dict.fromkeys(name for table in kinds.values() for name in table.index))
        for name in present:
            line = {}
            for kind, table in kinds.items():
                for column in SCORED:
                    line[kind, head(column)] = cell(table, name, column)
                if kind == "clean":
                    for reference in references:
                        found = compared.get((clip, name, reference))
                        line["clean PSNR minus that of [95 % interval]", reference] = verdicts.interval(found) if found else "–"
            lines.append(line)
            names.append(name)
        groups.append((heading(results, clip, size, kinds), len(present)))
    frame = pd.DataFrame(lines, index=pd.Index(names, name="method"))
    frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    caption = f"{size} px, gap {gap}: means over frames, PSNR in dB; ↑ higher is better, ↓ lower is better, ★ best of the clip."
    return Table(frame, caption, groups)


def head(column: str) -> str:
    """A measure's short name and direction."""
    if column not in METRICS:
        return column
    return f"{METRICS[column][0].removesuffix(' (dB)').removesuffix(' PSNR')} {'↑' if METRICS[column][1] else '↓'}"


def cell(table: pd.DataFrame, method: str, column: str) -> str:
    """A value of a method, starred where it is the best of the table."""
    if method not in table.index:
        return "–"
    if column not in METRICS:
        return str(int(table.loc[method, column]))
    _, higher, decimals = METRICS[column]
    return written(float(table.loc[method, column]), decimals, best_of(table[column], higher))


def heading(results: Results, clip: str, size: int, kinds: Mapping[str, pd.DataFrame]) -> str:
    """What the rows of a clip rest on."""
    split = {about["clip"]: about["split"] for about in results.record["clips"] if about["size"] == size}
    counted = []
    for kind, table in kinds.items():
        if len(table):
            most = table[["videos", "pairs", "frames"]].max()
            videos = f"{most['videos']} video{'' if most['videos'] == 1 else 's'}, " if clip == "all" else ""
            counted.append(f"{kind} {videos}{most['pairs']} pairs, {most['frames']} frames")
    name = "all videos on which every method was scored" if clip == "all" else f"{clip} ({split[clip]})"
    return f"{name}: {'; '.join(counted)}"


def panels(table: pd.DataFrame, size: int, gap: int) -> dict[str, pd.DataFrame]:
    """A table of differences by clip: over all videos where there are enough of them, else test clips first, at most `CLIPS`."""
    rows = table[(table["size"] == size) & (table["gap"] == gap)]
    whole = rows[rows["clip"] == "all"]
    if len(whole) and whole["videos"].max() >= LEAST:
        return {f"all videos, gap {gap}": whole}
    clips = [clip for clip in dict.fromkeys(rows["clip"]) if clip != "all"]
    methods = rows.groupby("clip")["method"].nunique()
    clips = sorted(clips, key=lambda clip: -methods[clip])[:CLIPS]  # some methods are scored on test clips alone
    return {f"{clip}, gap {gap}": rows[rows["clip"] == clip] for clip in clips}


def motion_tables(results: Results, seed: int) -> dict[str, pd.DataFrame]:
    """`difference_by_motion` to each reference, at the gaps of `primary`."""
    chosen = results.scores[~results.scores["method"].str.startswith(VARIANTS)]
    chosen = chosen.set_index(["size", "gap"]).loc[primary(results)].reset_index()
    names = set(chosen["method"])
    return {name: difference_by_motion(chosen, name, seed=seed) for name in REFERENCES if name in names}


def motion_charts(results: Results, tables: Mapping[str, pd.DataFrame]) -> Iterator[Chart | list[str]]:
    """Differences by size of motion, a chart for each reference, and what they say in words."""
    methods = drawn_order(results.record["methods"])
    for reference, table in tables.items():
        found: dict[str, pd.DataFrame] = {}
        size = 0
        for size, gap in primary(results):
            for title, rows in panels(table, size, gap).items():  # none where motion is not known, without OpenCV
                ranked = rows.assign(category=pd.Categorical(rows["motion"], MOTION_BINS, ordered=True)).sort_values("category")
                counts = ranked["videos"] if (ranked["clip"] == "all").all() else ranked["pairs"]
                found[title] = ranked.assign(category=ranked["category"].astype(str).str.replace(" px", ""), count=counts)
        if not found:
            continue
        across = max(1, len(found) // len(primary(results)))
        counted = "videos" if all(title.startswith("all videos") for title in found) else "pairs of given frames"
        below = f"motion in px; n: {counted}"
        figure = interval_chart(found, methods, f"PSNR minus {reference} (dB)", below, zero=True, across=min(3, across))
        caption = (
            f"PSNR minus that of {reference} on the same clean frames, {size} px, by the mean length of the DIS flow between the given "
            "frames; bars are 95 % bootstrap intervals. Look for bars that keep clear of the line at 0: above it the method beats "
            f"{reference} at that motion. It does not say why, and a bin of few pairs (n) says little."
        )
        alt = f"Chart of PSNR differences to {reference} by motion, per clip and gap."
        yield Chart(f"motion_{reference.replace(' ', '_')}", figure, alt, caption)
        for name in subjects(results):
            if sentences := verdicts.by_motion(pd.concat(found.values()), name):
                yield sentences


def clip_charts(results: Results) -> Iterator[Chart]:
    """Differences clip by clip and over all videos, at the primary gaps."""
    methods, found = drawn_order(results.record["methods"]), {}
    table = results.differences[results.differences["metric"] == "psnr"]
    table = table[~table["method"].str.startswith(VARIANTS)]
    size = 0
    for reference in dict.fromkeys(table["reference"]):
        for size, gap in primary(results):
            rows = table[(table["size"] == size) & (table["gap"] == gap) & (table["reference"] == reference)]
            clips = [clip for clip in dict.fromkeys(rows["clip"]) if clip != "all"][:CLIPS]
            rows = rows[rows["clip"].isin([*clips, "all"])]
            names = rows["clip"].replace("all", "all videos")
            if len(rows):  # none where the reference failed
                found[f"minus {reference}, gap {gap}"] = rows.assign(category=names, count=rows["pairs"])
    if found:
        caption = (
            f"PSNR of each method minus that of the reference, {size} px: clip by clip with 95 % intervals from blocks of pairs, and over "
            f"all videos, where an interval takes {LEAST} videos. Look at which side of 0 a bar lies on; methods whose bars overlap 0 are "
            "not told apart from the reference. It does not say how other videos would fare unless the last column has bars."
        )
        figure = interval_chart(found, methods, "PSNR difference (dB)", "n: pairs of given frames", zero=True, across=2)
        yield Chart("differences", figure, "Chart of PSNR differences to linear blend and DIS, per clip.", caption)


def undefined(results: Results) -> int:
    """How many scored values are neither a number nor an infinite PSNR; LPIPS counts where it is available."""
    columns = ["mse", "psnr", "ssim"] + ["lpips"] * (results.record["lpips"] is not None)
    return int(np.isnan(results.scores[columns].to_numpy(float)).sum())


def frames_scored(results: Results) -> int:
    """How many frames have a true one beside them, over clips, sizes and gaps, each counted once."""
    return len(results.scores[["clip", "size", "gap", "frame"]].drop_duplicates())


def same_frames(results: Results) -> bool:
    """Whether all methods of a clip, size and gap were scored on the same frames (those that failed there have none)."""
    frames = results.scores.groupby(["clip", "size", "gap", "method"])["frame"].agg(tuple)
    return bool((frames.groupby(["clip", "size", "gap"]).nunique() == 1).all())
