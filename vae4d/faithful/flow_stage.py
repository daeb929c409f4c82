"""The flow stage: flow encoder and flow correction (specification sections 4 and 6); see `stages` for what a stage is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import torch
from torch import Tensor, nn

from ..geometry import euler_to_theta
from ..parallel import maximum
from ..perceptual import PerceptualLoss
from .base_stage import pick
from .losses import code_loss, importance, normalised
from .model import BASE_MODULES, FLOW_MODULES, VideoAutoencoder4D, Views
from .repairs import Repairs


@dataclass(frozen=True)
class Part:
    """Some samples of a substep's batch, and the masks of their losses; None stands for all ones."""

    rows: slice
    of: int  # samples in the whole batch
    partial: Tensor | None = None  # (N, C, D, h, w)
    full: Tensor | None = None


@dataclass(frozen=True)
class Prediction:
    """Predicted codes of some samples, and what they should be."""

    partial: Tensor  # (N, C, D, h, w), carried by flow alone
    full: Tensor  # the same with the correction
    still: Tensor  # what the flow was applied to
    flow: Tensor  # (N, D, h, w, 3)


class FlowStage(nn.Module):
    """Flow encoder and flow correction, on the frozen base modules in eval mode.

    Args:
        pairs: ordered pairs of frames per clip in the reconstruction substeps; None takes all T * T.
        triplets: (start, middle, end) per clip in the interpolation substeps; None takes all: those with start < middle < end, so that
            the fraction of the way varies, or (row 3 published) those of three consecutive frames.
        repairs: rows 1 to 5 change the interpolation substeps.
        reconstruction_substeps, interpolation_substeps: optimiser steps per batch; the latter forward, then again reversed.
        chunk: samples computed at once; None for all. It bounds the memory and changes no number but by rounding.
    """

    name, modules_trained, clip_length, critic = "flow", FLOW_MODULES, 4, None

    def __init__(
        self,
        model: VideoAutoencoder4D,
        perceptual: PerceptualLoss,
        pairs: int | None,
        triplets: int | None,
        repairs: Repairs,
        reconstruction_substeps: int = 5,
        interpolation_substeps: int = 3,
        chunk: int | None = None,
    ):
        super().__init__()
        self.model, self.perceptual, self.repairs, self.chunk = model, perceptual, repairs, chunk
        self.limits = {"reconstruction": pairs, "interpolation": triplets}
        counts = {"reconstruction": reconstruction_substeps, "forward": interpolation_substeps, "reversed": interpolation_substeps}
        self.substeps = tuple(f"{kind} {index}" for kind, count in counts.items() for index in range(1, count + 1))

    def train(self, mode: bool = True) -> FlowStage:
        """The frozen base modules stay in eval mode: their batch norm must not drift."""
        super().train(mode)
        for name in BASE_MODULES:
            self.model.get_submodule(name).eval()
        return self

    @torch.no_grad()
    def begin(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict:
        """Codes and VGG features of every frame, once, and the pairs and triplets of this batch; frames are numbered over all clips.

        Codes are those of the frozen encoder. `samples` holds (source, target) and (start, middle, end) by kind of substep.
        """
        clips, count = batch["frames"].shape[:2]
        frames = batch["frames"].flatten(0, 1)
        codes = self.model.encode(frames).code
        own = self.model.warp(codes, self.model.pose(frames, frames))
        # Target a outer, source b inner, a = b included (specification section 4).
        pairs = [(b, a) for a, b in product(range(count), repeat=2)]
        triplets = [t for t in combinations(range(count), 3) if self.repairs.pose_as_used or t[2] - t[0] == 2]
        samples = {}
        for kind, tuples in (("reconstruction", pairs), ("interpolation", triplets)):
            chosen = torch.tensor([tuples[index] for index in pick(len(tuples), self.limits[kind], rng)])
            samples[kind] = (chosen + count * torch.arange(clips)[:, None, None]).flatten(0, 1).to(frames.device)
        features = self.perceptual.features(frames)
        times = batch["times"].flatten()
        return {"frames": frames, "codes": codes, "own": own, "times": times, "features": features, "samples": samples}

    def samples(self, context: dict, substep: str) -> Tensor:
        """Frame numbers of every sample of a substep, (N, 2) or (N, 3); reversed, a clip runs from its end to its start."""
        if substep.startswith("reconstruction"):
            return context["samples"]["reconstruction"]
        samples = context["samples"]["interpolation"]
        return samples.flip(1) if substep.startswith("reversed") else samples

    def parts(self, context: dict, substep: str, masked: bool | None = None) -> list[Part]:
        """The parts of a substep; those of the first one of its kind (or of any, if `masked`) have masks.

        A mask is divided by the maximum over the whole batch, so all parts are looked at before the first is computed.
        """
        count = len(self.samples(context, substep))
        rows = [slice(start, start + (self.chunk or count)) for start in range(0, count, self.chunk or count)]
        if not (substep.endswith(" 1") if masked is None else masked):
            return [Part(part, count) for part in rows]
        found = []
        for part in rows:
            with torch.no_grad():
                prediction = self.prediction(context, substep, part)
            found.append((importance(self.model, prediction.partial), importance(self.model, prediction.full)))
        wanted, places = self.samples(context, substep)[:, 1].unique(return_inverse=True)  # a target of many samples is looked at once
        true = torch.cat([importance(self.model, codes) for codes in self.true_codes(context, substep)[wanted].split(self.chunk or count)])
        largest = maximum(torch.stack([*(torch.stack([pair[i].max() for pair in found]).max() for i in (0, 1)), true.max()]))
        true = normalised(true, largest[2])
        parts = []
        for part, (partial, full) in zip(rows, found, strict=True):
            masks = (torch.maximum(normalised(own, most), true[places[part]]) for own, most in zip((partial, full), largest, strict=False))
            parts.append(Part(part, count, *masks))
        return parts

    def forward(self, context: dict, substep: str, part: Part) -> dict[str, Tensor]:
        """The losses of one part: partial (flow alone) plus full (flow and correction)."""
        samples = self.samples(context, substep)[part.rows]
        prediction = self.prediction(context, substep, part.rows)
        target = self.true_codes(context, substep)[samples[:, 1]]
        seen = 1 if self.repairs.middle_target or samples.shape[1] == 2 else 2  # row 1
        features = [level[samples[:, seen]] for level in context["features"]]
        losses = {"flow": prediction.flow.abs().flatten(1).mean(1)}  # not part of the loss; a flow that dies shows here
        for name, code, mask in (("partial", prediction.partial, part.partial), ("full", prediction.full, part.full)):
            terms = code_loss(self.model, self.perceptual, code, target, features, mask, prediction.still)
            losses |= {f"{name} {term}": value for term, value in terms.named().items()}
            losses["loss"] = losses.get("loss", 0.0) + terms.total
        return losses

    @staticmethod
    def true_codes(context: dict, substep: str) -> Tensor:
        """The codes of all frames as a prediction should have them; the wanted frame of a sample is its second number."""
        return context["own" if substep.startswith("reconstruction") else "codes"]

    def prediction(self, context: dict, substep: str, rows: slice) -> Prediction:
        """The codes of some samples as the model predicts them."""
        samples = self.samples(context, substep)[rows]
        return self.rebuilt(context, samples) if samples.shape[1] == 2 else self.interpolated(context, samples)

    def rebuilt(self, context: dict, samples: Tensor) -> Prediction:
        """Target a from source b: S = w(V_b, pose(b, a)), E = w(V_a, self-pose(a)), code = flow(S, F)."""
        model, (source, target) = self.model, samples.unbind(1)
        with torch.no_grad():
            start = model.warp(context["codes"][source], model.pose(context["frames"][source], context["frames"][target]))
        code, flow = model.flow_code(start, context["own"][target])
        return Prediction(code, model.flow_correction(code, flow), start, flow)

    def interpolated(self, context: dict, samples: Tensor) -> Prediction:
        """The middle of a triplet from its ends, as synthesis makes it; row 2 published: flow-warped once more towards the true code."""
        model, repairs, (first, middle, last) = self.model, self.repairs, samples.unbind(1)
        frames, codes, times = context["frames"], context["codes"], context["times"]
        with torch.no_grad():
            if repairs.pose_as_used:
                t = ((times[middle] - times[first]) / (times[last] - times[first]))[:, None]
                _, views = model.views(frames[first], frames[last], t)
            else:  # row 3: true poses to the middle frame, and the end's code as it is
                t = torch.full((len(samples), 1), 0.5, device=frames.device)
                reference = torch.cat([frames[first], frames[last], frames[first]])
                thetas = euler_to_theta(model.pose(reference, torch.cat([frames[middle], frames[middle], frames[last]])))
                views = Views(*thetas.chunk(3), None)
        between = model.between(codes[first], codes[last], t, views, True, repairs)
        corrected = model.flow_correction(between.code, between.carried)
        if repairs.direct_loss:
            return Prediction(between.code, corrected, between.still, between.flow)
        code, flow = model.flow_code(corrected, codes[middle])
        return Prediction(code, model.flow_correction(code, flow), corrected, flow)

    def predict(self, frames: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """What validation scores: frames 1 .. T-2 interpolated from the first and the last. Both (B * (T-2), 3, H, W)."""
        first, last = (self.model.encode(frames[:, side]) for side in (0, -1))
        how = {"semantics": self.repairs, "use_flow": True}
        images = [self.model.synthesise(first, last, times[:, i], **how).image for i in range(1, frames.shape[1] - 1)]
        return torch.stack(images, dim=1).flatten(0, 1), frames[:, 1:-1].flatten(0, 1)

    def held_out_loss(self, context: dict) -> float:
        """One pass over reconstruction and interpolation both ways, without masks."""
        kinds = dict.fromkeys(f"{substep.split()[0]} 1" for substep in self.substeps)
        parts = [(kind, part) for kind in kinds for part in self.parts(context, kind, masked=False)]
        losses = [(kind, self(context, kind, part)["loss"]) for kind, part in parts]
        return float(sum(torch.cat([loss for name, loss in losses if name == kind]).mean() for kind in kinds))
