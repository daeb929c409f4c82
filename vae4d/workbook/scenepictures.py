"""A few procedural worlds, drawn again beside what estimators say of them: the first world of some bins, not chosen by eye."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch

from ..evaluation.estimates import Estimate, Estimator, ViewEstimator, checked_estimate, checked_views
from ..evaluation.scene_cases import SceneCase, plane_view, scene_case
from ..evaluation.scene_measures import PLANE, UNMOVED
from ..evaluation.scene_metrics import depth_errors, direction_error, flow_errors, masked_psnr, rotation_error
from ..evaluation.scene_truth import SceneScores
from ..evaluation.scoring import one_thread
from ..scenes.textures import load_textures
from ..views.truth import flow_and_depth, masked_views, pose_comparison
from .scorecard import drawn_order
from .sheet import Chart

SHOWN = 3  # worlds of a picture


def example_cases(found: SceneScores) -> list[SceneCase]:
    """The first world, in which camera and objects move, of `SHOWN` of the moving bins: the least motion, a middle one, the most."""
    settings = found.record["settings"]
    moving = [tuple(limits) for limits in settings["bins"] if limits[1] > 0]
    chosen = [moving[i] for i in sorted({0, len(moving) // 2, len(moving) - 1})] if moving else []
    textures = load_textures(split="test")
    return [scene_case(limits, 0, settings["size"], settings["seed"], textures) for limits in chosen[:SHOWN]]


def scene_pictures(cases: Sequence[SceneCase], estimators: Mapping[str, Estimator], methods: Iterable[str]) -> Iterator[Chart]:
    """Flow and depth, pose, and new views of the cases, by all estimators that say something of them; `methods`: all of the report."""
    if not cases:
        return
    with one_thread():
        said = {name: [checked_estimate(name, estimate(case.frames[0], case.frames[-1]), case.size) for case in cases]
                for name, estimate in estimators.items() if name != "nothing moves"}
        rows = [f"{case.bin}\n({case.motion:.1f} px\nin truth)" for case in cases]
        yield flow_chart(cases, said, rows)
        if any(estimate.pose is not None for estimates in said.values() for estimate in estimates):
            yield pose_chart(cases, said, drawn_order(methods))
        models = {name: estimator for name, estimator in estimators.items() if isinstance(estimator, ViewEstimator)}
        yield novel_chart(cases, models, rows)
        carried = [(case, row) for case, row in zip(cases, rows, strict=True) if case.transfer is not None]
        if carried and models:
            yield transfer_chart([case for case, _ in carried], models, [row for _, row in carried])


def flow_chart(cases: Sequence[SceneCase], said: Mapping[str, Sequence[Estimate]], rows: Sequence[str]) -> Chart:
    """Flow and depth beside the truth."""
    flows, depths = {"truth": [case.flow.flow[0] for case in cases]}, {"truth": [case.depth for case in cases]}
    notes: dict[str, list[str]] = {}
    for name, estimates in said.items():
        if name != "Farneback" and estimates[0].flow is not None:
            flows[name] = [estimate.flow for estimate in estimates]
            both = zip(flows[name], (case.flow for case in cases), strict=True)
            notes[f"flow {name}"] = [f"EPE {flow_errors(made, true.flow[0], true.visible[0])[0]:.2f} px" for made, true in both]
        if estimates[0].depth is not None:
            depths[name] = [estimate.depth for estimate in estimates]
            both = zip(depths[name], depths["truth"], strict=True)
            notes[f"depth {name}"] = [f"abs-rel {depth_errors(depth, true)[0]:.2f}" for depth, true in both]
    figure = flow_and_depth(torch.stack([case.frames[[0, -1]] for case in cases]), flows, depths, rows, notes)
    caption = (
        "The first world of three bins of motion: the given frames, flow from the first to the second, and depth of the first; truth and "
        "estimates share one scale within a row. Look for the outlines of objects in an estimate. Smooth colours without outlines mean "
        "that it knows no objects; one world is an example and no figure."
    )
    return Chart("scenes_examples", figure, "Frames, true and estimated flow and depth of procedural worlds.", caption)


def pose_chart(cases: Sequence[SceneCase], said: Mapping[str, Sequence[Estimate]], methods: Sequence[str]) -> Chart:
    """The camera's motion beside the truth."""
    poses = {name: [estimate.pose for estimate in estimates] for name, estimates in said.items() if estimates[0].pose is not None}
    titles = []
    for i, case in enumerate(cases):
        errors = [f"{name}: turn {rotation_error(pose[i], case.pose):.1f}° off,\ndirection {direction_error(pose[i], case.pose):.0f}° off"
                  for name, pose in poses.items()]
        titles.append("\n".join([case.bin, *errors]))
    caption = (
        "The camera's motion between the given frames in the same worlds: above, the direction of its translation seen from above (of "
        "length 1 in space, so an arrow that looks short goes up or down); below, its rotation. Look whether an estimate points the same "
        "way as the truth. The length of a translation cannot be told from frames and is not shown."
    )
    return Chart("scenes_poses", pose_comparison([case.pose for case in cases], poses, titles, methods),
                 "Arrows of the camera's true and estimated direction, bars of its rotation, for three procedural worlds.", caption)


