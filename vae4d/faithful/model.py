"""The flow-enabled 4D Video Autoencoder, as one module that reads like its diagram.

    frame 0 --encoder_3d--> code 0 --warp by t * pose(0,1)----------> S --+                      +--> image
       \\                                                                  +--encoder_flow--> F    |
        encoder_traj --> pose                                             |     |               decoder
       /                                                                  |   flow: sample S,E   |
    frame 1 --encoder_3d--> code 1 --warp by (1-t) * pose(1,0)------> E --+   along tF, -(1-t)F  |
                                                                                |                |
                                                                     flow_correction ---> rotate.second_part

That is the `repaired` synthesis. The `published` one (specification sections 3 and 6) estimates the flow on the end
view, applies a fraction of it to the code of frame 0 alone and leaves the correction out; `repairs.Repairs` has a flag for each difference.

Conventions: frames RGB float in [0, 1], (B, 3, H, W), H and W multiples of 16; codes (B, C, D, H/4, W/4); voxel flow
(B, D, H/4, W/4, 3) in normalised-cube units, order (x, y, z); poses as in `geometry`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig
from ..errors import ConfigError
from ..geometry import compose, euler_to_theta, full_precision
from ..interface import Synthesis, require_one_shape
from .modules import Decoder, FlowCorrection, FlowEncoder, FlowWarp, PoseEncoder, Rotate, SceneEncoder
from .repairs import REPAIRED, Repairs

BASE_MODULES = ("encoder_3d", "encoder_traj", "rotate", "decoder")
FLOW_MODULES = ("encoder_flow", "flow", "flow_correction")


@dataclass(frozen=True)
class Encoded:
    """Frames with their voxel codes, so that a frame is encoded once however often it is used."""

    frame: Tensor  # (B, 3, H, W) in [0, 1]
    code: Tensor  # (B, C, D, H/4, W/4)

    def __getitem__(self, index: slice) -> Encoded:
        """A part of the batch; `index` is a slice, so that the batch axis stays."""
        return Encoded(self.frame[index], self.code[index])

    def __len__(self) -> int:
        return self.frame.shape[0]


@dataclass(frozen=True)
class Views:
    """The thetas (B, 3, 4) that carry the codes of two frames to the views where they are needed."""

    near: Tensor  # the start's code to the view at t
    far: Tensor  # the end's code to the view at t
    across: Tensor  # the start's code to the end's view
    own: Tensor | None  # the end's code to its own view: its self-pose; None leaves the code as it is


@dataclass(frozen=True)
class Between:
    """An interpolated code, before correction, and what made it."""

    code: Tensor  # (B, C, D, h, w)
    still: Tensor  # the start's code in the view at t, as it is without flow
    carried: Tensor | None  # (B, D, h, w, 3), the offset that carried the start's code: t * flow
    flow: Tensor | None  # (B, D, h, w, 3), from `ends[0]` to `ends[1]`
    ends: tuple[Tensor, Tensor]  # S and E, both codes on the grid that the flow lives on


class VideoAutoencoder4D(nn.Module):
    """Two frames to any moment between them and any nearby camera.

    Args:
        config: sizes; see `vae4d.config.PRESETS`.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.encoder_3d = SceneEncoder(config)
        self.encoder_traj = PoseEncoder(config)
        self.rotate = Rotate(config)
        self.decoder = Decoder(config)
        self.encoder_flow = FlowEncoder(config)
        self.flow = FlowWarp()
        self.flow_correction = FlowCorrection(config)
        self.flow_trained = False  # set by the flow stage and by loading its checkpoints: decides the default of use_flow

    # The parts, one line each.

    def encode(self, frame: Tensor) -> Encoded:
        """Frames (B, 3, H, W) in [0, 1] with their codes.

        Raises:
            ConfigError: not floats (B, 3, H, W), or H or W is not a multiple of 16.
        """
        if not frame.is_floating_point():
            raise ConfigError(f"Frames are floats in [0, 1], got {frame.dtype}: divide bytes by 255.")
        if frame.ndim != 4 or frame.shape[1] != 3 or frame.shape[2] % 16 or frame.shape[3] % 16 or 0 in frame.shape:
            raise ConfigError(f"Frames are (B, 3, H, W) with H and W multiples of 16, got {tuple(frame.shape)}: crop or resize them.")
        return Encoded(frame, self.encoder_3d(frame))

    def pose(self, reference: Tensor, target: Tensor) -> Tensor:
        """Pose (B, 6) of `target`'s camera seen from `reference`'s. Computed in float32 also under mixed precision, as all geometry."""
        with full_precision(reference):
            return self.encoder_traj(reference, target)

    def warp(self, code: Tensor, pose: Tensor) -> Tensor:
        """Carry a code by a pose (B, 6) or a theta (B, 3, 4)."""
        return self.rotate.warp(code, pose if pose.ndim == 3 else euler_to_theta(pose))

    def decode(self, code: Tensor) -> Tensor:
        """A code (B, C, D, h, w) to its image (B, 3, 4h, 4w); losses use it as it is, outputs clamp it to [0, 1]."""
        image = self.decoder(self.rotate.second_part(code))
        size = (4 * code.shape[-2], 4 * code.shape[-1])
        if image.shape[-2:] != size:
            image = F.interpolate(image, size, mode="bilinear", align_corners=False)
        return image

    def flow_code(self, start: Tensor, end: Tensor, fraction: float | Tensor = 1.0) -> tuple[Tensor, Tensor]:
        """Voxel flow from `start` to `end`, and `start` carried along `fraction` of it. Returns (code, flow)."""
        offset = self.encoder_flow(start, end)
        return self.flow(start, fraction * offset), offset

    # Synthesis.

    def synthesise(
        self,
        first: Tensor | Encoded,
        second: Tensor | Encoded,
        t: float | Tensor = 0.5,
        offset: Tensor | None = None,
        *,
        semantics: str | Repairs = REPAIRED,
        use_flow: bool | None = None,
        use_correction: bool | None = None,
    ) -> Synthesis:
        """The frame at time `t` between two frames, seen from the camera there or from one moved by `offset`.

        Args:
            first, second: (B, 3, H, W) in [0, 1], or what `encode` returned for them.
            t: in [0, 1]; a number, or a tensor (B,).
            offset: (B, 6) or (6,) pose from the moved camera to the one at t (radians, normalised-cube units), composed after t * pose.
            semantics: "repaired", "published" or something between (specification section 6); see `repairs.Repairs`.
            use_flow: None takes flow where the flow stage has been trained.
            use_correction: None takes what the semantics say: on when repaired, off when published.
        Raises:
            ConfigError: t outside [0, 1], unknown semantics, frames, t or offset of a wrong shape.
        """
        repairs = Repairs.parse(semantics)
        first, second = (x if isinstance(x, Encoded) else self.encode(x) for x in (first, second))
        require_one_shape(first.frame, second.frame)
        use_flow = self.flow_trained if use_flow is None else use_flow
        use_correction = use_flow and (repairs.correction if use_correction is None else use_correction)
        t = self.moment(t, first.code)
        pose, views = self.views(first.frame, second.frame, t, offset)
        between = self.between(first.code, second.code, t, views, use_flow, repairs)
        code = self.flow_correction(between.code, between.carried) if use_correction else between.code
        return Synthesis(self.decode(code).clamp(0, 1), between.flow, pose, (*between.ends, code))

    forward = synthesise

    @staticmethod
    def moment(t: float | Tensor, code: Tensor) -> Tensor:
        """`t` as a tensor (B, 1) on the code's device, checked to lie in [0, 1]."""
        t = torch.as_tensor(t, dtype=torch.float32, device=code.device).reshape(-1, 1)
        if not bool(((t >= 0) & (t <= 1)).all()):
            raise ConfigError(f"t is {t.flatten().tolist()}: a moment between the two frames lies in [0, 1].")
        if len(t) not in (1, len(code)):
            raise ConfigError(f"t holds {len(t)} moments for {len(code)} pairs of frames: give one, or one for each pair.")
        return t.expand(code.shape[0], 1)

    def view(self, pose: Tensor, offset: Tensor | None) -> Tensor:
        """theta (B, 3, 4) of a pose with the user's camera offset composed after it."""
        theta = euler_to_theta(pose)
        if offset is None:
            return theta
        offset = torch.as_tensor(offset, dtype=theta.dtype, device=theta.device)
        if offset.shape not in ((6,), (1, 6), (theta.shape[0], 6)):
            raise ConfigError(f"offset has shape {tuple(offset.shape)}: give six numbers, or six for each pair of frames.")
        offset = offset.expand(theta.shape[0], 6)
        return compose(theta, euler_to_theta(offset))

    def views(self, first: Tensor, second: Tensor, t: Tensor, offset: Tensor | None = None) -> tuple[Tensor, Views]:
        """pose(0, 1), (B, 6), of two frames (B, 3, H, W), and the views of synthesis at the moments t, (B, 1)."""
        # One call for all four pairs of frames: the network is small, and each call costs as much as its first layers.
        pose, back, own = self.pose(torch.cat([first, second, second]), torch.cat([second, first, second])).chunk(3)
        near, far = self.view(t * pose, offset), self.view((1 - t) * back, offset)
        return pose, Views(near, far, euler_to_theta(pose), euler_to_theta(own))

    def between(self, first: Tensor, second: Tensor, t: Tensor, views: Views, use_flow: bool, repairs: Repairs) -> Between:
        """The code at t between the codes of two frames, without correction (rows 4 and 5 of the defect table).

        Repaired: S = w(V0, near), E = w(V1, far), F = encoder_flow(S, E), and code = (1 - t) S(p + t F) + t E(p - (1 - t) F), each
        weighted by the share of its sample that lies inside the volume. With row 4 published, F is estimated on the end's grid, from
        w(V0, across) and w(V1, own); with row 5 published, code = S(p + t F).

        Args:
            first, second: (B, C, D, h, w).
            t: (B, 1).
        """
        t = t[:, :, None, None, None]  # (B, 1, 1, 1, 1) broadcasts over codes and flows alike
        channels = first.shape[1]
        if repairs.both_ends:
            # A channel of ones rides along: sampled with zeros outside, it becomes the share of a sample that lies inside.
            inside = torch.ones_like(first[:, :1])
            first, second = torch.cat([first, inside], dim=1), torch.cat([second, inside], dim=1)
        start = still = self.warp(first, views.near)
        end = self.warp(second, views.far) if repairs.both_ends or repairs.target_grid else None
        if repairs.target_grid:
            ends = (start[:, :channels], end[:, :channels])
        else:
            there = second[:, :channels]
            ends = (self.warp(first[:, :channels], views.across), there if views.own is None else self.warp(there, views.own))
        flow, carried = None, None
        if use_flow:
            flow = self.encoder_flow(*ends)
            carried = t * flow
            start = self.flow(start, carried)
            if repairs.both_ends:
                end = self.flow(end, carried - flow)
        if repairs.both_ends:
            # Codes sampled with zero padding already carry their share, so the weighted mean divides by the sum of shares alone.
            total = (1 - t) * start + t * end
            start = total[:, :-1] / total[:, -1:].clamp_min(1e-3)
        return Between(start, still[:, :channels], carried, flow, ends)
