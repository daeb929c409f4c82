"""The seven networks of the flow-enabled 4D Video Autoencoder (specification section 1).

Names, shapes and state-dict keys are those of the published system, so its checkpoints fit the preset `original`.
B batch, C code channels, D depth slices, h = H/4, w = W/4. Frames are RGB in [0, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from ..config import ModelConfig
from ..geometry import flow_warp, warp
from ..layers import SmoothConv3d

LEAK = 0.01  # slope of every leaky ReLU here


def resnet_trunk(layers: tuple[int, ...], width: int) -> nn.Sequential:
    """ResNet up to and including layer4 as one Sequential (indices 0..7), layer4 at stride 1.

    (B, 3, H, W) -> (B, 32 * width, H/16, W/16). With layers (3, 4, 6, 3) and width 64 it is torchvision's ResNet-50.
    """
    trunk = [nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    trunk.append(nn.MaxPool2d(3, stride=2, padding=1))
    channels = width
    for stage, (blocks, stride) in enumerate(zip(layers, (1, 2, 2, 1), strict=True)):
        planes = width * 2**stage
        out = planes * Bottleneck.expansion
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
        first = Bottleneck(channels, planes, stride=stride, downsample=shortcut)
        trunk.append(nn.Sequential(first, *(Bottleneck(out, planes) for _ in range(blocks - 1))))
        channels = out
    for module in trunk:
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(*trunk)


class SceneEncoder(nn.Module):
    """`encoder_3d`: a frame (B, 3, H, W) to its voxel code (B, C, D, H/4, W/4)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.slices = config.depth // 4  # two stride-2 transposed convolutions follow
        self.feature_extraction = resnet_trunk(config.resnet_layers, config.resnet_width)
        lifted = config.resnet_width * 32 // self.slices
        self.conv3d_1 = nn.ConvTranspose3d(lifted, config.lift_channels, 4, stride=2, padding=1)
        self.conv3d_2 = nn.ConvTranspose3d(config.lift_channels, config.code_channels, 4, stride=2, padding=1)

    def load_imagenet(self, state: dict[str, Tensor]) -> None:
        """Start the trunk from torchvision's ResNet-50 (its state dict; the classifier is left out), as the published system does."""
        index = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
        parts = {name: name.split(".", 1) for name in state if not name.startswith("fc.")}
        self.feature_extraction.load_state_dict({f"{index[stem]}.{rest}": state[name] for name, (stem, rest) in parts.items()})

    def forward(self, frame: Tensor) -> Tensor:
        features = self.feature_extraction(frame)
        volume = features.unflatten(1, (-1, self.slices))  # (B, C', D/4, H/16, W/16): channels read as channel x depth
        volume = F.leaky_relu(self.conv3d_1(volume), LEAK)
        return F.leaky_relu(self.conv3d_2(volume), LEAK)


class PoseEncoder(nn.Module):
    """`encoder_traj`: reference and target frame to the pose (B, 6) of geometry's convention, target to reference."""

    kernels = (7, 5, 3, 3, 3, 3, 3)

    def __init__(self, config: ModelConfig):
        super().__init__()
        channels = 6
        for index, (planes, kernel) in enumerate(zip(config.pose_channels, self.kernels, strict=True), start=1):
            conv = nn.Conv2d(channels, planes, kernel, stride=2, padding=(kernel - 1) // 2)
            # With PyTorch's own start hardly anything of a difference between the frames comes out at the end (docs/lab-log.md).
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            self.add_module(f"conv{index}", nn.Sequential(conv, nn.ReLU(inplace=True)))
            channels = planes
        self.pose_pred = nn.Conv2d(channels, 6, 1)
        scale = torch.tensor([config.scale_rotate] * 3 + [config.scale_translate] * 3)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, reference: Tensor, target: Tensor) -> Tensor:
        features = torch.cat([reference, target], dim=1)
        for index in range(1, len(self.kernels) + 1):
            features = self.get_submodule(f"conv{index}")(features)
        return self.pose_pred(features).mean(dim=3).mean(dim=2) * self.scale


