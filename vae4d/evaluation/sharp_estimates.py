"""How the sharp model is read.

Flow is the motion of the first frame's pixels to the second frame, depth that of the first frame, both of the synthesis at t = 0. The pose
is the exponential of the camera's twist, which maps the second camera's points to the first camera's. Depth and translation share one unit,
in which the median of depth is about 1: whoever knows a true depth knows both. The focal length goes into the model where it is known;
where it is not, the model takes its nominal one.

A new view is the synthesis at t = 0 from a moved camera. The offset's unit is that of the world, so it is brought to the model's by the
ratio of the median depths, that of the world and that of the model, which is the scale by which depth is aligned as well.

A path is accumulated from pair to pair, each in the unit of its own depth, which is taken to mean the same in the picture that the path is
carried to. One nominal lens finds it and carries it, so that a wrong lens turns the picture by as many pixels as it saw.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..geometry import offset_in_cube, theta_to_euler
from ..sharp.camera import twist_matrix
from ..sharp.model import NOMINAL_FOCAL, Encoded
from .estimates import Estimate, ModelEstimator
from .methods import Settings


class SharpEstimator(ModelEstimator):
    """The sharp model; how it is read stands in the module's docstring."""

    constants: ClassVar[Settings] = {"nominal_focal": NOMINAL_FOCAL}

    @torch.inference_mode()
    def __call__(self, first: Tensor, second: Tensor, focal: float | None = None) -> Estimate:
        """See `Estimator`."""
        model, start, end = self.method.model, self._encode(first), self._encode(second)
        made = model.synthesise(start, end, 0.0, focal=widths(focal, start), **self.method.how)
        inside = made.focal * (start.frame.shape[-1] / start.padded.shape[-1])  # as `twist` takes it
        pose = twist_matrix(model.twist(start, end, inside))[0, :3]
        return Estimate(made.motion[1][0].cpu(), made.depth[0].cpu(), pose.cpu())

    @torch.inference_mode()
    def novel_view(self, first: Tensor, second: Tensor, offset: Tensor, focal: float, depth: float) -> Tensor:
        """See `ViewEstimator`."""
        model, start, end = self.method.model, self._encode(first), self._encode(second)
        lens = widths(focal, start)
        unit = depth / float(model.synthesise(start, end, 0.0, focal=lens, **self.method.how).depth.median())
        theta = offset_in_cube(offset[None].float(), focal, unit, first.shape[-1])
        return model.synthesise(start, end, 0.0, theta_to_euler(theta), focal=lens, **self.method.how).image[0].cpu()

    def _encode(self, frame: Tensor) -> Encoded:
        return self.method.model.encode(frame[None].to(self.method.device))


def widths(focal: float | None, encoded: Encoded) -> float | None:
    """A focal length in pixels as the model takes it, in widths of the picture."""
    return None if focal is None else focal / encoded.frame.shape[-1]
