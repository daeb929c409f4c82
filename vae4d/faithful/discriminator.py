"""The discriminator of the base stage and its losses (docs/original-system.md, sections 1 and 4): WGAN-GP with a drift term.

Conventions: images are RGB in [0, 1], (B, 3, H, W). The output is a map of scores (B, 1, h, w), no probabilities; higher is more real.
Where the map is larger than 1 x 1, an image's score is its mean. Losses are one value per image, (B,); a stage averages them.

The original has six blocks, which bring 256 px to the 4 x 4 map that the last convolution needs. A smaller frame has room for fewer:
128 px for five, 64 px for four, 32 px for three.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..geometry import full_precision

CHANNELS = (64, 128, 128, 128, 256, 512)
FIRST_NORM = 2  # batch norm from the third block on
LEAK = 0.2
LAST_KERNEL = 4  # the last convolution, without padding: the least side of the map before it
LAMBDA_DRIFT = 0.001
LAMBDA_PENALTY = 10.0


def blocks_for(preset: str, frame_size: int) -> int:
    """How many blocks a discriminator for frames of this size has.

    Args:
        frame_size: pixels, the shorter side of a frame. Every block halves it, rounded down.
    Raises:
        ConfigError: the preset `original` below 256 px, where its six blocks have no room; less than 8 px.
    """
    blocks = 0
    while blocks < len(CHANNELS) and frame_size >> (blocks + 1) >= LAST_KERNEL:
        blocks += 1
    if preset == "original" and blocks < len(CHANNELS):
        least = LAST_KERNEL << len(CHANNELS)
        remedy = f"set input_size to {least}, preset to 'small', or lambda_gan to 0"
        raise ConfigError(f"The discriminator of preset 'original' needs frames of at least {least} px, not {frame_size}: {remedy}.")
    if not blocks:
        raise ConfigError(f"The discriminator needs frames of at least {2 * LAST_KERNEL} px, not {frame_size}: set a larger input_size.")
    return blocks


class Discriminator(nn.Module):
    """`netd`: blocks of Conv2d k4 s2 p1 without bias, batch norm from the third on and LeakyReLU 0.2; then Conv2d k4 s1 p0 to one channel.

    With six blocks the keys are those of the original: convolutions netd.{0,2,4,7,10,13,16}, norms netd.{5,8,11,14}.

    Args:
        frame_size: pixels, the shorter side of the frames it is for.
        preset: "original" insists on all six blocks; any other takes as many as the frame size allows.
    Raises:
        ConfigError: see `blocks_for`.
    """

    def __init__(self, frame_size: int = 256, preset: str = "original"):
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for index, channels in enumerate(CHANNELS[: blocks_for(preset, frame_size)]):
            layers.append(nn.Conv2d(before, channels, 4, stride=2, padding=1, bias=False))
            if index >= FIRST_NORM:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.LeakyReLU(LEAK, inplace=True))
            before = channels
        layers.append(nn.Conv2d(before, 1, LAST_KERNEL, stride=1, padding=0, bias=False))
        self.netd = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to maps of scores (B, 1, h, w)."""
        return self.netd(image)


def per_image(scores: Tensor) -> Tensor:
    """The mean of each image's map of scores, (B,)."""
    return scores.flatten(1).mean(1)


def generator_loss(discriminator: nn.Module, fake: Tensor) -> Tensor:
    """-D(fake) for each image, (B,); before its weight lambda_gan. `fake` is the decoder's unclamped picture, as in the other losses."""
    return -per_image(discriminator(fake))


def gradient_penalty(discriminator: nn.Module, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """(|grad D(x)| - 1)^2 at x = mix * real + (1 - mix) * fake, for each image (Gulrajani et al. 2017, equation 3); before its weight.

    The norm is over all pixels and colours of an image. In float32 also under autocast: squares of small gradients vanish in float16.

    Args:
        mix: (B,) in [0, 1], drawn by the caller, so that several processes can draw for the whole batch.
    Returns:
        (B,), with a gradient for the discriminator's weights where gradients are on.
    """
    training, kind = torch.is_grad_enabled(), torch.promote_types(real.dtype, torch.float32)
    with torch.enable_grad(), full_precision(real):
        share = mix.to(kind).reshape(-1, 1, 1, 1)
        mixed = (share * real.detach().to(kind) + (1 - share) * fake.detach().to(kind)).requires_grad_()
        (gradient,) = torch.autograd.grad(per_image(discriminator(mixed)).sum(), mixed, create_graph=training)
    return (torch.linalg.vector_norm(gradient.flatten(1), dim=1) - 1).square()


def critic_loss(discriminator: nn.Module, real: Tensor, fake: Tensor, mix: Tensor) -> dict[str, Tensor]:
    """What the discriminator minimises: -(D(real) - 0.001 D(real)^2) + D(fake) + 10 * gradient penalty.

    Args:
        real, fake: (B, 3, H, W), as many of each; no gradient reaches them.
        mix: (B,) in [0, 1], see `gradient_penalty`.
    Returns:
        each (B,): `loss`, and its parts `real` = D(real), `fake` = D(fake), `drift` = D(real)^2 and `penalty`, before their weights.
    Raises:
        ConfigError: real, fake and mix do not belong together.
    """
    if real.shape != fake.shape or mix.shape != real.shape[:1]:
        shapes = f"{tuple(real.shape)}, {tuple(fake.shape)} and {tuple(mix.shape)}"
        raise ConfigError(f"Real images, fake images and mix have shapes {shapes}: give as many real as fake ones, and a number for each.")
    scores = discriminator(real.detach())
    parts = {"real": per_image(scores), "fake": per_image(discriminator(fake.detach())), "drift": per_image(scores.square())}
    parts["penalty"] = gradient_penalty(discriminator, real, fake, mix)
    loss = -(parts["real"] - LAMBDA_DRIFT * parts["drift"]) + parts["fake"] + LAMBDA_PENALTY * parts["penalty"]
    return {"loss": loss} | parts