def novel_chart(cases: Sequence[SceneCase], models: Mapping[str, ViewEstimator], rows: Sequence[str]) -> Chart:
    """The first frame from a camera that never was."""
    truth, mask = [case.novel.truth[0] for case in cases], [case.novel.mask[0] for case in cases]
    columns = {"given": [case.novel.given for case in cases], "truth, new camera": truth, UNMOVED: [case.novel.given for case in cases],
               PLANE: [plane_view(case) for case in cases]}
    for name, model in models.items():
        views = [model.novel_view(case.frames[0], case.frames[-1], case.offset, case.focal, case.median_depth) for case in cases]
        columns[name] = [checked_views(name, view, tuple(case.frames[0].shape)) for view, case in zip(views, cases, strict=True)]
    caption = (
        "The first frame from a camera that never was, moved by 5 % of the median depth and turned by a degree or so; PSNR within the "
        "co-visible part; the rest, and pixels that an edge crosses, are washed out. Look whether a method beats the unmoved frame and a "
        "flat picture at the true median depth. What the given frame does not show is not scored: invention is neither punished nor "
        "rewarded."
    )
    alt = "Novel views of procedural worlds beside the truth."
    return view_chart("scenes_novel_views", columns, truth, mask, rows, alt, caption)


def transfer_chart(cases: Sequence[SceneCase], models: Mapping[str, ViewEstimator], rows: Sequence[str]) -> Chart:
    """Another world's picture at the end of a camera's path."""
    moves = [case.transfer for case in cases]
    truth, mask = [move.truth[-1] for move in moves], [move.mask[-1] for move in moves]
    given = [move.given for move in moves]
    columns = {"given (another world)": given, "truth, end of path": truth, UNMOVED: given}
    for name, model in models.items():
        made = [model.transfer(list(case.frames), move.given) for case, move in zip(cases, moves, strict=True)]
        columns[name] = [checked_views(name, views, tuple(move.truth.shape))[-1] for views, move in zip(made, moves, strict=True)]
    caption = (
        "Pose transfer: the camera's path is read from the frames of one world and applied to a picture of another; shown is its end, with "
        "the PSNR in the co-visible part. Look whether the picture moved as the true one did. A camera that a method believes to stand "
        "still gives the unmoved frame, or its blur."
    )
    alt = "Pictures at the end of a transferred camera path beside the truth."
    return view_chart("scenes_transfer", columns, truth, mask, rows, alt, caption)


def view_chart(
    name: str, columns: Mapping[str, Sequence[torch.Tensor]], truth: Sequence[torch.Tensor], mask: Sequence[torch.Tensor],
    rows: Sequence[str], alt: str, caption: str,
) -> Chart:  # fmt: skip
    """Pictures with their PSNR inside the mask below those that were made."""
    notes = {}
    for made, images in list(columns.items())[2:]:
        values = [masked_psnr(image, true, inside) for image, true, inside in zip(images, truth, mask, strict=True)]
        notes[made] = ["n/a" if np.isnan(value) else f"{value:.1f} dB" for value in values]
    stacked = {made: torch.stack(list(images)) for made, images in columns.items()}
    return Chart(name, masked_views(stacked, torch.stack(list(mask)), rows, notes), alt, caption)
