"""What the sharp model learns from: pictures always; motion, depth and camera where a scene was drawn with its truth.

Every term is a value for each sample, (B,); lengths are in pixels, colours in [0, 1], depth in natural logarithms.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..scenes.collage import Sample
from .features import resized, sample
from .geometry import HIGHEST, LOWEST
from .model import Made

WEIGHTS = {
    "image": 1.0, "structure": 0.1, "composite": 0.5, "decoded": 0.1,  # pictures
    "flow": 0.01, "depth": 0.05, "prior": 0.02, "camera": 0.01, "still": 0.01, "own": 0.01,  # truth
    "parallax": 0.2, "sparse": 0.001,  # video, where the truth is not known
}  # fmt: skip


class Term(NamedTuple):
    """A term of a user's own, by `register.loss`; its weight stands in `WEIGHTS`."""

    function: Callable[[Made, Sample], Tensor]
    source: str  # hash of its source


ADDED: dict[str, Term] = {}
HIDDEN = 0.2  # weight of motion where the point is hidden in a frame


def charbonnier(x: Tensor) -> Tensor:
    """|x|, rounded below 1e-3."""
    return (x * x + 1e-6).sqrt()


def mean(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """The mean of each sample, (B,), of values (B, ...); weights of that shape."""
    if weight is None:
        return x.flatten(1).mean(1)
    return (x * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1)


def length(error: Tensor) -> Tensor:
    """Length of a motion's error (B, 2, ...), rounded below 0.1 px."""
    return (error.square().sum(1) + 0.01).sqrt() - 0.1


def dissimilarity(a: Tensor, b: Tensor) -> Tensor:
    """1 - SSIM over windows of 7 x 7 px, every third: at all of them it would take a tenth of a step on a CPU."""
    ma, mb, aa, bb, ab = F.avg_pool2d(torch.cat([a, b, a * a, b * b, a * b], dim=1), 7, 3).split(3, dim=1)
    va, vb, covariance = aa - ma * ma, bb - mb * mb, ab - ma * mb
    return 1 - (2 * ma * mb + 1e-4) * (2 * covariance + 9e-4) / ((ma * ma + mb * mb + 1e-4) * (va + vb + 9e-4))


def picture_terms(made: Made, batch: Sample) -> dict[str, Tensor]:
    """Of the image, of the composite without residual, and of the voxels' own picture at half the resolution."""
    fused, target = made.fused, batch.target
    return {
        "image": mean(charbonnier(fused.image - target)),
        "structure": mean(dissimilarity(fused.image, target)),
        "composite": mean(charbonnier(fused.composite - target)),
        "decoded": mean(charbonnier(F.avg_pool2d(fused.decoded - target, 2))),
    }


def truth_terms(made: Made, batch: Sample) -> dict[str, Tensor]:
    """Motion at every level and of every pixel, depth, the camera's share of it, and what moves by itself, against the truth."""
    motion = batch.flow1 - batch.flow0
    weight = HIDDEN + (1 - HIDDEN) * (batch.visible0 & batch.visible1)[:, None].float()
    flow = torch.zeros_like(batch.t)
    # What was found at half time, at the moment of the truth.
    anchor = made.pair.motion.detach() * ((0.5 - batch.t.view(-1, 1, 1, 1)) / 4)
    # What matching found counts by itself as well: what the gradients mend it would never learn.
    for found in (sample(made.pair.matched, anchor), *made.motions):
        flow = flow + 0.5 * mean(length(found - F.avg_pool2d(motion, 4)) * F.avg_pool2d(weight, 4)[:, 0])
    for found, true, visible in zip(made.fused.motion, (batch.flow0, batch.flow1), (batch.visible0, batch.visible1), strict=True):
        flow = flow + mean(length(found - true) * (HIDDEN + (1 - HIDDEN) * visible.float()))

    # One scale a pair: the median depth is 1.
    median = batch.depth.flatten(1).median(dim=1).values.view(-1, 1, 1)
    log = F.avg_pool2d((median / batch.depth)[:, None], 4)[:, 0].log().clamp(LOWEST, HIGHEST)
    moving = F.avg_pool2d(batch.own[:, None].float(), 4)[:, 0]
    standing = (moving < 0.1).float()
    prior, still = torch.zeros_like(batch.t), torch.zeros_like(batch.t)
    for guess in made.pair.rounds:
        guess = guess.on(anchor)
        there = sample(torch.stack([guess.prior, guess.still], dim=1), anchor)
        prior = prior + mean(charbonnier(there[:, 0] - log))
        still = still + mean(entropy(there[:, 1], standing))
    # The camera's share of the motion at the volume's depth, which alone learns from it, where nothing else moves.
    share = made.camera[1] - made.camera[0]
    return {
        "flow": flow, "camera": mean(length(share - F.avg_pool2d(motion, 4)), 1 - moving), "prior": prior, "still": still,
        "depth": mean(charbonnier(made.scene.inverse_depth.log() - log)), "own": mean(entropy(made.scene.own, moving)),
    }  # fmt: skip


def entropy(share: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy of shares in (0, 1) against shares in [0, 1]."""
    share = share.clamp(1e-4, 1 - 1e-4)
    return -(truth * share.log() + (1 - truth) * (1 - share).log())


def video_terms(made: Made, batch: Sample) -> dict[str, Tensor]:
    """Where nothing is known: the camera at the volume's depth should explain what it can, and residual flow should be rare.

    `parallax`: error of the better of both frames, moved by the camera at the depth found; pixels that no motion explains better are left
    out (Godard et al. 2019, arXiv 1806.01260, section 3).
    """
    frames = batch.first, batch.second
    moved = [sample(frame, resized(motion, 4)) for frame, motion in zip(frames, made.camera, strict=True)]
    error, unmoved = (
        torch.stack([charbonnier(frame - batch.target).mean(1) for frame in pictures]).amin(0) for pictures in (moved, frames)
    )
    return {"parallax": mean(error, (error < unmoved).float()), "sparse": mean(length(made.scene.residual))}


def added_terms(made: Made, batch: Sample) -> dict[str, Tensor]:
    """The registered terms.

    Raises:
        ConfigError: one is not (B,).
    """
    terms = {name: term.function(made, batch) for name, term in ADDED.items()}
    for name, value in terms.items():
        if not isinstance(value, Tensor) or value.shape != batch.t.shape:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"Loss {name!r} returned {found}: return a tensor {tuple(batch.t.shape)}, one value for each sample.")
    return terms


def added_record() -> dict[str, Any]:
    """What a run's options say of the registered terms; nothing where there are none."""
    terms = {name: {"weight": WEIGHTS[name], "source": term.source} for name, term in ADDED.items()}
    return {"losses": terms} if terms else {}


def same_terms(folder: Path) -> None:
    """Raise ConfigError where the run in a folder learns from other registered terms than those of this process."""
    try:
        before = json.loads((folder / "options.json").read_text(encoding="utf-8")).get("losses", {})
    except OSError:  # a new run
        return
    now = added_record().get("losses", {})
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            what = f"learns from the registered loss {name!r} of weight {before[name]['weight']:g}, unknown here: register it as then"
        elif name not in before:
            what = f"does not learn from the registered loss {name!r}: call register.forget({name!r})"
        elif before[name] != now[name]:
            what = f"learns from loss {name!r} with weight {before[name]['weight']:g} and other code or weight now: register it as then"
        else:
            continue
        raise ConfigError(f"The run in {folder} {what}, choose another savepath, or set restart.")


def losses(made: Made, batch: Sample, known: Tensor, weights: dict[str, float]) -> dict[str, Tensor]:
    """All terms, not weighted, as means over the samples that have them, and `loss`, their weighted sum.

    Args:
        known: (B,) bool, samples that come with their truth; the others' fields are ignored.
    """
    terms = {name: value.mean() for name, value in (picture_terms(made, batch) | added_terms(made, batch)).items()}
    if bool(known.any()):
        terms |= {name: (value * known).sum() / len(known) for name, value in truth_terms(made, batch).items()}
    if not bool(known.all()):
        terms |= {name: (value * ~known).sum() / len(known) for name, value in video_terms(made, batch).items()}
    return {"loss": sum(weights[name] * value for name, value in terms.items()), **terms}
