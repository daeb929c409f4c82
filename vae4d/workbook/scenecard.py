"""The second half of the report: what is known of procedural worlds and of no video. Tables, charts and sentences from the scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from ..evaluation.report import Table
from ..evaluation.scene_cases import STILL
from ..evaluation.scene_measures import PLANE, UNMOVED
from ..evaluation.scene_summary import ALL
from ..evaluation.scene_truth import SceneScores
from ..evaluation.statistics import LEAST, mean_interval
from ..views.scores import interval_chart
from .scorecard import VARIANTS, drawn_order
from .sheet import Chart

# measure of scene_summary: title with unit, whether higher is better, decimals, what it means and what it does not say
MEASURES = {
    "psnr": ("PSNR in between (dB)", True, 1, "how near the frames at t = 1/4, 1/2, 3/4 are to the true ones"),
    "flow epe": ("flow end-point error (px)", False, 2, "mean distance between estimated and true flow where the point stays visible"),
    "depth abs rel": ("depth abs-rel", False, 3, "mean |depth - truth| / truth after one common factor; 0 is exact; what "
                      "moves nothing says one wall at one depth"),
    "depth rank correlation": ("depth rank correlation", True, 3, "whether near and far are in the right order; 1 is right, 0 is chance"),
    "rotation error": ("rotation error (degrees)", False, 2, "angle between the estimated and the true turn of the camera"),
    "translation direction error": ("translation direction error (degrees)", False, 1, "0 is right, 90 is chance; its length is not known"),
    "novel view psnr": ("novel view PSNR (dB)", True, 1, "the first frame from a new camera, where both cameras see the same"),
    "pose transfer psnr": ("pose transfer PSNR (dB)", True, 1, "another world's picture along this world's camera path, where co-visible"),
}
CHARTS = {  # name: measures, and what they are of
    "scenes_flow_depth": (("psnr", "flow epe", "depth abs rel", "depth rank correlation"), "frames in between, flow and depth"),
    "scenes_pose_views": (("rotation error", "translation direction error", "novel view psnr", "pose transfer psnr"), "pose and new views"),
}
WALL = "one wall at one depth"  # what an estimator that moves nothing says of depth
REFERENCES = {  # what a figure must beat
    "psnr": ("linear blend", "DIS"), "flow epe": ("nothing moves", "DIS"), "depth abs rel": ("nothing moves",),
    "rotation error": ("nothing moves",), "novel view psnr": (UNMOVED, PLANE), "pose transfer psnr": (UNMOVED,),
}  # fmt: skip


def chapter(found: SceneScores | None, seed: int, methods: Iterable[str]) -> Iterator[list[str] | str | Table | Chart]:
    """What the report says of procedural worlds: sentences, table, charts, in which the report's `methods` look as in its other charts."""
    if found is None:
        yield "Left out (worlds = 0)."
        return
    yield scene_verdict(found, seed) or ["No model was scored: the references and optical flow stand alone."]
    yield scene_table(found)
    yield from scene_charts(found, drawn_order(methods))


def scene_subjects(found: SceneScores) -> list[str]:
    """The estimators that say something about the camera, models that is; the reference does not count."""
    rows = found.scores[found.scores["measure"] == "rotation error"]
    return [name for name in dict.fromkeys(rows["method"]) if name != "nothing moves"]


def mentioned(found: SceneScores, measure: str) -> pd.DataFrame:
    """The rows of a measure, without other ways to use the same checkpoint."""
    rows = found.summary[found.summary["measure"] == measure]
    return rows[~rows["method"].str.startswith(VARIANTS)]


def scene_table(found: SceneScores) -> Table:
    """Every measure by motion, one group of rows for each."""
    bins, lines, names, groups = list(dict.fromkeys(found.summary["bin"])), [], [], []
    for measure, (title, higher, decimals, meaning) in MEASURES.items():
        rows = found.summary[found.summary["measure"] == measure]
        methods = list(dict.fromkeys(rows["method"]))
        cells = {(row.bin, row.method): scene_cell(row, decimals) for row in rows.itertuples()}
        lines += [{"all that move" if label == ALL else label: cells.get((label, name), "–") for label in bins} for name in methods]
        names += methods
        if methods:
            groups.append((f"{title} {'↑' if higher else '↓'}: {meaning}", len(methods)))
    order = ["all that move"] * (ALL in bins) + [label for label in bins if label != ALL]
    settings = found.record["settings"]
    caption = (
        f"Held-out procedural worlds at {settings['size']} px by the motion between the two given frames (of the picture by the "
        f"camera, of objects by themselves): mean over worlds [95 % interval over worlds] (worlds); ↑ higher, ↓ lower is better. "
        f"Intervals take {LEAST} worlds. Depth and the direction of translation are left out where the camera's translation moves nothing "
        f"by {settings['least_parallax']} px."
    )
    return Table(pd.DataFrame(lines, index=pd.Index(names, name="method"))[order], caption, groups)


