"""The sharp 4D Video Autoencoder: voxels decide where, pixels decide what.

    frame 0 --encoder--> features 0 --volume.lift--> code 0 ---+
                            |                                  +--> volume --> depth, residual flow --> motion of every pixel --+
    frame 1 --encoder--> features 1 --volume.lift--> code 1 ---+      ^                                                         |
                            |                                         |                                                         v
                        matching --> motion --> geometry --> twist (camera), inverse depth            frames 0 and 1 --> fusion --> image

Once a pair (`pair`): matching finds the motion at t = 1/2, coarse to fine, and the pictures' gradients make it exact (`subpixel`); the
camera that explains it best is searched, whatever the depth; geometry says what stands still and how far it is, on a grid that is coarser
for larger frames, and with that the camera is searched once more, and solved, round by round; of what both orders of the frames say so, the
camera counts that explains most. Once a moment (`make`): matching refines the motion at t; both codes are carried to the camera at t,
exp(t xi), plane by plane; the volume says for every voxel how much of the pixel it is and how it moves by itself; camera and residual flow
together move the pixels of both frames, which are fused. Geometry learns from the truth of depth and of what stands still alone: no
gradient goes through the camera, nor from the volume into the first depth.

By construction: with all heads at zero, as they start, the image is the linear blend; swapping the frames mirrors t, as the nearer frame
comes first inside; t = 0 and 1 give back the frames; equal frames give no motion and no pose.

Conventions: frames RGB float in [0, 1], (B, 3, H, W), of any size from 16 px; h = H' / 4 and w = W' / 4, where H' x W' is H x W padded at
the right and the lower border to whole cells of the coarsest level. Codes (B, C, D, h, w), D planes of inverse depth, far to near. Motions
and flows in pixels, x right, y down. Inverse depth in units of the inverse of the scene's median depth. Twists as in `camera`; the poses of
`Synthesis` and of offsets as in `geometry`: a point at the median depth moves by as many pixels as in the cube of the faithful model.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import SharpConfig
from ..errors import ConfigError
from ..geometry import camera_of_cube, euler_to_theta, theta_to_euler
from ..interface import Synthesis, require_one_shape
from .camera import best_twist, displacement, evidence, homogeneous, rays, search_twist, solve_twist, twist_matrix
from .features import Encoder, resized, sample
from .fusion import Fused, Fusion
from .geometry import NEAREST, Geometry, Guess, Seen
from .matching import Matching, finer
from .subpixel import Subpixel, grey
from .tiles import MARGIN, Window, assembled, part, require_memory, windows
from .volume import Scene, Volume

NOMINAL_FOCAL = 1.0  # widths of the picture, where nobody knows better
ROUNDS = 2  # of depth and camera in turn
REFINED = 3  # times that the camera is solved in a round, each from the answer before
GRID = 32  # cells a side, at least, of the grid of geometry where a frame has them: as many as frames of 128 px, of which weights learn
COARSEST = 8  # cells a side, at least, of the coarsest level of matching
SMALLEST = 16  # pixels a side of a frame
SAME = 1e-5  # mean difference of two frames at which half of what is found counts: equal frames have no motion


@dataclass(frozen=True, eq=False)
class Encoded:
    """A frame with what is computed from it alone, so that it is encoded once however often it is used."""

    frame: Tensor  # (B, 3, H, W) in [0, 1]
    padded: Tensor  # (B, 3, H', W')
    grey: Tensor  # (B, 1, H', W'), see `subpixel`
    features: tuple[Tensor, ...]  # (B, K, h / 2^l, w / 2^l) of level l
    code: Tensor  # (B, C, D, h, w)

    def __getitem__(self, index: slice) -> Encoded:
        """A part of the batch; `index` is a slice, so that the batch axis stays."""
        return Encoded(self.frame[index], self.padded[index], self.grey[index], tuple(f[index] for f in self.features), self.code[index])

    def __len__(self) -> int:
        return self.frame.shape[0]


@dataclass(frozen=True, eq=False)
class Pair:
    """What two frames say together, whatever the moment, on the grid of t = 1/2."""

    matched: Tensor  # (B, 2, h, w) px, from frame 0 to frame 1, as matching found it
    motion: Tensor  # (B, 2, h, w) px, the same, exact below a cell
    hidden: Tensor  # (B, K, h, w) state of matching
    seen: Seen  # what geometry is told, on its own grid
    rounds: tuple[Guess, ...]  # depth and what stands still on that grid, round by round; the last counts
    xi: Tensor  # (B, 6) twist of the camera


@dataclass(frozen=True, eq=False)
class Made:
    """Everything between two frames and a picture, as the losses need it."""

    pair: Pair
    motions: tuple[Tensor, ...]  # (B, 2, ., .) px: the pair's at t, what matching made of it, and what the gradients made of that
    scene: Scene
    camera: tuple[Tensor, Tensor]  # (B, 2, h, w) px: the camera's share of the motion to frame 0 and to frame 1
    fused: Fused


@dataclass(frozen=True)
class SharpSynthesis(Synthesis):
    """What one synthesis gives.

    Beside the faithful model's: `voxel_flow` (B, D, h, w, 3) is residual, without the camera's share, lies on the planes of inverse depth,
    far to near, and points forwards: what is at p at t was at p - t F(p) at 0 and will be at p + (1 - t) F(p) at 1. `codes` are both
    frames' carried to the target, and what the voxels tell the pixels, (B, K, 1, h, w).
    """

    depth: Tensor  # (B, H, W), the scene's median is about 1
    motion: tuple[Tensor, Tensor]  # (B, 2, H, W) px each, from the target to frame 0 and to frame 1
    weights: Tensor  # (B, 3, H, W) shares of frame 0, of frame 1, and of what the voxels decoded, which no frame shows
    density: Tensor  # (B, D, h, w) share of each plane in a pixel
    own: Tensor  # (B, H, W) in [0, 1]: how much of a pixel's motion is its own, not the camera's
    focal: Tensor  # (B,) in widths of the picture

    @property
    def visible(self) -> Tensor:
        """(B, 2, H, W) in [0, 1]: how much of its share by time each frame keeps; 0 where it is hidden there."""
        shares = self.weights[:, :2] / self.weights[:, :2].sum(1, keepdim=True).clamp_min(1e-6)
        return (2 * shares / shares.amax(1, keepdim=True).clamp_min(1e-6)).clamp(max=1)


class SharpAutoencoder4D(nn.Module):
    """Two frames to any moment between them and any nearby camera.

    Args:
        config: sizes; see `vae4d.config.PRESETS`.
    """

    flow_trained = True  # one training for all parts

    def __init__(self, config: SharpConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.feature_channels)
        self.matching = Matching(config)
        self.subpixel = Subpixel()
        self.geometry = Geometry(config)
        self.volume = Volume(config)
        self.fusion = Fusion(config)
        self._last: tuple[Encoded, Encoded, Tensor, Pair] | None = None  # of inference: the moments of a pair share it

    # Once a frame.

    def encode(self, frame: Tensor, levels: int | None = None) -> Encoded:
        """Frames (B, 3, H, W) in [0, 1] with their features and codes; `levels` of matching, None for as many as the size takes.

        Raises:
            ConfigError: not floats (B, 3, H, W), or a side below 16 px.
        """
        if not frame.is_floating_point():
            raise ConfigError(f"Frames are floats in [0, 1], got {frame.dtype}: divide bytes by 255.")
        if frame.ndim != 4 or frame.shape[1] != 3 or min(frame.shape[2:]) < SMALLEST:
            raise ConfigError(f"Frames are (B, 3, H, W) of at least {SMALLEST} px a side, got {tuple(frame.shape)}: resize them.")
        height, width = frame.shape[-2:]
        levels = levels or level_count(height, width)
        cell = 4 * 2 ** (levels - 1)
        padded = F.pad(frame, (0, -width % cell, 0, -height % cell), mode="replicate")
        features = self.encoder(padded, levels)
        return Encoded(frame, padded, grey(padded), features, self.volume.codes(features[0]))

    # Once a pair.

    def one_way(self, first: Encoded, second: Encoded, focal: Tensor) -> Pair:
        """What two frames say in this order; focal (B,). Training takes one order, `pair` both."""
        one, two = first.features, second.features
        half = torch.full((len(first), 1, 1, 1), 0.5, device=first.frame.device)
        coarsest = one[-1]
        motion = torch.zeros_like(coarsest[:, :2], dtype=torch.float32)
        hidden = torch.zeros_like(coarsest[:, :1], dtype=torch.float32).repeat(1, self.config.hidden_channels, 1, 1)
        for level in reversed(range(len(one))):
            if level < len(one) - 1:
                motion, hidden = finer(motion, hidden)
            motion, hidden = self.matching(one[level], two[level], motion, hidden, half, 4 * 2**level)
        matched = motion
        motion, told = self.subpixel(first.grey, second.grey, matched, half)
        mean = (sample(one[0], motion * (-0.5 / 4)) + sample(two[0], motion * (0.5 / 4))) / 2
        seen = look(mean, torch.cat([hidden, told], dim=1), motion, focal)
        xi = search_twist(seen.flow, seen.ray)
        rounds: list[Guess] = []
        for _ in range(ROUNDS):
            rounds.append(self.geometry(seen, evidence(seen.flow, seen.ray, xi)))
            xi = camera_of(seen, rounds[-1], xi, anew=len(rounds) == 1)  # once, as what moves by itself is known only now
        return Pair(matched, motion, hidden, seen, tuple(rounds), xi)

    def pair(self, first: Encoded, second: Encoded, focal: Tensor) -> tuple[Pair, Pair]:
        """What two frames say together, for the one order and for the other: all of it changes its sign when the frames are swapped, and
        vanishes where they are equal. Motion, depth and what stands still are the mean of both orders. The camera is solved from those,
        from either order's and from one searched anew, and the one counts that leaves least unexplained: where the orders disagree, their
        mean would be nobody's camera."""
        ahead, back = self.one_way(first, second, focal), self.one_way(second, first, focal)
        motion = (ahead.motion - back.motion) / 2
        a, b = ahead.rounds[-1], back.rounds[-1]
        guess = Guess((a.prior + b.prior) / 2, (a.still + b.still) / 2)
        one, two = ahead.seen, back.seen
        seen = Seen((one.features + two.features) / 2, (one.hidden + two.hidden) / 2, (one.flow - two.flow) / 2, one.ray)
        starts = ((ahead.xi, False), (-back.xi, False), ((ahead.xi - back.xi) / 2, True))
        xi = best_twist(seen.flow, seen.ray, guess.still * seen.told, tuple(camera_of(seen, guess, xi, anew) for xi, anew in starts))
        forth = Pair(ahead.matched, motion, ahead.hidden, seen, (guess,), xi)
        return forth, Pair(back.matched, -motion, back.hidden, dataclasses.replace(seen, flow=-seen.flow), (guess,), -xi)

    def twist(self, first: Encoded, second: Encoded, focal: Tensor) -> Tensor:
        """The camera's twist xi (B, 6) of a pair, see `camera`; focal (B,) in widths of the padded picture."""
        return self._pair(first, second, focal)[0].xi

    # Once a moment.

    def make(
        self, first: Encoded, second: Encoded, pair: Pair, t: Tensor, focal: Tensor, offset: Tensor | None = None, use_flow: bool = True,
        window: Window | None = None,
    ) -> Made:  # fmt: skip
        """The picture at t <= 1/2, when `first` is the nearer frame, or a window of it.

        Args:
            pair: of these frames in this order.
            t: (B, 1, 1, 1) in [0, 1/2]. focal: (B,).
            offset: (B, 4, 4), the moved camera's points to those of the camera at t, in units of the median depth.
            use_flow: False leaves the residual flow out: the camera alone moves.
            window: (top, left, height, width) in px, multiples of 8; None for all.
        """
        one, two = first.features, second.features
        height, width = first.padded.shape[-2:]
        window = window or (0, 0, height, width)
        corner = window[:2]
        difference = (first.padded - second.padded).abs().mean(dim=(1, 2, 3), keepdim=True)
        moved = difference / (difference + SAME)
        # What is at p at half time is at p + (t - 1/2) u at t: the motion at t is that at half time, a little way back.
        anchor = part(pair.motion, 4, window) * ((0.5 - t) / 4)
        prior = pair.rounds[-1].on(pair.motion).prior.detach()
        stack = torch.cat([pair.motion, pair.hidden, prior[:, None]], dim=1)
        stack = sample(stack, anchor, corner=(corner[0] // 4, corner[1] // 4))
        before, hidden, prior = stack[:, :2], stack[:, 2:-1], stack[:, -1]
        matched, hidden = self.matching(one[0], two[0], before, hidden, t, 4, corner)
        motion = self.subpixel(first.grey, second.grey, matched, t, corner)[0] * moved
        ray, pixels = part(rays(height // 4, width // 4, focal), 4, window), pixels_of(focal, width)
        xi, moment = pair.xi, t.flatten()[:, None]
        thetas = twist_matrix(xi * moment), twist_matrix(xi * (moment - 1))
        scene = self.volume((first.code, second.code), thetas, motion, prior, ray, t, pixels, moved, corner)
        apart = 4 * t * (1 - t) * moved
        if offset is not None:
            scene = scene.seen_from(offset, ray, pixels / 4)
            thetas = thetas[0] @ offset, thetas[1] @ offset
            away = (offset - torch.eye(4, device=offset.device)).abs().amax(dim=(1, 2)).view(-1, 1, 1, 1)
            apart = torch.maximum(apart, (away * 50).clamp(max=1))
        camera = tuple(displacement(theta, ray, scene.inverse_depth) * pixels for theta in thetas)
        residual = scene.residual if use_flow else torch.zeros_like(scene.residual)
        moves = camera[0] - t * residual, camera[1] + (1 - t) * residual
        fused = self.fusion((first.padded, second.padded), moves, scene.state, scene.own[:, None], t, apart, corner)
        return Made(pair, (before, matched, motion), scene, camera, fused)

    # Synthesis.

    def synthesise(
        self,
        first: Tensor | Encoded,
        second: Tensor | Encoded,
        t: float | Tensor = 0.5,
        offset: Tensor | None = None,
        *,
        focal: float | Tensor | None = None,
        use_flow: bool | None = None,
        tile: int | None = None,
    ) -> SharpSynthesis:
        """The frame at time `t` between two frames, seen from the camera there or from one moved by `offset`.

        Args:
            first, second: (B, 3, H, W) in [0, 1], or what `encode` returned for them. The moments of one pair of encoded frames that follow
                each other share what the pair says.
            t: in [0, 1]; a number, or a tensor (B,).
            offset: (B, 6) or (6,) pose from the moved camera to the one at t (radians, normalised-cube units), see `geometry`.
            focal: focal length in widths of the picture, a number or (B,); None takes 1.
            use_flow: False leaves the residual flow out: what the camera alone explains.
            tile: side in pixels, a multiple of 8, of the tiles in which a large frame is computed, without a seam; None for all at once.
        Raises:
            ConfigError: t outside [0, 1], frames, t, focal, offset or tile of a wrong shape or value; too little memory without (smaller)
                tiles; values that are not finite.
        """
        first, second = (x if isinstance(x, Encoded) else self.encode(x) for x in (first, second))
        require_one_shape(first.frame, second.frame)
        batch, device = len(first), first.frame.device
        t = numbers(t, batch, device, "t", "moments")
        if not bool(((t >= 0) & (t <= 1)).all()):
            raise ConfigError(f"t is {t.tolist()}: a moment between the two frames lies in [0, 1].")
        focal = numbers(NOMINAL_FOCAL if focal is None else focal, batch, device, "focal", "focal lengths")
        if not bool(((focal >= 0.1) & (focal <= 100)).all()):
            raise ConfigError(f"focal is {focal.tolist()}: give the focal length in widths of the picture, between 0.1 and 100.")
        view = None if offset is None else self.offset(offset, focal)
        lens, focal = focal, focal * (first.frame.shape[-1] / first.padded.shape[-1])  # inside, widths are those of the padded picture
        forth, back = self._pair(first, second, focal)
        # The nearer frame first. At half time that which is darker where they first differ, so that the order in which they are given
        # makes no difference there either.
        difference = (first.frame - second.frame).flatten(1)
        place = (difference != 0).to(torch.uint8).argmax(dim=1, keepdim=True)
        swap = (t > 0.5) | ((t == 0.5) & (difference.gather(1, place)[:, 0] > 0))
        near, far, pair = chosen(swap, first, second), chosen(swap, second, first), chosen(swap, forth, back)
        time = torch.where(swap, 1 - t, t).view(-1, 1, 1, 1)
        height, width = first.padded.shape[-2:]
        # A moved camera slides planes by up to so much; a tile needs what slides in.
        margin = MARGIN + (0 if view is None else reach(view, focal, height, width))
        places = [((0, 0, height, width),) * 2] if tile is None else list(windows(height, width, tile, margin))
        if not torch.is_grad_enabled():
            largest = max(window[2] * window[3] for _, window in places)
            require_memory(batch * largest, self.width, device, first.frame.shape[-2:])

        def pieces() -> Iterator[tuple[Window, Window, dict[str, Tensor]]]:
            for inner, window in places:
                made = self.make(near, far, pair, time, focal, view, use_flow is not False, window)
                yield inner, window, fields(made, swap)

        found = next(pieces())[2] if tile is None else assembled(pieces(), height, width)
        if not bool(found["image"].isfinite().all()):
            raise ConfigError(
                "The synthesised picture holds values that are not finite: look for them in the frames, or, under float16, which overflows "
                "beyond 65,504, use bfloat16 or float32."
            )
        return self._typed(found, forth.xi, lens, first.frame.shape[-2:])

    forward = synthesise

    def _pair(self, first: Encoded, second: Encoded, focal: Tensor) -> tuple[Pair, Pair]:
        """`pair`, or what it was for the same frames a moment ago."""
        if torch.is_grad_enabled():
            return self.pair(first, second, focal)
        last = self._last
        if last is None or last[0] is not first or last[1] is not second or not torch.equal(last[2], focal):
            self._last = last = (first, second, focal, self.pair(first, second, focal))
        return last[3]

    def offset(self, offset: Tensor, focal: Tensor) -> Tensor:
        """A six-vector of the cube as the camera's own motion (B, 4, 4), in units of the median depth.

        The cube spans the picture, so its unit is half a picture: 1 / (2 focal) of the median depth, and its centre lies 2 focal in front.
        """
        offset = torch.as_tensor(offset, dtype=torch.float32, device=focal.device)
        if offset.shape not in ((6,), (1, 6), (len(focal), 6)):
            raise ConfigError(f"offset has shape {tuple(offset.shape)}: give six numbers, or six for each pair of frames.")
        if not bool(offset.isfinite().all()):
            raise ConfigError("offset holds values that are not finite: give radians and normalised-cube units.")
        theta = euler_to_theta(offset.expand(len(focal), 6))
        theta = camera_of_cube(theta, 2 * focal)
        return homogeneous(torch.cat([theta[..., :3], theta[..., 3:] / (2 * focal)[:, None, None]], dim=2))

    @property
    def width(self) -> float:
        """How much memory a pixel takes, beside preset `sharp`."""
        config = self.config
        return max(config.planes * config.volume_channels / 128, config.fusion_channels / 32, config.matching_channels / 64)

    @staticmethod
    def _typed(found: dict[str, Tensor], xi: Tensor, focal: Tensor, size: tuple[int, int]) -> SharpSynthesis:
        """`fields` of the whole frame as the user reads them: cropped, and in the units of the interface."""
        height, width = size
        whole = found["image"].shape
        pixels = {name: found[name][..., :height, :width] for name in ("image", "motion0", "motion1", "weights", "depth", "own")}
        flow = found["flow"].movedim(2, -1) * found["flow"].new_tensor([2 / whole[-1], 2 / whole[-2]])
        theta = twist_matrix(xi)[:, :3]
        theta = torch.cat([theta[..., :3], theta[..., 3:] * (2 * focal)[:, None, None]], dim=2)
        return SharpSynthesis(
            image=pixels["image"].clamp(0, 1),
            voxel_flow=F.pad(flow, (0, 1)),  # along the planes, none across them
            pose=theta_to_euler(camera_of_cube(theta, -2 * focal)),
            codes=(found["code0"], found["code1"], found["state"][:, :, None]),
            depth=pixels["depth"][:, 0],
            motion=(pixels["motion0"], pixels["motion1"]),
            weights=pixels["weights"],
            density=found["density"],
            own=pixels["own"][:, 0],
            focal=focal,
        )


def fields(made: Made, swap: Tensor) -> dict[str, Tensor]:
    """What a synthesis says, (..., h, w) at stride 1 or 4, in the user's order of the frames: exchanged where `swap` (B,)."""
    fused, scene = made.fused, made.scene
    turned = swap.view(-1, 1, 1, 1)
    near, far = fused.motion
    return {
        "image": fused.image,
        "motion0": torch.where(turned, far, near),
        "motion1": torch.where(turned, near, far),
        "weights": torch.where(turned, fused.weights[:, [1, 0, 2]], fused.weights),
        "depth": resized(1 / scene.inverse_depth[:, None], 4),
        "own": resized(scene.own[:, None], 4),
        "flow": scene.flow * torch.where(turned, -1.0, 1.0)[..., None],
        "density": scene.share,
        "code0": chosen(swap, *scene.codes),
        "code1": chosen(swap, *scene.codes[::-1]),
        "state": scene.state,
    }


def reach(offset: Tensor, focal: Tensor, height: int, width: int) -> int:
    """Pixels, a multiple of 8, by which a camera's offset (B, 4, 4) moves the nearest plane at most."""
    ray = rays(height // 8, width // 8, focal)
    nearest = torch.full_like(ray[:, 0], NEAREST)
    moved = displacement(offset, ray, nearest).abs().amax() * float((focal * width).max())
    return min(8 * math.ceil(float(moved) / 8), 8 * math.ceil(max(height, width) / 8))


def look(features: Tensor, hidden: Tensor, motion: Tensor, focal: Tensor) -> Seen:
    """What geometry is told, on a grid about as coarse as in training: on one of more cells it would see less of the scene at once."""
    (height, width), factor = motion.shape[-2:], 1
    while min(height, width) >= 2 * factor * GRID and height % (2 * factor) == width % (2 * factor) == 0:
        factor *= 2
    features, hidden, motion = (resized(field, 1 / factor) if factor > 1 else field for field in (features, hidden, motion))
    return Seen(features, hidden, motion / pixels_of(focal, 4 * width), rays(*motion.shape[-2:], focal))


def camera_of(seen: Seen, guess: Guess, xi: Tensor, anew: bool) -> Tensor:
    """The twist (B, 6) solved from a guess of depth and of what stands still: from the answer `xi`, or from one searched `anew`."""
    weight = guess.still * seen.told
    if anew:
        xi = search_twist(seen.flow, seen.ray, (weight, xi))
    for _ in range(REFINED):
        xi = solve_twist(seen.flow, seen.ray, guess.prior.exp(), weight, xi)
    return xi


def level_count(height: int, width: int) -> int:
    """Levels of matching: at stride 4, 8, ..., as long as the coarsest has `COARSEST` cells a side; at least two."""
    levels = 2
    while min(height, width) >= COARSEST * 4 * 2**levels:
        levels += 1
    return levels


def pixels_of(focal: Tensor, width: int) -> Tensor:
    """(B, 1, 1, 1) pixels a unit of ray."""
    return (focal * width).view(-1, 1, 1, 1)


def numbers(value: float | Tensor, batch: int, device: torch.device, name: str, what: str) -> Tensor:
    """One number for each pair of frames, (B,)."""
    value = torch.as_tensor(value, dtype=torch.float32, device=device).reshape(-1)
    if len(value) not in (1, batch):
        raise ConfigError(f"{name} holds {len(value)} {what} for {batch} pairs of frames: give one, or one for each pair.")
    return value.expand(batch)


def chosen(swap: Tensor, a, b):
    """`b` where `swap` (B,), else `a`: tensors, or dataclasses and tuples of them."""
    if not bool(swap.any()):
        return a
    if bool(swap.all()):
        return b
    if isinstance(a, Tensor):
        return torch.where(swap.view(-1, *(1,) * (a.ndim - 1)), b, a)
    if isinstance(a, tuple):
        return tuple(chosen(swap, x, y) for x, y in zip(a, b, strict=True))
    names = [field.name for field in dataclasses.fields(a)]
    return type(a)(**{name: chosen(swap, getattr(a, name), getattr(b, name)) for name in names})
