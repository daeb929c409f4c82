"""Layers that both families of models are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SmoothConv3d(nn.Conv3d):
    """3 x 3 x 3 convolution of stride 1 with zero padding: same shape in and out, keys and values of `nn.Conv3d`.

    On the CPU PyTorch takes a slow way for thin ones, and for small single samples, in float32 (docs/lab-log.md): without gradients oneDNN
    is called directly, with gradients one 2D convolution over every slice and its two neighbours. Other wide ones gain by channels last;
    bfloat16 needs none of it.
    """

    thin = 32  # channels
    small = 20480  # samples x channels x slices x rows; up to there a single sample is not given to oneDNN by PyTorch itself

    def __init__(self, channels: int, out: int):
        super().__init__(channels, out, 3, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        if code.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(code)
        thin = max(self.in_channels, self.out_channels) < self.thin
        if (thin or code.shape[:4].numel() <= self.small) and not torch.is_grad_enabled() and code.dtype == torch.float32:
            return torch.mkldnn_convolution(code, self.weight, self.bias, self.padding, self.stride, self.dilation, 1)
        if not thin:
            return super().forward(code.contiguous(memory_format=torch.channels_last_3d))
        depth = code.shape[2]
        padded = F.pad(code, (0, 0, 0, 0, 1, 1))  # an empty slice before the first and after the last
        neighbours = torch.cat([padded[:, :, i : i + depth] for i in range(3)], dim=1)  # (B, 3 C, D, h, w)
        weight = self.weight.transpose(1, 2).flatten(1, 2)  # (out, 3 C, 3, 3), depth before channel as above
        slices = F.conv2d(neighbours.transpose(1, 2).flatten(0, 1), weight, self.bias, padding=1)
        return slices.unflatten(0, (-1, depth)).transpose(1, 2)
