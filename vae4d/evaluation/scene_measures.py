"""What is measured on a procedural world, as rows: measure, t, value, note.

Measures (`MEASURES`): mse and psnr of the frames at t = 1/4, 1/2, 3/4 between the given ones (t = 0 and 1); flow epe and flow outliers (off
by more than 1 px) over visible pixels; depth abs rel, after alignment by the median ratio, and depth rank correlation (Spearman); rotation
error and translation direction error in degrees; novel view psnr, of the first frame from a camera moved by 5 % of the median depth, and
pose transfer psnr, of another world's first frame along this world's camera path (t says how far), both inside the co-visible mask.

Scale: nothing in two frames tells how large a scene is, so one factor is free for each pair, and depth, translation and offsets share it.
Depth is aligned by the median of truth / estimate. Of the translation only the direction counts, which has no scale. An offset comes in
world units with the true median depth, by which an estimator brings it to its own unit. What is not known from the frames and is given
to the model is the focal length; estimators get it.
"""

from __future__ import annotations

import math

from torch import Tensor

from .. import metrics
from ..errors import MethodError
from .estimates import Estimator, ViewEstimator, checked_estimate, checked_views
from .methods import Method, Pair, checked
from .scene_cases import TIMES, NewViews, SceneCase, plane_view
from .scene_metrics import depth_errors, direction_error, flow_errors, masked_psnr, rotation_error

MEASURES = {  # and their units
    "mse": "squared grey levels", "psnr": "dB", "flow epe": "px", "flow outliers": "share", "depth abs rel": "share",
    "depth rank correlation": "1", "rotation error": "degrees", "translation direction error": "degrees",
    "novel view psnr": "dB", "pose transfer psnr": "dB",
}  # fmt: skip
PARALLAX = 0.1  # px by which the camera's translation must move something, or else neither its direction nor depth is scored
UNMOVED, PLANE = "unmoved frame", "plane at the median depth"  # references for new views
Value = tuple[str, float | None, float, str]
"""measure, t, value, note"""


def value(measure: str, number: float, t: float | None = None, left_out: bool = False) -> Value:
    """A row's end: NaN with the reason where there is no number."""
    if left_out:
        return measure, t, math.nan, "no parallax"
    return measure, t, number, "undefined" if math.isnan(number) else ""


def between(name: str, method: Method, case: SceneCase) -> list[Value]:
    """Pictures between the given frames."""
    times = TIMES[1:-1]
    pair = Pair(f"world-{case.seed}", case.size, 4, 0, case.frames[0], case.frames[-1], (1, 2, 3), times)
    prediction = next(iter(method(iter([pair]))), None)
    if prediction is None:
        raise MethodError(f"Method {name!r} returned no prediction for {pair}: yield one for each pair.")
    error = metrics.mse(checked(name, prediction, pair), case.frames[1:-1])
    rows = zip(times, error, metrics.psnr_of_mse(error), strict=True)
    return [value(measure, float(number), t) for t, e, p in rows for measure, number in (("mse", e), ("psnr", p))]


def estimated(name: str, estimator: Estimator, case: SceneCase) -> list[Value]:
    """What an estimator says of the given frames, and new views where it makes any."""
    first, second = case.frames[0], case.frames[-1]
    estimate = checked_estimate(name, estimator(first, second, case.focal), case.size)
    flat, rows = case.parallax < PARALLAX, []
    if estimate.flow is not None:
        error, outliers = flow_errors(estimate.flow, case.flow.flow[0], case.flow.visible[0])
        rows += [value("flow epe", error), value("flow outliers", outliers)]
    if estimate.depth is not None:
        relative, correlation = depth_errors(estimate.depth, case.depth)
        rows += [value("depth abs rel", relative, left_out=flat), value("depth rank correlation", correlation, left_out=flat)]
    if estimate.pose is not None:
        rows.append(value("rotation error", rotation_error(estimate.pose, case.pose)))
        rows.append(value("translation direction error", direction_error(estimate.pose, case.pose), left_out=flat))
    if isinstance(estimator, ViewEstimator):
        view = estimator.novel_view(first, second, case.offset, case.focal, case.median_depth)
        rows += novel_rows(checked_views(name, view, tuple(first.shape)), case)
        if case.transfer is not None:
            views = estimator.transfer(list(case.frames), case.transfer.given)
            rows += transfer_rows(checked_views(name, views, tuple(case.transfer.truth.shape)), case.transfer)
    return rows


def novel_rows(view: Tensor, case: SceneCase) -> list[Value]:
    """Of the first frame from the novel camera."""
    return [value("novel view psnr", masked_psnr(view, case.novel.truth[0], case.novel.mask[0]))]


def transfer_rows(views: Tensor, new: NewViews) -> list[Value]:
    """Of another world's first frame along this world's path."""
    steps = zip(TIMES[1:], views, new.truth, new.mask, strict=True)
    return [value("pose transfer psnr", masked_psnr(view, truth, mask), t) for t, view, truth, mask in steps]


def unmoved(case: SceneCase) -> list[Value]:
    """The reference for new views that moves nothing."""
    rows = novel_rows(case.novel.given, case)
    return rows if case.transfer is None else rows + transfer_rows(case.transfer.given.expand_as(case.transfer.truth), case.transfer)


def plane(case: SceneCase) -> list[Value]:
    """The reference for the novel view that knows the true median depth, see `scene_cases.plane_view`."""
    return novel_rows(plane_view(case), case)
