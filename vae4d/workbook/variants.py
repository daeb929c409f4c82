"""The rows of the ablation of the sharp model: what each takes out of the model or changes in its training.

The model has no switches for this. Parts are taken out from outside: methods of a subclass, hooks that overwrite what a layer says, sizes
of the config, weights of losses, options of the training. Weights keep their names and shapes, so that every row starts from the same ones.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import build_model, load_model
from ..config import SharpConfig
from ..evaluation.methods import ModelMethod
from ..files import sha256
from ..sharp.model import Encoded, Pair, SharpAutoencoder4D
from ..sharp.training import Run, SharpTrainConfig, validation
from ..training.result import TrainResult

BLEND, WHOLE = "blend", "whole"
GEOMETRY = ("camera", "prior", "still", "depth", "own")  # losses that need the truth of a scene beside its motion
LATER = ("camera", "voxels", "residual", "pyramid", "gradients")  # parts, in the order in which rows add them


@dataclass(frozen=True)
class Row:
    """One variant of the model, or of its training."""

    what: str  # one sentence
    against: str  # the row that it is compared with
    lacks: tuple[str, ...] = ()  # parts that are taken out, see `Ablated`
    planes: int = 8
    unheard: tuple[str, ...] = ()  # losses that do not count
    video: bool = False  # real video is mixed in
    longer: int = 1  # times the steps
    redraw: int = 0  # added to the seed of the initial weights and of the batches
    recipe: dict[str, Any] = field(default_factory=dict)  # other options of the training

    @property
    def built_up(self) -> bool:
        """Whether it belongs to the first kind."""
        return (self.against != WHOLE and not self.video) or self.longer > 1


ROWS = {
    "warp": Row("Both frames' pixels are moved to t along one motion, matched on two levels; pictures alone teach it.",
                BLEND, LATER, 1, ("flow", *GEOMETRY)),
    "motion told": Row("The true motion of drawn scenes teaches, too.", "warp", LATER, 1, GEOMETRY),
    "planes": Row("Eight planes; without a camera they can only be eight guesses of a pixel's own motion.",
                  "motion told", LATER, 8, GEOMETRY),
    "camera": Row("The camera between the frames carries the planes; the truth of depth and of what moves by itself teaches.",
                  "planes", LATER[1:]),
    "voxels": Row("A picture decoded from the voxels joins the fusion, for what no frame shows.", "camera", LATER[2:]),
    "residual": Row("A bounded residual at full resolution is added.", "voxels", LATER[3:]),
    "pyramid": Row("Matching starts coarser, with as many levels as the frame takes.", "residual", LATER[4:]),
    WHOLE: Row("The pictures' gradients make the motion exact below a cell: the whole model.", "pyramid"),
    "longer": Row("Four times the steps.", WHOLE, longer=4),
    "other draw": Row("The whole model once more, from other initial weights and batches: what chance alone is worth.", WHOLE, redraw=1),
    "1 plane": Row("One plane at the median depth: the camera's motion without parallax.", WHOLE, planes=1),
    "4 planes": Row("Four planes instead of eight.", WHOLE, planes=4),
    "16 planes": Row("Sixteen planes instead of eight.", WHOLE, planes=16),
    "collages": Row("Collages alone: no ray-cast worlds in the training.", WHOLE, recipe={"world_share": 0.0}),
    "video": Row("A quarter of the samples is real video, which pictures alone teach.", WHOLE, unheard=("parallax",), video=True),
    "auto-mask": Row("The same, and the camera alone should explain what moves; pixels better explained by no motion are left out.",
                     "video", video=True),
}  # fmt: skip


class Ablated(SharpAutoencoder4D):
    """The sharp model without some of its parts; its weights are named and shaped as those of the whole one.

    Args:
        lacks: camera (it stands still), voxels (their picture has no share), residual, pyramid (matching on two levels whatever the size),
            gradients (motion is what matching found).
    """

    def __init__(self, config: SharpConfig, lacks: tuple[str, ...]):
        super().__init__(config)
        self.lacks = lacks
        # Nine numbers a pixel leave the fusion, four pixels each: three logits, the residual's colours, the voxels' colours.
        if "voxels" in lacks:
            self.fusion.out.register_forward_hook(functools.partial(overwritten, channels=slice(8, 12), value=-20.0))
        if "residual" in lacks:
            self.fusion.out.register_forward_hook(functools.partial(overwritten, channels=slice(12, 24), value=0.0))
        if "gradients" in lacks:
            self.subpixel.trust.requires_grad_(False)  # it starts at none

    def encode(self, frame: Tensor, levels: int | None = None) -> Encoded:
        return super().encode(frame, 2 if "pyramid" in self.lacks else levels)

    def one_way(self, first: Encoded, second: Encoded, focal: Tensor) -> Pair:
        return self.told(super().one_way(first, second, focal))

    def pair(self, first: Encoded, second: Encoded, focal: Tensor) -> tuple[Pair, Pair]:
        forth, back = super().pair(first, second, focal)
        return self.told(forth), self.told(back)

    def told(self, pair: Pair) -> Pair:
        """A pair as this row's model may know it."""
        return dataclasses.replace(pair, xi=torch.zeros_like(pair.xi)) if "camera" in self.lacks else pair


def overwritten(layer: torch.nn.Module, inputs: tuple, output: Tensor, channels: slice, value: float) -> Tensor:
    """A layer's output with channels that always have one value."""
    chosen = torch.zeros(output.shape[1], dtype=torch.bool, device=output.device)
    chosen[channels] = True
    return output.masked_fill(chosen.view(-1, 1, 1), value)


def variant(name: str, seed: int = 0, checkpoint: str | Path | None = None) -> SharpAutoencoder4D:
    """The model of a row: with the initial weights of `build_model`, or with those of a checkpoint of this row."""
    row = ROWS[name]
    whole = load_model(checkpoint, "sharp") if checkpoint else build_model("sharp", seed + row.redraw, planes=row.planes)
    model = Ablated(whole.config, row.lacks)
    model.load_state_dict(whole.state_dict())
    return model.eval()


@dataclass(frozen=True)
class VariantConfig(SharpTrainConfig):
    """A training of one row."""

    row: str = WHOLE


class VariantRun(Run):
    """One call of the training of a row."""

    config: VariantConfig

    def __init__(self, config: VariantConfig, *how):
        super().__init__(config, *how)
        self.source = dataclasses.replace(self.source, seed=config.seed + ROWS[config.row].redraw)

    def start(self) -> SharpAutoencoder4D:
        return variant(self.config.row, self.config.seed)

    def go(self) -> TrainResult:
        if not self.log.step:  # before its first step every row is linear blending
            self.log.write("validation", {"step": 0} | validation(self.average, self.held_out(), self.device))
        return super().go()

    def weights(self, progress: float) -> dict[str, float]:
        return super().weights(progress) | dict.fromkeys(ROWS[self.config.row].unheard, 0.0)


class VariantMethod(ModelMethod):
    """A trained row as a method of the benchmark; a checkpoint alone does not say what was taken out."""

    def __init__(self, name: str, checkpoint: str | Path, device: str = "cpu"):
        super().__init__(checkpoint, device)
        self.name = name
        self.settings = {"checkpoint": sha256(self.checkpoint), "row": name, "lacks": ", ".join(ROWS[name].lacks)}

    @property
    def model(self) -> SharpAutoencoder4D:
        if self._model is None:
            with torch.inference_mode(False):
                self._model = variant(self.name, checkpoint=self.checkpoint).to(self.device)
        return self._model
