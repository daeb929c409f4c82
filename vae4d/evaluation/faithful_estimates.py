"""How the faithful model (the 4D Video Autoencoder) is read. Its cube has no camera, so a place for one is a convention of ours: the cube
spans the picture, and its centre lies `CENTRE` = 2 half-depths in front of the camera, as for a lens whose focal length is the picture's
width. A point x of the cube is X = x + (0, 0, 2) for the camera, so a voxel's depth is z + 2, and a theta that maps the second view's
cube to the first's, x0 = R x1 + t, is the pose X0 = R X1 + t + c - R c with c = (0, 0, 2).

Flow of a voxel. On the grid of view 0 the start is S = V0, the end E = V1 warped by pose(1, 0), and F = encoder_flow(S, E) means that
S(p + F(p)) resembles E(p): what was at p + F(p) is now at p, so, F being smooth, what was at p is now near p - F(p). The end's own
camera shows a point x of this grid at theta^-1 x, as warping by theta = pose(0, 1) shows at x1 what was at theta x1. Together a voxel
moves by u(p) = theta^-1 (p - F(p)) - p. A pixel's flow is the mean of u's x and y over the voxels behind it, weighted by how much the
picture hangs on them (the sum over channels of |importance_mask * code|, see `faithful.losses`), times half the picture's size in pixels.

A path is accumulated as the published system does it, in cube units, which are taken to mean the same in the picture that it is carried to.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..faithful.losses import importance_mask
from ..geometry import CENTRE, camera_of_cube, euler_to_theta, invert, offset_in_cube, theta_to_euler
from .estimates import Estimate, ModelEstimator
from .methods import Settings


class FaithfulEstimator(ModelEstimator):
    """The faithful model; how its volume is read stands in the module's docstring."""

    constants: ClassVar[Settings] = {"cube_centre": CENTRE}

    def __call__(self, first: Tensor, second: Tensor, focal: float | None = None) -> Estimate:
        """See `estimates`; the cube has no lens, so `focal` says nothing to it."""
        model, (first, second) = self.method.model, (x[None].to(self.method.device) for x in (first, second))
        with torch.no_grad():  # not inference_mode: the importance mask is a gradient
            start = model.encode(first).code
            end = model.warp(model.encode(second).code, model.pose(second, first))
            theta = euler_to_theta(model.pose(first, second))
            use_flow = model.flow_trained if self.method.how["use_flow"] is None else self.method.how["use_flow"]
            offset = model.encoder_flow(start, end) if use_flow else start.new_zeros(1, *start.shape[2:], 3)
            weight = (importance_mask(model, start) * start).abs().sum(1)
            flow, depth = project_volume(offset, theta, weight)
        return Estimate(flow[0].cpu(), depth[0].cpu(), camera_of_cube(theta)[0].cpu())

    def novel_view(self, first: Tensor, second: Tensor, offset: Tensor, focal: float, depth: float) -> Tensor:
        """See `ViewEstimator`: the model's synthesis at t = 0 with the offset in the cube's units."""
        model, (first, second) = self.method.model, (x[None].to(self.method.device) for x in (first, second))
        theta = offset_in_cube(offset[None].float(), focal, depth, first.shape[-1])
        with torch.inference_mode():
            return model.synthesise(first, second, 0.0, theta_to_euler(theta), **self.method.how).image[0].cpu()


def project_volume(offset: Tensor, theta: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What a voxel flow and a pose look like in the picture; see the module's docstring.

    Args:
        offset: (B, D, h, w, 3) voxel flow F in cube units.
        theta: (B, 3, 4) second view's cube to the first's.
        weight: (B, D, h, w) >= 0; a column without any weight counts evenly.
    Returns:
        flow (B, 2, 4h, 4w) in pixels and depth (B, 4h, 4w) in cube units from the camera.
    """
    batch, slices, rows, columns = weight.shape
    identity = torch.eye(3, 4, dtype=theta.dtype, device=theta.device).expand(batch, 3, 4)
    grid = F.affine_grid(identity, [batch, 1, slices, rows, columns], align_corners=False)
    back = invert(theta)
    moved = torch.einsum("bij,bdhwj->bdhwi", back[:, :, :3], grid - offset) + back[:, None, None, None, :, 3]
    total = weight.sum(dim=1, keepdim=True)
    share = torch.where(total > 0, weight / total.clamp_min(torch.finfo(weight.dtype).tiny), 1 / slices)[..., None]
    mean = (share * torch.cat([(moved - grid)[..., :2], grid[..., 2:] + CENTRE], dim=-1)).sum(dim=1).movedim(-1, 1)
    mean = F.interpolate(mean, scale_factor=4, mode="bilinear", align_corners=False)
    half = torch.tensor([2.0 * columns, 2.0 * rows], dtype=mean.dtype, device=mean.device)  # of 4 w by 4 h pixels
    return mean[:, :2] * half[:, None, None], mean[:, 2]
