"""The base stage: scene encoder, pose encoder, rotate and decoder (specification section 4); see `stages` for what a stage is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..parallel import processes, rank
from ..perceptual import PerceptualLoss
from ..synthesis import view_synthesis
from .discriminator import Discriminator, critic_loss, generator_loss
from .losses import l1, pose_error, voxel_consistency
from .model import BASE_MODULES, VideoAutoencoder4D


def pick(count: int, limit: int | None, rng: torch.Generator) -> list[int]:
    """All of range(count), or a random `limit` of them in order."""
    if limit is None or limit >= count:
        return list(range(count))
    return sorted(torch.randperm(count, generator=rng)[:limit].tolist())


class BaseStage(nn.Module):
    """Scene encoder, pose encoder, rotate and decoder, from clips of a (nearly) static world.

    Args:
        critic: the discriminator of the adversarial loss; None leaves that loss out.
        targets: frames rebuilt per clip, drawn anew for every batch; None rebuilds all T.
        reinit_k: frames after which validation takes the scene's code anew, from its own last prediction.
    """

    name, modules_trained, clip_length = "base", BASE_MODULES, 6

    def __init__(
        self,
        model: VideoAutoencoder4D,
        perceptual: PerceptualLoss,
        critic: Discriminator | None,
        weights: dict[str, float],
        targets: int | None,
        reinit_k: int = 12,
    ):
        super().__init__()
        self.model, self.perceptual, self.critic, self.targets, self.reinit_k = model, perceptual, critic, targets, reinit_k
        self.weights = {name: weight for name, weight in weights.items() if weight}  # of l1, perceptual, consistency, gan, pose
        self.substeps = ("base",) if critic is None else ("base", "critic")

    def begin(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict:
        """The batch with its drawn targets and their VGG features."""
        frames = batch["frames"]
        targets = pick(frames.shape[1], self.targets, rng)
        wanted = frames[:, targets].flatten(0, 1)
        features = self.perceptual.features(wanted) if "perceptual" in self.weights else []
        # Drawn for the batch of all processes, so that their number changes nothing.
        mix = torch.rand(len(wanted) * processes(), generator=rng).chunk(processes())[rank()].to(frames.device)
        return {"frames": frames, "targets": targets, "wanted": wanted, "features": features, "poses": batch.get("poses"), "mix": mix}

    def parts(self, context: dict, substep: str) -> list[None]:
        """A batch in one piece: batch normalisation needs it whole."""
        return [None]

    def forward(self, context: dict, substep: str, part: None = None) -> dict[str, Tensor]:
        """Every target from the code of frame 0 and its pose: 10 L1 + 0.1 perceptual; plus the consistency of codes, and the critic's word.

        A term of weight 0 is not computed: VGG alone takes four fifths of a step on a CPU.
        """
        if substep == "critic":
            return critic_loss(self.critic, context["wanted"], context["fake"], context["mix"])
        frames, model = context["frames"], self.model
        losses: dict[str, Tensor] = {}
        if self.weights.keys() - {"pose"}:
            losses = self.reconstruct(context)
        if "pose" in self.weights:
            losses["pose"] = pose_error(model, frames, context["poses"])
        losses["loss"] = sum(self.weights.get(name, 0.0) * value for name, value in losses.items())
        return losses

    def reconstruct(self, context: dict) -> dict[str, Tensor]:
        """The losses of pictures and codes, not weighted; the pictures stay in the context for the critic."""
        frames, targets, model = context["frames"], context["targets"], self.model
        codes = model.encode(frames.flatten(0, 1)).code.unflatten(0, frames.shape[:2])
        first = frames[:, :1].expand(-1, len(targets), -1, -1, -1).flatten(0, 1)
        scene = codes[:, :1].expand(-1, len(targets), -1, -1, -1, -1).flatten(0, 1)
        images = model.decode(model.warp(scene, model.pose(first, context["wanted"]))).float()
        losses = {"l1": l1(images, context["wanted"])}
        if "perceptual" in self.weights:
            losses["perceptual"] = self.perceptual(images, context["features"])
        if self.critic is not None and self.training:
            losses["gan"] = generator_loss(self.critic, images)
            context["fake"] = images.detach()
        losses = {name: value.unflatten(0, (frames.shape[0], -1)).mean(1) for name, value in losses.items()}
        losses["consistency"] = voxel_consistency(model, frames, codes)
        return losses

    def predict(self, frames: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """What validation scores: frames 1 .. T-1 synthesised from frame 0, beside the true ones, both (B * (T-1), 3, H, W)."""
        images = [torch.stack(list(view_synthesis(self.model, clip, self.reinit_k))) for clip in frames]
        return torch.cat(images), frames[:, 1:].flatten(0, 1)

    def held_out_loss(self, context: dict) -> float:
        """The weighted reconstruction loss of a batch, or that of poses where nothing is reconstructed."""
        pictures = self.weights.keys() - {"pose"}
        losses = self.reconstruct(context) if pictures else {"pose": pose_error(self.model, context["frames"], context["poses"])}
        return float(sum(self.weights[name] * losses[name].mean() for name in self.weights.keys() & losses.keys() - {"gan", "consistency"}))
