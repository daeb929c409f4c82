"""How well the sharp model does on the clip and the world of notebook 07, gap by gap.

Conventions as in tour.py. A world has `STEP` frames in a unit of its time, over which its motion is measured, and goes on after it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ..clips.clip import Clip
from ..evaluation.methods import blend
from ..evaluation.scene_cases import SceneCase
from ..evaluation.scene_metrics import depth_errors, flow_errors
from ..metrics import psnr
from ..scenes import motion, render
from ..sharp.model import SharpAutoencoder4D, SharpSynthesis
from ..sharp.volume import STRIDE
from ..synthesis import between
from ..views.charts import loss_curves
from ..views.frames import comparison_strip
from .tour import aligned, doubt, said, widths

STEP = 8  # frames
TOO_FAR = 2.0  # px of mean error of the flow


@dataclass(frozen=True)
class Trial:
    """How the model does at a gap: PSNR of the picture halfway in dB, that of the linear blend, and the flow's error in pixels."""

    gap: int
    psnr: float
    blend: float
    epe: float  # NaN where the truth is not known

    @property
    def failed(self) -> bool:
        """Worse than the blend, or flow that is off by more than 2 px."""
        return self.psnr < self.blend or self.epe > TOO_FAR

    def __str__(self) -> str:
        flow = "" if math.isnan(self.epe) else f", flow off by {self.epe:.2f} px"
        return f"gap {self.gap}: {self.psnr:.1f} dB, linear blend {self.blend:.1f} dB{flow}"


def pictures(model: SharpAutoencoder4D, first: Tensor, second: Tensor, **how) -> dict[str, Tensor]:
    """The picture halfway, (1, 3, H, W) by the model and by linear blend."""
    return {"model": between(model, first, second, (0.5,), **how), "linear blend": blend(first, second, (0.5,))}


def trial(gap: int, made: Mapping[str, Tensor], middle: Tensor, epe: float = math.nan) -> Trial:
    """The score of `pictures` beside the true one (3, H, W)."""
    return Trial(gap, *(float(psnr(made[name].cpu(), middle[None])[0]) for name in ("model", "linear blend")), epe)


def world_trial(model: SharpAutoencoder4D, case: SceneCase, gap: int) -> Trial:
    """The model on frame 0 and frame `gap` of a world."""
    first, middle, last = (render(case.world, case.world.camera(t, case.size), t) for t in (0.0, gap / STEP / 2, gap / STEP))
    true, lens = motion(case.world, first, last), widths(case)
    found = said(model, first.image[0], last.image[0], focal=lens).motion[1][0].cpu()
    made = pictures(model, first.image[0], last.image[0], focal=lens)
    return trial(gap, made, middle.image[0], flow_errors(found, true.flow[0], true.visible[0])[0])


def clip_pictures(model: SharpAutoencoder4D, clip: Clip, middle: int, gaps: Sequence[int]) -> dict[int, dict[str, Tensor]]:
    """`pictures` of frame `middle`, made of frames at even distances around it, by gap, as far as its shot goes."""
    shot = next(shot for shot in clip.shots() if middle in shot)
    places = {gap: [middle - gap // 2, middle + gap // 2] for gap in gaps}
    return {gap: pictures(model, *clip.tensor(ends)) for gap, ends in places.items() if all(end in shot for end in ends)}


def strip(made: Mapping[int, Mapping[str, Tensor]], middle: Tensor) -> Figure:
    """The pictures of `clip_pictures` beside the truth, one column a gap."""
    rows = {name: torch.cat([of[name].cpu() for of in made.values()]) for name in ("model", "linear blend")}
    return comparison_strip(middle.expand(len(made), -1, -1, -1), rows, 0.5, titles=[f"gap {gap}" for gap in made])


def curves(trials: Iterable[Trial]) -> Figure:
    """PSNR and the flow's error over the gap."""
    table = pd.DataFrame([dataclasses.asdict(one) for one in trials])
    table = table.rename(columns={"psnr": "model (dB)", "blend": "linear blend (dB)", "epe": "flow error (px)"})
    known = ["flow error (px)"] if table["flow error (px)"].notna().any() else []
    return loss_curves(table, [["model (dB)", "linear blend (dB)"], *known], x="gap")


def errors(case: SceneCase, made: SharpSynthesis) -> dict[str, float]:
    """How far the model is off on a world at t = 0.

    "epe" (px) and "outliers" of its flow, "depth" (relative) and "depth_rank" (rank correlation with the truth), and "doubt_rank": the rank
    correlation of its doubt about depth with its error there.
    """
    depth = made.depth[0].cpu()
    epe, outliers = flow_errors(made.motion[1][0].cpu(), case.flow.flow[0], case.flow.visible[0])
    relative, rank = depth_errors(depth, case.depth)
    off = F.avg_pool2d((aligned(depth, case.depth).log() - case.depth.log()).abs()[None], STRIDE)[0]
    unsure = doubt(made.density[0].cpu())[: off.shape[0], : off.shape[1]]
    return {"epe": epe, "outliers": outliers, "depth": relative, "depth_rank": rank, "doubt_rank": rank_correlation(unsure, off)}


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, of two maps; NaN where one is constant."""
    from scipy.stats import rankdata

    one, two = (rankdata(part.flatten().numpy()) for part in (a, b))
    return float(np.corrcoef(one, two)[0, 1]) if min(np.ptp(one), np.ptp(two)) > 0 else math.nan
