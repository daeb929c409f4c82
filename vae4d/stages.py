"""The two training stages as modules whose forward pass is a loss (specification sections 4 and 6, `repaired`).

A stage turns a batch of clips into a `context` without gradient (`begin`), then into one loss per substep (`forward`), so that
whatever does not change between the optimiser's substeps is computed once. Both return per-sample values, (N,), by name;
`loss` is the one to minimise.

Conventions: clips (B, T, 3, H, W) in [0, 1]; times (B, T), 0 at the first frame and 1 at the last.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn

from .losses import code_loss, importance_mask, l1, pose_error, voxel_consistency
from .metrics import mse, psnr_of_mse
from .model import BASE_MODULES, FLOW_MODULES, Encoded, VideoAutoencoder4D
from .perceptual import PerceptualLoss


def pick(count: int, limit: int | None, rng: torch.Generator) -> list[int]:
    """All of range(count), or a random `limit` of them in order."""
    if limit is None or limit >= count:
        return list(range(count))
    return sorted(torch.randperm(count, generator=rng)[:limit].tolist())


class BaseStage(nn.Module):
    """Scene encoder, pose encoder, rotate and decoder, from clips of a (nearly) static world.

    Args:
        targets: frames rebuilt per clip, drawn anew for every batch; None rebuilds all T.
    """

    name, modules_trained, clip_length = "base", BASE_MODULES, 6

    def __init__(
        self,
        model: VideoAutoencoder4D,
        perceptual: PerceptualLoss,
        lambda_l1: float,
        lambda_perc: float,
        lambda_voxel: float,
        lambda_pose: float,
        targets: int | None,
    ):
        super().__init__()
        self.model, self.perceptual, self.targets = model, perceptual, targets
        self.lambda_l1, self.lambda_perc, self.lambda_voxel, self.lambda_pose = lambda_l1, lambda_perc, lambda_voxel, lambda_pose
        self.substeps = ("base",)

    def begin(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict:
        """The batch with its drawn targets and their VGG features."""
        frames = batch["frames"]
        targets = pick(frames.shape[1], self.targets, rng)
        wanted = frames[:, targets].flatten(0, 1)
        features = self.perceptual.features(wanted) if self.lambda_perc else []
        return {"frames": frames, "targets": targets, "wanted": wanted, "features": features, "poses": batch.get("poses")}

    def forward(self, context: dict, substep: str) -> dict[str, Tensor]:
        """Every target from the code of frame 0 and its pose: 10 L1 + 0.1 perceptual; plus the consistency of codes.

        A term of weight 0 is not computed: VGG alone takes four fifths of a step on a CPU.
        """
        frames, model = context["frames"], self.model
        losses: dict[str, Tensor] = {}
        if self.lambda_l1 or self.lambda_perc or self.lambda_voxel:
            losses = self.reconstruct(frames, context)
        if self.lambda_pose:
            losses["pose"] = pose_error(model, frames, context["poses"])
        weights = {"l1": self.lambda_l1, "perceptual": self.lambda_perc, "consistency": self.lambda_voxel, "pose": self.lambda_pose}
        losses["loss"] = sum(weights[name] * value for name, value in losses.items())
        return losses

    def reconstruct(self, frames: Tensor, context: dict) -> dict[str, Tensor]:
        """The losses of pictures and codes, not weighted."""
        targets, model = context["targets"], self.model
        codes = model.encode(frames.flatten(0, 1)).code.unflatten(0, frames.shape[:2])
        first = frames[:, :1].expand(-1, len(targets), -1, -1, -1).flatten(0, 1)
        scene = codes[:, :1].expand(-1, len(targets), -1, -1, -1, -1).flatten(0, 1)
        images = model.decode(model.warp(scene, model.pose(first, context["wanted"]))).float()
        losses = {"l1": l1(images, context["wanted"])}
        if self.lambda_perc:
            losses["perceptual"] = self.perceptual(images, context["features"])
        losses = {name: value.unflatten(0, (frames.shape[0], -1)).mean(1) for name, value in losses.items()}
        losses["consistency"] = voxel_consistency(model, frames, codes)
        return losses

    def predict(self, frames: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """What validation scores: frames 1 .. T-1 rebuilt from frame 0, beside the true ones. Both (B * (T-1), 3, H, W)."""
        first, later = frames[:, :1].expand(-1, frames.shape[1] - 1, -1, -1, -1), frames[:, 1:]
        scene = self.model.encode(frames[:, 0]).code[:, None].expand(-1, later.shape[1], -1, -1, -1, -1).flatten(0, 1)
        first, later = first.flatten(0, 1), later.flatten(0, 1)
        return self.model.decode(self.model.warp(scene, self.model.pose(first, later))).clamp(0, 1), later


class FlowStage(nn.Module):
    """Flow encoder and flow correction, on the frozen base modules in eval mode.

    Args:
        pairs: ordered pairs of frames per clip in the reconstruction substeps; None takes all T * T.
        triplets: (start, middle, end) per clip in the interpolation substeps; None takes all with start < middle < end, so that the
            fraction of the way varies (row 3 of the defect table).
        reconstruction_substeps, interpolation_substeps: optimiser steps per batch; the latter forward, then again reversed.
    """

    name, modules_trained, clip_length = "flow", FLOW_MODULES, 4

    def __init__(
        self,
        model: VideoAutoencoder4D,
        perceptual: PerceptualLoss,
        pairs: int | None,
        triplets: int | None,
        reconstruction_substeps: int = 5,
        interpolation_substeps: int = 3,
    ):
        super().__init__()
        self.model, self.perceptual, self.pairs, self.triplets = model, perceptual, pairs, triplets
        self.substeps = tuple(
            f"{kind} {index}"
            for kind, count in (
                ("reconstruction", reconstruction_substeps),
                ("forward", interpolation_substeps),
                ("reversed", interpolation_substeps),
            )
            for index in range(1, count + 1)
        )

    def train(self, mode: bool = True) -> FlowStage:
        """The frozen base modules stay in eval mode: their batch norm must not drift."""
        super().train(mode)
        for name in BASE_MODULES:
            self.model.get_submodule(name).eval()
        return self

    @torch.no_grad()
    def begin(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict:
        """Codes and VGG features of every frame, once, and the pairs and triplets of this batch."""
        frames, times = batch["frames"], batch["times"]
        count = frames.shape[1]
        codes = self.model.encode(frames.flatten(0, 1)).code.unflatten(0, frames.shape[:2])
        features = [level.unflatten(0, frames.shape[:2]) for level in self.perceptual.features(frames.flatten(0, 1))]
        # Target a outer, source b inner, a = b included (specification section 4).
        pairs = [(index // count, index % count) for index in pick(count * count, self.pairs, rng)]
        triples = list(combinations(range(count), 3))
        triplets = [triples[index] for index in pick(len(triples), self.triplets, rng)]
        return {"frames": frames, "times": times, "codes": codes, "features": features, "pairs": pairs, "triplets": triplets, "ends": {}}

    def forward(self, context: dict, substep: str) -> dict[str, Tensor]:
        """One substep's loss: partial (flow alone) plus full (flow and correction)."""
        kind, index = substep.split()
        build = self.reconstruct if kind == "reconstruction" else self.interpolate
        partial, offset, target, features = build(context, reverse=kind == "reversed")
        full = self.model.flow_correction(partial, offset)
        losses = {"flow": offset.abs().flatten(1).mean(1)}  # not part of the loss; a flow that dies shows here
        total: Tensor | float = 0.0
        target_mask = importance_mask(self.model, target) if index == "1" else None  # later substeps: all ones
        for name, code in (("partial", partial), ("full", full)):
            mask = None if target_mask is None else torch.maximum(importance_mask(self.model, code), target_mask)
            parts = code_loss(self.model, self.perceptual, code, target, features, mask)
            losses |= {f"{name} l1": parts.l1, f"{name} cosine": parts.cosine, f"{name} perceptual": parts.perceptual}
            total = total + parts.total
        losses["loss"] = total
        return losses

    def reconstruct(self, context: dict, reverse: bool) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Target a from source b: S = w(V_b, pose(b, a)), E = w(V_a, self-pose(a)), code = flow(S, F)."""
        a, b = (torch.tensor(side) for side in zip(*context["pairs"], strict=True))
        model, frames, codes = self.model, context["frames"], context["codes"]
        if "reconstruction" not in context["ends"]:
            with torch.no_grad():
                target, source = frames[:, a].flatten(0, 1), frames[:, b].flatten(0, 1)
                start = model.warp(codes[:, b].flatten(0, 1), model.pose(source, target))
                end = model.warp(codes[:, a].flatten(0, 1), model.pose(target, target))
            context["ends"]["reconstruction"] = (start, end)
        start, end = context["ends"]["reconstruction"]
        code, offset = model.flow_code(start, end)
        return code, offset, end, [level[:, a].flatten(0, 1) for level in context["features"]]

    def interpolate(self, context: dict, reverse: bool) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """The middle frame of a triplet, as synthesis makes it (rows 1 to 5), against the code and the picture of the true one."""
        first, middle, last = (torch.tensor(side) for side in zip(*context["triplets"], strict=True))
        if reverse:
            first, last = last, first
        frames, times, codes = context["frames"], context["times"], context["codes"]
        t = (times[:, middle] - times[:, first]) / (times[:, last] - times[:, first])
        ends = [Encoded(frames[:, side].flatten(0, 1), codes[:, side].flatten(0, 1)) for side in (first, last)]
        code, (carried, _), _, _ = self.model.between_repaired(*ends, t.reshape(-1, 1), None, use_flow=True)
        return code, carried, codes[:, middle].flatten(0, 1), [level[:, middle].flatten(0, 1) for level in context["features"]]

    def predict(self, frames: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """What validation scores: frames 1 .. T-2 interpolated from the first and the last. Both (B * (T-2), 3, H, W)."""
        inner = frames.shape[1] - 2
        first, last = (self.model.encode(frames[:, side]) for side in (0, -1))
        images = [self.model.synthesise(first, last, times[:, i + 1], use_flow=True).image for i in range(inner)]
        return torch.stack(images, dim=1).flatten(0, 1), frames[:, 1:-1].flatten(0, 1)


Stage = BaseStage | FlowStage


@torch.no_grad()
def validate(stage: Stage, batches) -> float:
    """PSNR in dB of the pooled squared error of `stage.predict` over batches of (frames, times); the stage is left in train mode."""
    stage.eval()
    errors = [mse(*stage.predict(frames, times)) for frames, times in batches]
    stage.train()
    return float(psnr_of_mse(np.concatenate(errors).mean()))
