"""Which voxels, and which pixels of both frames, made one pixel of a synthesised picture.

    A0[d, i, j] = sum over channels k of | d (R + G + B) / d code0[k, d, i, j] |        likewise A1 for frame 1
    P0[i, j]    = sum over colours c of  | d (R + G + B) / d frame0[c, i, j] |          likewise P1

R, G, B are the pixel's colours before rounding, in [0, 1]. That is the gradient's size (saliency, Simonyan et al. 2013, arXiv 1312.6034):
how much the pixel would change if a voxel or a given pixel changed a little, whichever way. It is zero where a colour is clamped to 0 or 1.

The two families differ in what their voxels do. In the faithful model they are all that the picture is drawn from. In the sharp model they
say where a pixel comes from, so A0 and A1 tell what its motion, its shares and its invented part hang on, and P0 and P1 tell where its
colour was taken from, with what the motion hangs on around it. Motion and camera are found from the frames as well, past the codes: P holds
that, A does not. Beside the gradients stand the shares that the sharp model itself computes with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ConfigError
from .family import Model
from .sharp.model import SharpSynthesis
from .sharp.volume import STRIDE
from .synthesis import on_device


@dataclass(frozen=True, eq=False)
class Attention:
    """What made a pixel; all on the CPU. The last three are None where the model has no planes (the faithful family)."""

    pixel: tuple[int, int]  # row, column
    image: Tensor  # (3, H, W), the picture that the pixel is of
    voxels: tuple[Tensor, Tensor]  # (D, h, w) each, >= 0: A0 and A1 of the module's docstring
    pixels: tuple[Tensor, Tensor]  # (H, W) each, >= 0: P0 and P1
    planes: Tensor | None  # (D,) share of each plane in the pixel, adds up to 1
    weights: Tensor | None  # (3,) shares of frame 0, of frame 1, and of what was invented
    sources: Tensor | None  # (2, 2): where in frame 0 and in frame 1 the pixel was taken from, (row, column), may lie outside


def attention(model: Model, first: Tensor, second: Tensor, pixel: tuple[int, int], t: float = 0.5, **how) -> Attention:
    """What made `pixel` of the picture at `t`: one synthesis with gradients, and one step back.

    Args:
        first, second: (3, H, W) in [0, 1].
        pixel: (row, column), counted from the upper left one, which is (0, 0).
        how: goes to `model.synthesise` (offset, focal, semantics).

    Raises:
        ConfigError: a pixel outside the picture, and what `model.synthesise` refuses.
    """
    height, width = first.shape[-2:]
    row, column = pixel
    if not (0 <= row < height and 0 <= column < width):
        raise ConfigError(f"The pixel {tuple(pixel)} is not in a picture of {height} x {width} px: give (row, column) within it.")
    with torch.inference_mode(False), torch.enable_grad():
        frames = [on_device(model, frame.clone()).requires_grad_() for frame in (first, second)]
        ends = [model.encode(frame) for frame in frames]
        made = model.synthesise(*ends, t, **how)
        codes = [end.code for end in ends]
        # not `backward`, which would write into the gradients of the weights
        found = torch.autograd.grad(made.image[0, :, row, column].sum(), [*codes, *frames], allow_unused=True)
    sizes = [torch.zeros_like(of) if part is None else part.abs() for part, of in zip(found, [*codes, *frames], strict=True)]
    one, two, near, far = (part[0].sum(0).detach().cpu() for part in sizes)
    planes = weights = sources = None
    if isinstance(made, SharpSynthesis):
        planes = made.density[0, :, row // STRIDE, column // STRIDE].detach().cpu()
        weights = made.weights[0, :, row, column].detach().cpu()
        moved = torch.stack([motion[0, :, row, column] for motion in made.motion]).detach().cpu()
        sources = moved.flip(1) + torch.tensor([row, column])
    return Attention((int(row), int(column)), made.image[0].detach().cpu(), (one, two), (near, far), planes, weights, sources)
