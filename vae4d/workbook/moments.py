"""One moment of a clip as the models see it: beside the truth and beside what costs nothing, and what the sharp model believes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..clips.clip import Clip
from ..evaluation.methods import blend
from ..evaluation.optical_flow import FlowWarp, dis_flow
from ..faithful.model import VideoAutoencoder4D
from ..family import Model
from ..metrics import psnr
from ..sharp.model import SharpAutoencoder4D, SharpSynthesis
from ..sharp.volume import plane_depths
from ..synthesis import between, on_device, options_of
from ..training.runlog import result_of
from ..views.frames import frame_strip, image_flow
from ..views.moments import density_planes, full_colour, inverse_depths, moment_strip, share_maps
from .notebook import Workbook, require
from .settings import SynthesisSettings
from .showcase import flow_model, is_sharp

QUARTERS = (0.25, 0.5, 0.75)
SIDES = {"camera to the left": -1, "camera to the right": 1}


def models(book: Workbook, settings: SynthesisSettings) -> tuple[Path, Model, VideoAutoencoder4D]:
    """The checkpoint that the notebook shows, its model, and the faithful model beside it: the same one, where a faithful one is shown.

    Raises:
        MissingInputError: a checkpoint is not there. CheckpointError: it cannot be read, its flow is not trained, or both are sharp.
    """
    own = book.folder / "flow"
    shown = require(settings.resume or result_of(own), "03_train_flow")
    changes = {name: getattr(settings, name) for name in ("padding_mode", "scale_rotate", "scale_translate") if getattr(settings, name)}
    model = flow_model(shown, book.device, **({} if is_sharp(shown) else changes))
    if not isinstance(model, SharpAutoencoder4D):
        return shown, model, model
    beside = require(settings.faithful or result_of(own), "03_train_flow")
    return shown, model, flow_model(beside, book.device, VideoAutoencoder4D, **changes)


def beside(models: Mapping[str, Model], clip: Clip, middles: Sequence[int], semantics: str = "repaired") -> dict[str, Tensor]:
    """Frames `middles` made from their neighbours by models, linear blend and DIS: (N, 3, S, S) by name and mean PSNR.

    Args:
        models: by name. middles: frame numbers with a neighbour on either side.
    """
    ways: dict[str, Callable[[Tensor, Tensor, tuple[float, ...]], Tensor]] = {
        name: (lambda first, second, times, model=model: between(model, first, second, times, **options_of(model, semantics)))
        for name, model in models.items()
    }
    ways |= {"linear blend": blend, "DIS warp": FlowWarp(dis_flow)}
    truth, made = clip.tensor(middles), {}
    for name, way in ways.items():
        frames = torch.cat([way(clip.tensor(i - 1), clip.tensor(i + 1), (0.5,)) for i in middles])
        made[f"{name}\n{psnr(frames, truth).mean():.1f} dB"] = frames
    return made


@torch.inference_mode()
def strip(model: Model, first: Tensor, second: Tensor, turn: float, semantics: str = "repaired") -> Figure:
    """Two frames (3, H, W) and the moments between them; of the sharp model also depth, motion, a moved camera and the
    linear blend, halfway.

    Args:
        turn: radians by which the camera swings to either side, round a point at the scene's median depth.
    """
    ends = [model.encode(on_device(model, frame)) for frame in (first, second)]
    made = [model.synthesise(*ends, t, **options_of(model, semantics)) for t in QUARTERS]
    images = [first.cpu(), *(one.image[0].cpu() for one in made), second.cpu()]
    titles = ["frame 0", *(f"t = {t:g}" for t in QUARTERS), "frame 1"]
    half = made[1]
    if not isinstance(half, SharpSynthesis):
        return frame_strip([images], titles)
    moved = {name: model.synthesise(*ends, 0.5, sideways(side * turn)).image[0].cpu() for name, side in SIDES.items()}
    moved["linear blend, t = 0.5"] = blend(first, second, (0.5,))[0].cpu()
    return moment_strip(images, titles, half.depth[0], whole_motion(half), moved)


def sideways(angle: float) -> Tensor:
    """The camera offset (6,) that swings by `angle` radians to the right (to the left below 0) and goes on looking at the middle."""
    return torch.tensor([-angle, 0.0, 0.0, 0.0, 0.0, 0.0])


def whole_motion(made: SharpSynthesis) -> Tensor:
    """Motion (2, H, W) in pixels from frame 0 to frame 1, of what is at a pixel at the moment that was made."""
    return (made.motion[1] - made.motion[0])[0]


@torch.inference_mode()
def beliefs(model: Model, first: Tensor, second: Tensor) -> Iterator[tuple[str, Figure]]:
    """What the sharp model believes of the moment halfway between two frames (3, H, W), as figures by name; of a faithful one nothing."""
    if not isinstance(model, SharpAutoencoder4D):
        return
    made = model.synthesise(on_device(model, first), on_device(model, second), 0.5)
    motion = whole_motion(made).cpu()
    yield "motion", image_flow(motion, ["motion from frame 0 to frame 1"], full_colour(motion.numpy()))
    yield "depth", inverse_depths(made.depth, ["halfway"])
    yield "shares", shares(made)
    yield "planes", planes(made)


def shares(made: SharpSynthesis) -> Figure:
    """Who made a pixel, and how much of its motion is its own."""
    parts = dict(zip(("from frame 0", "from frame 1", "invented"), made.weights[0].clamp(0, 1), strict=True))
    return share_maps(made.image[0], parts | {"moves by itself": made.own[0].clamp(0, 1)})


def planes(made: SharpSynthesis) -> Figure:
    """Which plane of the volume a pixel lies on."""
    return density_planes(made.density[0], plane_depths(made.density.shape[1]))
