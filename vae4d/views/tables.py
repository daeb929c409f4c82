"""What metrics are called, which way is better, and how their values are written.

Conventions:
    The best value of a metric whose direction is known carries a star, which is text: it survives where styles are stripped.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

# column: what to print, whether higher is better, decimals
METRICS = {
    "psnr": ("PSNR (dB)", True, 2),
    "psnr_pooled": ("pooled PSNR (dB)", True, 2),
    "ssim": ("SSIM", True, 4),
    "lpips": ("LPIPS", False, 4),
}


def best_of(values: pd.Series, better: bool) -> float | None:
    """The best value of a metric, None where there is none."""
    known = values.dropna()
    return None if known.empty else float(known.max() if better else known.min())


def written(value: float, decimals: int, best: float | None) -> str:
    """A rounded value, starred where it is the best; n/a where there is none, ∞ for the PSNR of equal frames."""
    return ("n/a" if np.isnan(value) else f"{value:.{decimals}f}".replace("inf", "∞")) + " ★" * (value == best)
