"""Frozen ImageNet networks that compare pictures: VGG-16 features and real LPIPS.

Conventions: images are RGB float in [0, 1], (B, 3, H, W); every distance is one value per sample, (B,).
Weights come from `assets`; nothing here downloads.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import vgg16

from .assets import load_alexnet, load_vgg16
from .errors import AssetError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BLOCK_ENDS = (4, 9, 16, 23, 30)  # after relu1_2, relu2_2, relu3_3, relu4_3, relu5_3


class VGGFeatures(nn.Module):
    """The first `blocks` blocks of VGG-16, frozen, in eval mode.

    Args:
        weights: where `assets` put the weights.
        blocks: 4 ends at relu4_3, 5 at relu5_3.
    Raises:
        AssetError: the weights are missing, altered, or stop before the last block.
    """

    def __init__(self, weights: str | Path = "data/weights", blocks: int = 4):
        super().__init__()
        tensors = load_vgg16(Path(weights))
        with torch.device("meta"):  # no random initialisation of 138 M values that are replaced or cut off
            layers = vgg16(weights=None).features[: BLOCK_ENDS[blocks - 1]]
        wanted = [f"features.{name}" for name in layers.state_dict()]
        missing = [name for name in wanted if name not in tensors]
        if missing:
            remedy = "delete the file and run `make setup` to fetch them whole"
            raise AssetError(f"The VGG-16 weights in {weights} stop before {missing[0]}: {remedy}.")
        layers.load_state_dict({name: tensors[f"features.{name}"] for name in layers.state_dict()}, assign=True)
        starts = (0, *BLOCK_ENDS)
        self.blocks = nn.ModuleList(layers[starts[i] : starts[i + 1]] for i in range(blocks))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()
        self.to(memory_format=torch.channels_last)  # a sixth less time on a CPU, and the layout of a GPU's tensor cores

    def train(self, mode: bool = True) -> VGGFeatures:
        """Stays in eval mode whatever the surrounding model does."""
        return super().train(False)

    def forward(self, image: Tensor, size: int | None = None) -> list[Tensor]:
        """Features after each block; `size` resizes the image to size x size first (bilinear)."""
        features = (image - self.mean) / self.std
        if size is not None and features.shape[-2:] != (size, size):
            features = F.interpolate(features, (size, size), mode="bilinear", align_corners=False)
        out = []
        for block in self.blocks:
            features = block(features)
            out.append(features)
        return out


class PerceptualLoss(nn.Module):
    """Sum over four VGG-16 blocks of the mean absolute difference of features (Johnson et al. 2016, specification section 4).

    Args:
        size: both images are resized to size x size; 224 in the published system, None takes them as they are.
    """

    def __init__(self, weights: str | Path = "data/weights", size: int | None = 224):
        super().__init__()
        self.vgg = VGGFeatures(weights, blocks=4)
        self.size = size

    def features(self, image: Tensor) -> list[Tensor]:
        """Features of a target, computed once without a gradient and used for every prediction of it."""
        with torch.no_grad():
            return self.vgg(image, self.size)

    def forward(self, image: Tensor, target: Tensor | list[Tensor]) -> Tensor:
        """Distance (B,) of `image` to a target image, or to the `features` of one."""
        wanted = target if isinstance(target, list) else self.features(target)
        pairs = zip(self.vgg(image, self.size), wanted, strict=True)
        return sum(F.l1_loss(a, b, reduction="none").flatten(1).mean(1) for a, b in pairs)


def load_lpips(weights: str | Path = "data/weights") -> nn.Module | None:
    """LPIPS with AlexNet (Zhang et al. 2018, v0.1), or None where the `lpips` package is not installed.

    The package brings its linear layers; the ImageNet backbone comes from `assets`. Call it as model(a, b, normalize=True) with
    images in [0, 1].

    Raises:
        AssetError: the AlexNet weights are missing or altered. LPIPS without them would be another measure.
    """
    try:
        import lpips
    except ImportError:
        return None
    tensors = load_alexnet(Path(weights))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # lpips calls torchvision by an old signature
        model = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)  # pnet_rand: no download; the weights are replaced below
    state = model.net.state_dict()
    # The package splits AlexNet's feature layers over slice1..slice5 and keeps their indices: "slice2.3.weight" is "features.3.weight".
    model.net.load_state_dict({name: tensors["features." + name.split(".", 1)[1]] for name in state})
    return model.requires_grad_(False).eval()
