"""The weights and the clip of the golden numbers, by the recipe of tests/golden/README.md."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import torch
from skimage import data

from vae4d import VideoAutoencoder4D
from vae4d.config import preset

GOLDEN = Path(__file__).parent / "golden"


def draw(name: str, old: torch.Tensor) -> torch.Tensor:
    """The golden value of the tensor `name` ("module.key"), shaped like `old`."""
    if name.endswith("num_batches_tracked"):
        return old
    x = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(old.shape)).astype(np.float32)
    if name.endswith("running_mean"):
        x = 0.1 * x
    elif name.endswith("running_var"):
        x = 1 + 0.1 * np.abs(x)
    elif x.ndim == 1:
        x = 0.5 + 0.05 * x if name.endswith("weight") else 0.05 * x
    else:
        x = x * math.sqrt(2 / math.prod(x.shape[1:]))
    return torch.from_numpy(np.asarray(x, dtype=np.float32))


def golden_model(name: str = "original", **changes) -> VideoAutoencoder4D:
    """A preset with the golden weights, in eval mode; fresh weights give pictures that are black after the clamp, these do not."""
    model = VideoAutoencoder4D(preset(name, **changes))
    model.load_state_dict({name: draw(name, value) for name, value in model.state_dict().items()})
    return model.eval()


def golden_clip() -> torch.Tensor:
    """(4, 3, 64, 64) in [0, 1]."""
    picture = data.astronaut()
    frames = np.stack([picture[64:320:4, 96 + 12 * i : 352 + 12 * i : 4] for i in range(4)])
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
