"""How near flow, depth, pose and pictures are to the truth of a procedural scene (rules: docs/evaluation.md, 9 and 10).

Conventions: flow (2, H, W) in pixels, x right and y down; depth (H, W), positive, the estimate up to one factor; pose (3, 4) = [R | t],
second camera to first, the estimate's t up to one positive factor; masks (H, W) bool. Every function returns floats; NaN where the
measure is undefined, for the caller to count.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..metrics import psnr_of_mse, to_uint8

OUTLIER = 1.0  # px: an end point further away counts as one
NO_TRANSLATION = 1e-6  # a shorter translation has no direction


def same_shape(what: str, estimate: Tensor, truth: Tensor) -> None:
    """Raises ConfigError where an estimate has another shape than the truth."""
    if estimate.shape != truth.shape:
        raise ConfigError(f"{what} has shape {tuple(estimate.shape)}, the truth {tuple(truth.shape)}: estimate it at the picture's size.")


def flow_errors(flow: Tensor, truth: Tensor, visible: Tensor) -> tuple[float, float]:
    """Mean end-point error in pixels over visible pixels, and the share of them that are off by more than 1 px."""
    same_shape("The flow", flow, truth)
    error = (flow.double() - truth.double()).square().sum(0).sqrt()[visible]
    if not len(error):
        return math.nan, math.nan
    return float(error.mean()), float((error > OUTLIER).double().mean())


def depth_errors(depth: Tensor, truth: Tensor) -> tuple[float, float]:
    """Mean of |s depth - truth| / truth, with s the median of truth / depth, and Spearman's rank correlation of depth and truth.

    Both are NaN where some estimated depth is not positive; the correlation also where either depth is constant.
    """
    from scipy.stats import rankdata

    same_shape("The depth", depth, truth)
    a, b = depth.double().flatten().cpu().numpy(), truth.double().flatten().cpu().numpy()
    if not (a > 0).all():
        return math.nan, math.nan
    aligned = np.median(b / a) * a
    relative = float((np.abs(aligned - b) / b).mean())
    ranks = [rankdata(values) for values in (a, b)]
    if min(np.ptp(r) for r in ranks) == 0:
        return relative, math.nan
    return relative, float(np.corrcoef(*ranks)[0, 1])


def rotation_error(pose: Tensor, truth: Tensor) -> float:
    """Angle in degrees of the rotation between two poses, exact also near 0: |Ra - Rb| = 2 sqrt(2) sin(angle / 2) (Frobenius)."""
    same_shape("The pose", pose, truth)
    chord = float((pose[:, :3].double() - truth[:, :3].double()).norm()) / (2 * math.sqrt(2))
    return math.degrees(2 * math.asin(min(1.0, chord)))


def direction_error(pose: Tensor, truth: Tensor) -> float:
    """Angle in degrees between two poses' translations; NaN where one of them is shorter than 1e-6."""
    same_shape("The pose", pose, truth)
    a, b = pose[:, 3].double(), truth[:, 3].double()
    if min(float(a.norm()), float(b.norm())) < NO_TRANSLATION:
        return math.nan
    return math.degrees(math.atan2(float(torch.linalg.cross(a, b).norm()), float(a @ b)))


def masked_psnr(image: Tensor, truth: Tensor, mask: Tensor) -> float:
    """PSNR in dB of pictures (3, H, W) over the pixels of `mask`, both rounded to uint8; infinite where equal, NaN for an empty mask."""
    same_shape("The picture", image, truth)
    a, b = (to_uint8(x[None])[0].astype(np.float64) for x in (image, truth))
    inside = mask.cpu().numpy()
    if not inside.any():
        return math.nan
    return float(psnr_of_mse(((a - b) ** 2)[inside].mean()))
