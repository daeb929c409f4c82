"""The published flow stage and interpolation written out plainly, as a reference for numbers and for speed.

It follows specification sections 3 and 4 sentence by sentence and reuses nothing: frames are encoded anew for every pair, triplet
and substep, VGG features of prediction and target are computed for every loss, every batch is computed whole, and gradients reach
whatever asks for one. `stages` and `synthesis` must give the same numbers in less time and memory.

Conventions: frames RGB in [0, 1]; codes (B, C, D, H/4, W/4); voxel flow (B, D, H/4, W/4, 3) in normalised-cube units; poses and thetas
as in `geometry`; every loss is one mean over the whole batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import euler_to_theta
from ..perceptual import VGGFeatures
from .model import VideoAutoencoder4D

Block = dict[str, str | float]


def decode(model: VideoAutoencoder4D, code: Tensor) -> Tensor:
    """A code to its image (B, 3, 4h, 4w), not clamped."""
    image = model.decoder(model.rotate.second_part(code))
    return F.interpolate(image, (4 * code.shape[-2], 4 * code.shape[-1]), mode="bilinear", align_corners=False)


def warp(model: VideoAutoencoder4D, code: Tensor, reference: Tensor, target: Tensor, fraction: float = 1.0) -> Tensor:
    """The code of `reference` carried `fraction` of the way to the camera of `target`, a fraction of the six pose numbers."""
    return model.rotate.warp(code, euler_to_theta(fraction * model.encoder_traj(reference, target)))


def clip(code: Tensor) -> Tensor:
    """Voxels whose largest |channel| is at most 0.005 become zero."""
    return torch.where(code.abs().amax(dim=1, keepdim=True) > 0.005, code, 0.0)


def mask(model: VideoAutoencoder4D, code: Tensor) -> Tensor:
    """|d mean(clamped image) / d code| over its largest value in the batch, shaped as `code`, without gradient."""
    leaf = code.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(decode(model, leaf).clamp(0, 1).mean(), leaf)
    return gradient.abs() / gradient.abs().max()


def perceptual(vgg: VGGFeatures, image: Tensor, target: Tensor) -> Tensor:
    """Sum over four VGG-16 blocks of the mean absolute difference of features, both images resized to 224."""
    return sum((a - b).abs().mean() for a, b in zip(vgg(image, 224), vgg(target, 224), strict=True))


def loss(
    model: VideoAutoencoder4D, vgg: VGGFeatures, prediction: Tensor, plain: Tensor, end: Tensor, picture: Tensor, flow: Tensor, first: bool
) -> tuple[Tensor, Block]:
    """1000 L1 + (1 - cosine) + 0.1 perceptual of one predicted code, with what the published system logs beside it.

    Args:
        prediction, plain, end: the code made, the code without flow, and the code that it should be.
        picture: the frame that the decoded prediction is compared with.
        first: in the first substep one mask, the larger of prediction's and target's, weights all three codes; later it is all ones.
    """
    weight = torch.maximum(mask(model, prediction), mask(model, end)) if first else torch.ones_like(prediction)
    a, b, default = clip(prediction) * weight, clip(end) * weight, clip(plain) * weight
    l1 = (a - b).abs().mean()
    cosine = (1 - F.cosine_similarity(a, b, dim=1, eps=1e-6)).mean()
    features = perceptual(vgg, decode(model, a), picture)
    total = 1000 * l1 + cosine + 0.1 * features
    logged = {"loss l1": l1, "loss l2": (a - b).square().mean(), "reg": flow.abs().mean(), "cos sim": cosine, "perceptual": features}
    logged |= {"default l1": (default - b).abs().mean(), "default l2": (default - b).square().mean(), "total": total}
    return total, {name: value.item() for name, value in logged.items()}


def losses(
    model: VideoAutoencoder4D, vgg: VGGFeatures, start: Tensor, end: Tensor, picture: Tensor, first: bool
) -> tuple[Tensor, list[Block]]:
    """The flow from `start` to `end`, and the loss of the code that it carries: without correction (partial) plus with it (full)."""
    flow = model.encoder_flow(start, end)
    partial = model.flow(start, flow)
    full = model.flow_correction(partial, flow)
    blocks, total = [], 0.0
    for name, code in (("Uncorrected", partial), ("Full", full)):
        value, block = loss(model, vgg, code, start, end, picture, flow, first)
        total = total + value
        blocks.append({"name": name, **block})
    return total, blocks


def reconstruction(model: VideoAutoencoder4D, vgg: VGGFeatures, frames: Tensor, first: bool) -> tuple[Tensor, list[Block]]:
    """All T * T ordered pairs as one batch: target a outer, source b inner, a = b included."""
    count = len(frames)
    target, source = frames.repeat_interleave(count, dim=0), frames.repeat(count, 1, 1, 1)
    start = warp(model, model.encoder_3d(source), source, target)
    end = warp(model, model.encoder_3d(target), target, target)
    return losses(model, vgg, start, end, target, first)


def interpolation(model: VideoAutoencoder4D, vgg: VGGFeatures, frames: Tensor, first: bool) -> tuple[Tensor, list[Block]]:
    """All triplets (i, i + 1, i + 2) as one batch; the flow encoder runs once more, with the true middle code in view (row 2)."""
    begin, middle, last = frames[:-2], frames[1:-1], frames[2:]
    still = torch.eye(3, 4, device=frames.device).expand(len(begin), 3, 4)
    code = model.encoder_3d(begin)
    end = model.rotate.warp(model.encoder_3d(last), still)
    half = model.encoder_flow(warp(model, code, begin, last), end) / 2
    made = model.flow_correction(model.flow(warp(model, code, begin, middle), half), half)
    true = model.rotate.warp(model.encoder_3d(middle), still)
    return losses(model, vgg, made, true, last, first)  # the picture is the end frame's, as published (row 1)


def train_clip(
    model: VideoAutoencoder4D,
    vgg: VGGFeatures,
    frames: Tensor,
    optimizer: torch.optim.Optimizer,
    reconstruction_substeps: int = 5,
    interpolation_substeps: int = 3,
) -> list[dict]:
    """One clip through the published flow stage, an optimiser step in every substep.

    Args:
        model: base modules in eval mode; set which parameters want gradients.
        frames: (T, 3, H, W), T at least 3.
        optimizer: over encoder_flow and flow_correction, Adam with betas (0.9, 0.999) in the published system.
    Returns:
        one dict per substep: "kind" ("reconstruction", "forward" or "reversed"), "loss", and "blocks", the two losses by their parts.
    """
    jobs = (
        ("reconstruction", frames, reconstruction_substeps),
        ("forward", frames, interpolation_substeps),
        ("reversed", frames.flip(0), interpolation_substeps),
    )
    done = []
    for kind, clip_frames, substeps in jobs:
        for index in range(substeps):
            total, blocks = substep(model, vgg, clip_frames, optimizer, kind, first=index == 0)
            done.append({"kind": kind, "loss": total, "blocks": blocks})
    return done


def substep(
    model: VideoAutoencoder4D, vgg: VGGFeatures, frames: Tensor, optimizer: torch.optim.Optimizer, kind: str, first: bool
) -> tuple[float, list[Block]]:
    """One step of the optimiser on frames in the order that `kind` wants them; its loss, and that by its parts."""
    optimizer.zero_grad()
    total, blocks = (reconstruction if kind == "reconstruction" else interpolation)(model, vgg, frames, first)
    total.backward()
    optimizer.step()
    return total.item(), blocks


def interpolate(model: VideoAutoencoder4D, first: Tensor, last: Tensor, fraction: float = 0.5, correction: bool = False) -> Tensor:
    """The published frame at `fraction` between two frames (B, 3, H, W), clamped to [0, 1]; both are encoded in every call."""
    with torch.no_grad():
        code = model.encoder_3d(first)
        end = warp(model, model.encoder_3d(last), last, last)
        flow = fraction * model.encoder_flow(warp(model, code, first, last), end)
        made = model.flow(warp(model, code, first, last, fraction), flow)
        return decode(model, model.flow_correction(made, flow) if correction else made).clamp(0, 1)