class Rotate(nn.Module):
    """`rotate`: carry a code to another view, then two 3D convolutions ("second part") that prepare it for the decoder."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.padding_mode = config.padding_mode
        self.conv3d_1 = SmoothConv3d(config.code_channels, config.rotate_channels)
        self.conv3d_2 = SmoothConv3d(config.rotate_channels, config.rotate_channels)

    def warp(self, code: Tensor, theta: Tensor) -> Tensor:
        """(B, C, D, h, w) under theta (B, 3, 4)."""
        return warp(code, theta, self.padding_mode)

    def second_part(self, code: Tensor) -> Tensor:
        """(B, C, D, h, w) -> (B, rotate_channels, D, h, w)."""
        return F.leaky_relu(self.conv3d_2(F.leaky_relu(self.conv3d_1(code), LEAK)), LEAK)

    def forward(self, code: Tensor, theta: Tensor) -> Tensor:
        return self.second_part(self.warp(code, theta))


class Decoder(nn.Module):
    """`decoder`: a prepared code (B, rotate_channels, D, h, w) to an image (B, 3, 4h, 4w), not clamped."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        wide, middle, narrow = config.decoder_channels
        self.conv3 = nn.Conv2d(config.rotate_channels * config.depth, wide, 1)
        self.upconv3 = nn.ConvTranspose2d(wide, middle, 4, stride=2, padding=1)
        self.upconv4 = nn.ConvTranspose2d(middle, narrow, 4, stride=2, padding=1)
        self.upconv_final = nn.ConvTranspose2d(narrow, 3, 3, stride=1, padding=1)

    def forward(self, prepared: Tensor) -> Tensor:
        features = F.leaky_relu(self.conv3(prepared.flatten(1, 2)), LEAK)
        features = F.leaky_relu(self.upconv3(features), LEAK)
        features = F.leaky_relu(self.upconv4(features), LEAK)
        return self.upconv_final(features)


class FlowEncoder(nn.Module):
    """`encoder_flow`: start and end code on one grid, each (B, C, D, h, w), to the voxel flow (B, D, h, w, 3).

    The flow is an offset in normalised-cube units within [-1, 1], order (x, y, z): start(p + flow(p)) resembles end(p).
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        narrow, wide = config.flow_channels
        self.conv3d_1 = nn.Conv3d(2 * config.code_channels, narrow, 3, stride=2, padding=1, bias=False)
        self.conv3d_2 = nn.Conv3d(narrow, wide, 3, stride=2, padding=1, bias=False)
        self.conv3d_3 = nn.Conv3d(wide, wide, 3, stride=1, padding=1, bias=False)
        self.conv3d_4 = nn.ConvTranspose3d(wide, narrow, 3, stride=2, padding=0, bias=False)
        self.conv3d_5 = nn.ConvTranspose3d(narrow, 3, 4, stride=2, padding=2, bias=False)
        for layer in (self.conv3d_4, self.conv3d_5):
            nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain("tanh"))

    def forward(self, start: Tensor, end: Tensor) -> Tensor:
        features = F.relu(self.conv3d_1(torch.cat([start, end], dim=1)))
        features = F.relu(self.conv3d_2(features))
        features = F.relu(self.conv3d_3(features))
        offset = torch.tanh(self.conv3d_5(torch.tanh(self.conv3d_4(features))))
        smooth = F.avg_pool3d(offset, 3, stride=1, padding=1, count_include_pad=True)  # divisor 27 at the border too
        return smooth.permute(0, 2, 3, 4, 1)


class FlowWarp(nn.Module):
    """`flow`: sample a code at identity + offset. It has no parameters; it is a module to keep the checkpoint's layout."""

    def forward(self, code: Tensor, offset: Tensor) -> Tensor:
        return flow_warp(code, offset, padding_mode="zeros")


class FlowCorrection(nn.Module):
    """`flow_correction`: a residual on a flow-warped code, from the code and the offset that made it."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.conv3d_1 = SmoothConv3d(config.code_channels + 3, config.correction_channels)
        self.conv3d_2 = SmoothConv3d(config.correction_channels, config.code_channels)

    def forward(self, code: Tensor, offset: Tensor) -> Tensor:
        features = torch.cat([code, offset.permute(0, 4, 1, 2, 3).to(code.dtype)], dim=1)
        return code + self.conv3d_2(F.leaky_relu(self.conv3d_1(features), LEAK))
