"""The flow-enabled 4D Video Autoencoder, as one module that reads like its diagram.

    frame 0 --encoder_3d--> code 0 --warp by t * pose(0,1)----------> S --+                      +--> image
       \\                                                                  +--encoder_flow--> F    |
        encoder_traj --> pose                                             |     |               decoder
       /                                                                  |   flow: sample S,E   |
    frame 1 --encoder_3d--> code 1 --warp by (1-t) * pose(1,0)------> E --+   along tF, -(1-t)F  |
                                                                                |                |
                                                                     flow_correction ---> rotate.second_part

That is the `repaired` synthesis. The `published` one (specification sections 3 and 6) estimates the flow on the end
view, applies a fraction of it to the code of frame 0 alone and leaves the correction out.

Conventions: frames RGB float in [0, 1], (B, 3, H, W), H and W multiples of 16; codes (B, C, D, H/4, W/4); voxel flow
(B, D, H/4, W/4, 3) in normalised-cube units, order (x, y, z); poses as in `geometry`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import SEMANTICS, ModelConfig, choice
from .errors import ConfigError
from .geometry import compose, euler_to_theta, full_precision
from .modules import Decoder, FlowCorrection, FlowEncoder, FlowWarp, PoseEncoder, Rotate, SceneEncoder

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
class Synthesis:
    """What one synthesis gives: the picture, and what the model believed on the way to it."""

    image: Tensor  # (B, 3, H, W), clamped to [0, 1]
    voxel_flow: Tensor | None  # (B, D, H/4, W/4, 3) from frame 0's code to frame 1's; None without flow
    pose: Tensor  # (B, 6), from encoder_traj(frame 0, frame 1)
    codes: tuple[Tensor, Tensor, Tensor]  # S, E on the grid the flow lives on, and the code that was decoded


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
        semantics: str = "repaired",
        use_flow: bool | None = None,
        use_correction: bool | None = None,
    ) -> Synthesis:
        """The frame at time `t` between two frames, seen from the camera there or from one moved by `offset`.

        Args:
            first, second: (B, 3, H, W) in [0, 1], or what `encode` returned for them.
            t: in [0, 1]; a number, or a tensor (B,).
            offset: (B, 6) or (6,) pose from the moved camera to the one at t (radians, normalised-cube units), composed after t * pose.
            semantics: "repaired" or "published" (specification section 6).
            use_flow: None takes flow where the flow stage has been trained.
            use_correction: None takes what the semantics say: on when repaired, off when published.
        Raises:
            ConfigError: t outside [0, 1], unknown semantics, frames, t or offset of a wrong shape.
        """
        choice("semantics", semantics, SEMANTICS)
        first, second = (x if isinstance(x, Encoded) else self.encode(x) for x in (first, second))
        if first.frame.shape != second.frame.shape:
            raise ConfigError(
                f"The two frames differ in shape, {tuple(first.frame.shape)} and {tuple(second.frame.shape)}: crop or resize them alike."
            )
        use_flow = self.flow_trained if use_flow is None else use_flow
        use_correction = use_flow and (semantics == "repaired" if use_correction is None else use_correction)
        t = self.moment(t, first.code)
        between = self.between_repaired if semantics == "repaired" else self.between_published
        plain, offsets, pose, (start, end) = between(first, second, t, offset, use_flow)
        code = self.flow_correction(plain, offsets[0]) if use_correction else plain
        image = self.decode(code).clamp(0, 1)
        return Synthesis(image, offsets[1], pose, (start, end, code))

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

    def between_repaired(self, first: Encoded, second: Encoded, t: Tensor, offset: Tensor | None, use_flow: bool):
        """Both ends carried to the target's grid, moved along the flow between them, and fused by time (rows 3 to 5).

        S = w(V0, t pose(0, 1)), E = w(V1, (1 - t) pose(1, 0)), F = encoder_flow(S, E), and
        code = (1 - t) S(p + t F) + t E(p - (1 - t) F), each weighted by the share of its sample that lies inside the volume.

        Returns (code, (offset that carried S, F), pose, (S, E)), the code without correction.
        """
        pose, back = self.pose(first.frame, second.frame), self.pose(second.frame, first.frame)
        near, far = self.view(t * pose, offset), self.view((1 - t) * back, offset)
        # A channel of ones rides along: sampled with zeros outside, it becomes the share of a sample that lies inside.
        inside = torch.ones_like(first.code[:, :1])
        start = self.warp(torch.cat([first.code, inside], dim=1), near)
        end = self.warp(torch.cat([second.code, inside], dim=1), far)
        ends = (start[:, :-1], end[:, :-1])
        t = t[:, :, None, None, None]  # (B, 1, 1, 1, 1) broadcasts over codes and flows alike
        flow, carried = None, None
        if use_flow:
            flow = self.encoder_flow(*ends)
            carried = t * flow
            start, end = self.flow(start, carried), self.flow(end, carried - flow)
        # Codes sampled with zero padding already carry their share, so the weighted mean divides by the sum of shares alone.
        total = (1 - t) * start + t * end
        return total[:, :-1] / total[:, -1:].clamp_min(1e-3), (carried, flow), pose, ends

    def between_published(self, first: Encoded, second: Encoded, t: Tensor, offset: Tensor | None, use_flow: bool):
        """The published interpolation: a fraction of the end-view flow on the code of frame 0. Returns as `between_repaired`."""
        pose = self.pose(first.frame, second.frame)
        start = self.warp(first.code, pose)
        end = self.warp(second.code, self.pose(second.frame, second.frame))
        code = self.warp(first.code, self.view(t * pose, offset))
        if not use_flow:
            return code, (None, None), pose, (start, end)
        flow = self.encoder_flow(start, end)
        carried = t[:, :, None, None, None] * flow
        return self.flow(code, carried), (carried, flow), pose, (start, end)