def scene_cell(row: tuple, decimals: int) -> str:
    """A mean with its interval, the number of worlds and what was left out."""
    if np.isnan(row.mean):
        return "n/a"
    if np.isinf(row.mean):
        return f"exact ({row.values} values)"
    span = "not estimable" if np.isnan(row.low) else f"{row.low:.{decimals}f}, {row.high:.{decimals}f}"
    notes = [f"{count} {what}" for count, what in ((row.undefined, "undefined"), (row.exact, "exact")) if count]
    return f"{row.mean:.{decimals}f} [{span}] ({'; '.join([str(row.worlds), *notes])})".replace("-", "−")


def scene_charts(found: SceneScores, methods: Sequence[str]) -> Iterator[Chart]:
    """Measures by motion: pictures, flow and depth; then poses and new views. `methods` as `drawn_order` has them."""
    for name, (measures, what) in CHARTS.items():
        panels = {}
        for measure in measures:
            rows = mentioned(found, measure)
            rows = rows[(rows["bin"] != ALL) & np.isfinite(rows["mean"])]
            rows = rows[rows["bin"] != STILL] if measure == "psnr" else rows  # some are exact there, and one frame's rounding is 80 dB
            if len(rows):
                title, higher, *_ = MEASURES[measure]
                category = rows["bin"].str.replace(" px", "")
                panels[f"{title.split(' (')[0]} {'↑' if higher else '↓'}"] = rows.assign(category=category, count=rows["worlds"]), title
        if not panels:
            continue
        tables, labels = {key: table for key, (table, _) in panels.items()}, {key: title for key, (_, title) in panels.items()}
        figure = interval_chart(tables, methods, labels, "asked-for motion in px; n: worlds", across=2)
        caption = (
            f"Procedural worlds: {what} by motion, with 95 % intervals over worlds (↑ higher is better, ↓ lower is better). Look at each "
            "estimate beside its reference: nothing moves, the unmoved frame, a plane at the true median depth. What lies within the "
            "reference's bar has learned nothing that this measure shows; exact results (infinite PSNR) are not drawn."
        )
        yield Chart(name, figure, f"Charts of {what} by size of motion on procedural worlds.", caption)


def scene_verdict(found: SceneScores, seed: int = 0) -> list[str]:
    """Each model beside what it must beat, on the same moving worlds; the words follow the paired interval alone."""
    said = []
    for name in scene_subjects(found):
        for measure, references in REFERENCES.items():
            for reference in references:
                if sentence := paired_sentence(found.scores, measure, name, reference, seed):
                    said.append(sentence)
        for measure, chance in (("depth rank correlation", 0.0), ("translation direction error", 90.0)):
            rows = found.summary[(found.summary["method"] == name) & (found.summary["measure"] == measure) & (found.summary["bin"] == ALL)]
            for row in rows.itertuples():
                title, higher, decimals, _ = MEASURES[measure]
                beats = (row.low > chance) if higher else (row.high < chance)
                word = "not estimable" if np.isnan(row.low) else "better than chance" if beats else "not better than chance"
                said.append(f"{name}, {title}: {scene_cell(row, decimals)}: {word} ({chance:g}).")
    return said


def paired_sentence(scores: pd.DataFrame, measure: str, subject: str, reference: str, seed: int) -> str:
    """The difference of two methods on the same moving worlds, in words; empty where one of them has no such measure."""
    rows = scores[(scores["measure"] == measure) & (scores["bin"] != STILL) & np.isfinite(scores["value"])]
    wide = rows.groupby(["method", "world"])["value"].mean().unstack("method")
    if not {subject, reference} <= set(wide):
        return ""
    other = WALL if (measure, reference) == ("depth abs rel", "nothing moves") else reference
    difference = (wide[subject] - wide[reference]).dropna().sort_index().to_numpy()
    title, higher, decimals, _ = MEASURES[measure]
    if len(difference) < LEAST:
        mean = signed(difference.mean(), decimals) if len(difference) else "n/a"
        return f"{subject} minus {other}, {title}: {mean}, interval not estimable ({len(difference)} worlds, {LEAST} are needed)."
    low, high = mean_interval(difference, np.random.default_rng(seed))
    better, worse = (low > 0, high < 0) if higher else (high < 0, low > 0)
    word = "better than" if better else "worse than" if worse else "not told apart from"
    mean, low, high = (signed(value, decimals) for value in (difference.mean(), low, high))
    return f"{subject} is {word} {other} in {title}: {mean}, 95 % interval {low} to {high} over {len(difference)} worlds."


def signed(value: float, decimals: int) -> str:
    """A difference with its sign; what would be rounded to 0 keeps one digit."""
    text = f"{value:+.{decimals}f}" if abs(value) >= 0.5 * 10**-decimals or value == 0 else f"{value:+.1g}"
    return text.replace("-", "−")
