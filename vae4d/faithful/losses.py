"""The losses of both training stages (specification section 4).

Conventions: codes (B, C, D, h, w); images (B, 3, H, W), not clamped; every loss is one value per sample, (B,), unless it says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import full_precision
from ..perceptual import PerceptualLoss
from .model import VideoAutoencoder4D

VOXEL_FLOOR = 0.005  # a voxel whose largest |channel| is not above this counts as empty
LAMBDA_CODE = 1000.0
LAMBDA_FLOW_PERCEPTUAL = 0.1


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference, (B,)."""
    return F.l1_loss(prediction, target, reduction="none").flatten(1).mean(1)  # one pass over memory each way, not three


def channel_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over voxels of 1 - cosine similarity over channels, (B,)."""
    return (1 - F.cosine_similarity(prediction, target, dim=1, eps=1e-6)).flatten(1).mean(1)


def clip_voxels(code: Tensor, floor: float = VOXEL_FLOOR) -> Tensor:
    """The clip rule: voxels whose largest |channel| is at most `floor` become zero."""
    return code * (code.abs().amax(dim=1, keepdim=True) > floor)


def importance(model: VideoAutoencoder4D, code: Tensor) -> Tensor:
    """How much the picture depends on each voxel channel: |d mean(clamped image) / d code|, to be divided by a maximum.

    Returns:
        shaped as `code`, at least float32, without gradient. The mean is over each sample's own pixels: a batch may come in parts.
    """
    # In float32: the gradient of a mean over all pixels is too small for float16, most of the mask would be zero.
    with torch.enable_grad(), full_precision(code):
        leaf = code.detach().to(torch.promote_types(code.dtype, torch.float32)).requires_grad_()
        (gradient,) = torch.autograd.grad(model.decode(leaf).clamp(0, 1).flatten(1).mean(1).sum(), leaf)
    return gradient.abs()


def normalised(importances: Tensor, largest: Tensor | None = None) -> Tensor:
    """An importance mask in [0, 1]: divided by `largest`, the maximum over the whole batch (its own where it is the whole)."""
    largest = importances.max() if largest is None else largest
    return importances / largest.clamp_min(torch.finfo(importances.dtype).tiny)


def importance_mask(model: VideoAutoencoder4D, code: Tensor) -> Tensor:
    """The importance mask of a whole batch of codes, shaped as `code`, in [0, 1]."""
    return normalised(importance(model, code))


def voxel_consistency(model: VideoAutoencoder4D, frames: Tensor, codes: Tensor) -> Tensor:
    """The code of frame 0, carried step by step along the camera's path, against the code of each later frame.

    Args:
        frames: (B, T, 3, H, W).
        codes: (B, T, C, D, h, w), encoder_3d of every frame; the gradient reaches both sides.
    Returns:
        (B,), mean over voxels and over frames 1 .. T-1.
    """
    warped, total = codes[:, 0], 0.0
    for t in range(1, frames.shape[1]):
        warped = model.warp(warped, model.pose(frames[:, t - 1], frames[:, t]))
        total = total + l1(warped, codes[:, t])
    return total / (frames.shape[1] - 1)


def pose_error(model: VideoAutoencoder4D, frames: Tensor, poses: Tensor) -> Tensor:
    """Estimated poses against true ones, which procedural worlds know; not part of the published system.

    Args:
        frames: (B, T, 3, H, W).
        poses: (B, T, T, 6), at [:, i, j] the pose of frame j's camera seen from frame i's; NaN for clips whose cameras are not known.
    Returns:
        (B,), mean squared difference over the ordered pairs of different frames; 0 where nothing is known. (An absolute difference is
        least for a pose network that always says "nothing moved", and training stays there.)
    """
    pairs = torch.tensor([(i, j) for i in range(frames.shape[1]) for j in range(frames.shape[1]) if i != j])
    reference, target = (frames[:, side].flatten(0, 1) for side in pairs.unbind(1))
    true = poses[:, pairs[:, 0], pairs[:, 1]]
    found = model.pose(reference, target).unflatten(0, true.shape[:2])
    return squared(found, torch.where(true.isnan(), found.detach(), true))


@dataclass(frozen=True)
class CodeLoss:
    """The flow stage's loss on one code, by its parts, each (B,)."""

    l1: Tensor
    cosine: Tensor
    perceptual: Tensor
    l2: Tensor  # mean squared difference; this and the next two are not part of the loss
    still_l1: Tensor  # what `l1` would be had nothing moved: a flow that helps makes `l1` smaller than this
    still_l2: Tensor

    def named(self) -> dict[str, Tensor]:
        """The parts by name, as `losses.csv` has them."""
        return {field.name.replace("_", " "): getattr(self, field.name) for field in fields(self)}

    @property
    def total(self) -> Tensor:
        """1000 * L1 + cosine + 0.1 * perceptual."""
        return LAMBDA_CODE * self.l1 + self.cosine + LAMBDA_FLOW_PERCEPTUAL * self.perceptual


def code_loss(
    model: VideoAutoencoder4D,
    perceptual: PerceptualLoss,
    prediction: Tensor,
    target: Tensor,
    features: list[Tensor],
    mask: Tensor | None,
    still: Tensor,
) -> CodeLoss:
    """A predicted code against the code it should be, both clipped and masked, and the picture it gives against the true frame.

    Args:
        features: `perceptual.features` of the true frame.
        mask: shared by both codes; None stands for all ones.
        still: the code that the flow was applied to, for comparison.
    """
    a, b = clip_voxels(prediction).float(), clip_voxels(target).float()
    with torch.no_grad():
        unmoved = clip_voxels(still).float()
        if mask is not None:
            unmoved = unmoved * mask
    if mask is not None:
        a, b = a * mask, b * mask
    with torch.no_grad():
        l2, still_l1, still_l2 = squared(a, b), l1(unmoved, b), squared(unmoved, b)
    return CodeLoss(l1(a, b), channel_cosine(a, b), perceptual(model.decode(a), features), l2, still_l1, still_l2)


def squared(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference, (B,)."""
    return (prediction - target).square().flatten(1).mean(1)
