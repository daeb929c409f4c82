"""What the networks of the sharp model are made of: convolutions, warps, and the encoder of a frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import full_precision

LEAK = 0.1


def conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """A convolution with its leaky ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    nn.init.kaiming_normal_(layer.weight, a=LEAK)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, nn.LeakyReLU(LEAK, inplace=True))


def head(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """A last convolution that starts at zero: what it decides has no effect before it is trained."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def sample(picture: Tensor, motion: Tensor, mode: str = "bilinear", corner: tuple[int, int] = (0, 0)) -> Tensor:
    """picture (B, C, H, W) at p + motion(p), in float32; the border is replicated.

    Args:
        motion: (B, 2, h, w) in pixels of the picture, on the part of its grid that begins at `corner` (row, column).
        mode: bilinear or bicubic.
    """
    height, width = picture.shape[-2:]
    with full_precision(picture):
        x = torch.arange(corner[1], corner[1] + motion.shape[-1], device=picture.device, dtype=torch.float32)
        y = torch.arange(corner[0], corner[0] + motion.shape[-2], device=picture.device, dtype=torch.float32)
        gx = (motion[:, 0].float() + x) * (2 / width) + (1 / width - 1)
        gy = (motion[:, 1].float() + y[:, None]) * (2 / height) + (1 / height - 1)
        grid = torch.stack([gx, gy], dim=-1)
        return F.grid_sample(picture.float(), grid, mode=mode, padding_mode="border", align_corners=False)


def resized(field: Tensor, factor: float) -> Tensor:
    """A field on a grid `factor` times as fine, bilinear; its values stay."""
    if factor < 1:
        return F.avg_pool2d(field, round(1 / factor))
    return F.interpolate(field, scale_factor=factor, mode="bilinear", align_corners=False)


class Encoder(nn.Module):
    """A frame (B, 3, H, W) to features at stride 4, and to the same of its halves, quarters, ...: one network for all sizes of motion."""

    def __init__(self, channels: tuple[int, int]):
        super().__init__()
        half, quarter = channels
        self.layers = nn.Sequential(
            conv(3, half, stride=2), conv(half, half), conv(half, quarter, stride=2), conv(quarter, quarter), conv(quarter, quarter)
        )

    def forward(self, frame: Tensor, levels: int) -> tuple[Tensor, ...]:
        """Features (B, C, h / 2^l, w / 2^l) of levels l = 0 ... levels - 1; h = H / 4."""
        features = []
        for level in range(levels):
            picture = F.avg_pool2d(frame, 2**level) if level else frame
            features.append(self.layers(picture - 0.5))
        return tuple(features)
