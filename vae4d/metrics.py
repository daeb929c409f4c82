"""How near a synthesised frame is to the true one.

Two families with one signature, (B, 3, H, W) against (B, 3, H, W), one value per frame:
the honest ones of docs/evaluation.md (`psnr`, `ssim`, `lpips`; frames rounded to uint8 first, as they would be stored), and the published
system's (`published_psnr`, `published_ssim`, `vgg_cosine`) for comparison with its tables.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ConfigError
from .perceptual import VGGFeatures


def to_uint8(frames: Tensor) -> np.ndarray:
    """(B, 3, H, W) in [0, 1] to uint8 (B, H, W, 3), rounded."""
    return (frames.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def paired(prediction: Tensor, target: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Both as uint8 arrays, checked to have one shape."""
    if prediction.shape != target.shape or prediction.ndim != 4 or prediction.shape[1] != 3:
        raise ConfigError(f"Frames to compare have one shape (B, 3, H, W), got {tuple(prediction.shape)} and {tuple(target.shape)}.")
    return to_uint8(prediction), to_uint8(target)


def mse(prediction: Tensor, target: Tensor) -> np.ndarray:
    """Mean squared error in squared grey levels of uint8, (B,)."""
    a, b = paired(prediction, target)
    return ((a.astype(np.float64) - b) ** 2).mean(axis=(1, 2, 3))


def psnr_of_mse(error: np.ndarray | float) -> np.ndarray:
    """PSNR in dB of a mean squared error in squared grey levels; infinite for equal frames."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255.0**2 / np.asarray(error, dtype=np.float64))


def psnr(prediction: Tensor, target: Tensor) -> np.ndarray:
    """PSNR per frame in dB, (B,), of uint8 frames."""
    return psnr_of_mse(mse(prediction, target))


def ssim(prediction: Tensor, target: Tensor) -> np.ndarray:
    """SSIM per frame by scikit-image, (B,): Gaussian window, sigma 1.5, data range 255, over RGB (Wang et al. 2004)."""
    from skimage.metrics import structural_similarity

    pairs = zip(*paired(prediction, target), strict=True)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255, "channel_axis": -1}
    return np.array([structural_similarity(a, b, **options) for a, b in pairs])


@torch.inference_mode()
def lpips(model: nn.Module, prediction: Tensor, target: Tensor) -> np.ndarray:
    """LPIPS per frame, (B,), of uint8 frames; `model` is what `perceptual.load_lpips` returns."""
    device = next(model.parameters()).device
    a, b = (torch.from_numpy(x).to(device).permute(0, 3, 1, 2).float() / 255 for x in paired(prediction, target))
    return model(a, b, normalize=True).flatten().double().cpu().numpy()


# The published system's definitions (specification section 5), on float frames in [0, 1].


def published_psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB per frame, (B,), of clamped float frames."""
    error = (prediction.clamp(0, 1) - target.clamp(0, 1)).square().flatten(1).mean(1)
    return -10 * error.log10()


def published_ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """SSIM per frame, (B,): 11 x 11 Gaussian of sigma 1.5, **zero padding**, C1 0.01^2, C2 0.03^2."""
    position = torch.arange(11, dtype=prediction.dtype, device=prediction.device) - 5
    line = torch.exp(-position.square() / (2 * 1.5**2))
    line = line / line.sum()
    window = torch.outer(line, line).expand(3, 1, 11, 11).contiguous()

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(image, window, padding=5, groups=3)

    a, b = prediction.clamp(0, 1), target.clamp(0, 1)
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a.square(), blur(b * b) - mean_b.square()
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (numerator / ((mean_a.square() + mean_b.square() + c1) * (var_a + var_b + c2))).flatten(1).mean(1)


@torch.inference_mode()
def vgg_cosine(vgg: VGGFeatures, prediction: Tensor, target: Tensor) -> Tensor:
    """The published "perceptual similarity", which is **not LPIPS**: unweighted VGG-16 cosine distance, (B,).

    Images at their own size; features after five blocks; per block the spatial mean of 1 - cosine over channels; their sum.
    """
    if len(vgg.blocks) != 5:
        raise ConfigError(f"vgg_cosine compares five VGG-16 blocks, this network has {len(vgg.blocks)}: build VGGFeatures(blocks=5).")
    both = zip(vgg(prediction.clamp(0, 1)), vgg(target.clamp(0, 1)), strict=True)
    return sum((1 - F.cosine_similarity(a, b, dim=1)).flatten(1).mean(1) for a, b in both)
