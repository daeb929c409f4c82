"""Interpolation by classical optical flow: the flow both ways, both frames warped to t, blended by time.

Conventions: flow is float32 (2, H, W) in pixels, x to the right and y down, from the first frame to the second: first(p) is seen at
second(p + flow(p)). Warping is backward: the frame at t takes at p what the given frame shows at p + F. Pixel centres are integers,
as in OpenCV; sampling is bilinear, the border is replicated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import MethodError

Flow = Callable[[Tensor, Tensor], np.ndarray]
FARNEBACK = {"pyr_scale": 0.5, "levels": 4, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.1, "flags": 0}


def opencv() -> Any:
    """OpenCV on one thread: workers run side by side, and the results are the same bytes whatever the machine.

    Raises:
        MethodError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MethodError("Optical flow needs OpenCV, which is not installed: pip install opencv-python-headless.") from error
    cv2.setNumThreads(1)
    return cv2


def opencv_version() -> str:
    """Version of the OpenCV that is installed, for the settings beside a result; "not installed" without one."""
    try:
        return opencv().__version__
    except MethodError:
        return "not installed"


def grey(frame: Tensor) -> np.ndarray:
    """(3, H, W) RGB in [0, 1] to uint8 (H, W) grey."""
    return opencv().cvtColor(pixels(frame), opencv().COLOR_RGB2GRAY)


def pixels(frame: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] to uint8 (H, W, 3), rounded."""
    return np.ascontiguousarray((frame * 255).round().clamp(0, 255).byte().movedim(0, -1).cpu().numpy())


def dis_flow(first: Tensor, second: Tensor) -> np.ndarray:
    """Dense inverse search (Kroeger et al. 2016), PRESET_MEDIUM, on grey uint8 frames: (2, H, W) from first to second."""
    cv2 = opencv()
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(grey(first), grey(second), None)
    return flow.transpose(2, 0, 1)


def farneback_flow(first: Tensor, second: Tensor) -> np.ndarray:
    """Polynomial expansion (Farneback 2003) on grey uint8 frames, options `FARNEBACK`: (2, H, W) from first to second."""
    flow = opencv().calcOpticalFlowFarneback(grey(first), grey(second), None, **FARNEBACK)
    return flow.transpose(2, 0, 1)


class FlowWarp:
    """A flow as a function of two frames and moments.

    With F01 and F10 the flows both ways, the flows from t to the given frames are F_t0 = -(1 - t) t F01 + t^2 F10 and
    F_t1 = (1 - t)^2 F01 - t (1 - t) F10 (Jiang et al. 2018, Super SloMo, equation 4); the frame is (1 - t) first(p + F_t0) +
    t second(p + F_t1). The flows are computed once for all moments.
    """

    def __init__(self, flow: Flow):
        self.flow = flow

    def __call__(self, first: Tensor, second: Tensor, times: tuple[float, ...]) -> Tensor:
        forth, back = self.flow(first, second), self.flow(second, first)
        a, b = (frame.movedim(0, -1).contiguous().cpu().numpy() for frame in (first, second))
        frames = []
        for t in times:
            near = warp(a, -(1 - t) * t * forth + t**2 * back)
            far = warp(b, (1 - t) ** 2 * forth - t * (1 - t) * back)
            frames.append((1 - t) * near + t * far)
        return torch.from_numpy(np.stack(frames)).movedim(-1, 1)


def warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """image (H, W, 3) float32 sampled at p + flow(p), flow (2, H, W) in pixels; bilinear, replicated border."""
    cv2 = opencv()
    height, width = flow.shape[1:]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    at = (x + flow[0].astype(np.float32), y + flow[1].astype(np.float32))
    return cv2.remap(image, *at, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
