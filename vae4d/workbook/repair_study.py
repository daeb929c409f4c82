"""What each repair is worth: the flow stage trained with it and without it, and the rows that need no training measured directly.

For rows 1 to 6, 8 and 10 of the defect table (`repairs`) one model is trained as repaired and one with that row as published, from the
same base model, with the same data, steps and seeds; each is then used as it was trained. The flow modules start from random weights of
the seed. All are scored alike, on cropped frames of the test clips: PSNR of the frames between two given ones. A row is worth the
difference, seed by seed. Row 7 compares the best state of the repaired runs with their last, row 9 scores one model's frames both ways,
and row 11 reads the true matrices of moving cameras both ways.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..cameras import Cameras
from ..checkpoint import build_model, load_model, save_checkpoint
from ..clips.datasets import open_dataset, prepare_dataset
from ..errors import ClipError
from ..evaluation.methods import ModelMethod, PairMethod, blend
from ..evaluation.pose_errors import ape, rotation_error
from ..evaluation.published import score_folder
from ..evaluation.scoring import clean, score_method
from ..faithful.model import FLOW_MODULES
from ..faithful.train import TrainConfig, train
from ..geometry import invert
from ..jobs.run import JobOptions, run_job
from ..progress import Line, Say
from ..scenes import WorldOptions, generate, load_textures
from .published import NAMES
from .settings import at_least, check_size

TRAINED = (1, 2, 3, 4, 5, 6, 8, 10)  # rows that change training or the frames that it sees
MODEL_ROWS = "repaired-1-2-3-4-5-6"  # the published model on the repaired data
HEADS = NAMES | {"dropped": "videos dropped", "position": "position error, world units ↓", "rotation": "rotation error, degrees ↓"}
WHAT = {
    1: "perceptual target: the middle frame",
    2: "loss on the interpolated code itself",
    3: "poses in training as in use",
    4: "flow on the target's grid",
    5: "both ends give voxels",
    6: "correction used as trained",
    7: "best state kept",
    8: "no test clip in training",
    9: "honest metrics",
    10: "frames cropped, not squashed",
    11: "camera matrices inverted",
}


@dataclass(frozen=True)
class StudySettings:
    """Options of notebook 06_repairs."""

    run_dir: str = "outputs/quick"
    dataset: str = "samples"
    preset: str = "small"
    input_size: int = 64  # pixels, side of the square frames
    resume: str = ""  # base checkpoint; empty takes the best of the run's base stage
    seeds: int = 3
    max_steps: int = 8  # of each training
    pairs: int = 1
    triplets: int = 1
    lr: float = 1e-4
    perceptual_size: int = 0
    gap: int = 4  # distance between the two given frames when scored, in source frames
    pair_limit: int = 16  # pairs a clip, spread evenly; 0 for all
    device: str = "auto"
    seed: int = 0  # the first one

    def __post_init__(self) -> None:
        at_least(self, seeds=1, max_steps=1, pairs=0, triplets=0, gap=2, pair_limit=0, seed=0)
        check_size(self.input_size)

    @property
    def folder(self) -> Path:
        """Where the study's trainings lie."""
        return Path(self.run_dir) / "repairs"


def prepare(settings: StudySettings, progress: Say = print) -> None:
    """Both forms of the clips: cropped, and squashed as published."""
    for squash in (False, True):
        progress("clips squashed to a square, as published:" if squash else "clips cropped to a square, as repaired:")
        prepare_dataset(settings.dataset, settings.input_size, progress=progress, squash=squash)


def start_of(settings: StudySettings, seed: int) -> Path:
    """The base model with flow modules of random weights, as a checkpoint of the base stage."""
    path = settings.folder / f"start-{seed}.safetensors"
    model = load_model(settings.resume, settings.preset)
    fresh = build_model(settings.preset, seed)
    for name in FLOW_MODULES:
        model.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())
    model.flow_trained = False
    return save_checkpoint(path, model, "base")  # anew: the base model may have been trained further; equal content gives equal bytes


def study(settings: StudySettings, progress: Say = print) -> pd.DataFrame:
    """Train and score every variant with every seed; a second call goes on with what is missing.

    Returns:
        a row a training: semantics, seed, psnr (dB, test clips, its checkpoint), last (the same of its last state), flow (mean size of the
        last reconstruction's flow in units of the cube).
    """
    variants = ["repaired", MODEL_ROWS, *(f"repaired-{row}" for row in TRAINED)]
    runs = list(itertools.product(range(settings.seed, settings.seed + settings.seeds), variants))
    rows = []
    for number, (seed, semantics) in enumerate(runs, 1):
        config = TrainConfig(
            stage="flow", savepath=str(settings.folder / semantics / f"seed-{seed}"), resume=str(start_of(settings, seed)), restart=True,
            dataset=settings.dataset, preset=settings.preset, input_size=settings.input_size, semantics=semantics, seed=seed,
            epochs=settings.max_steps, max_steps=settings.max_steps, lr=settings.lr, perceptual_size=settings.perceptual_size, augment=True,
            clip_grad=1.0, pairs=settings.pairs, triplets=settings.triplets, reconstruction_substeps=1, interpolation_substeps=1, workers=0,
            valid_freq=max(1, settings.max_steps // 2), valid_clips=4, save_freq=settings.max_steps, device=settings.device,
        )  # fmt: skip
        result = train(config, progress=lambda line: None)
        flow = float(pd.read_csv(result.folder / "losses.csv")["reconstruction flow"].iloc[-1])
        row = {"semantics": semantics, "seed": seed, "psnr": score(settings, result.checkpoint, semantics), "flow": flow}
        row["last"] = score(settings, result.folder / "newest.safetensors", semantics) if semantics == "repaired" else row["psnr"]
        rows.append(row)
        said = f"[{number}/{len(runs)}] {semantics}, seed {seed}: {row['psnr']:.2f} dB, flow {flow:.2g}"
        progress(Line(said, number / len(runs)))
    return pd.DataFrame(rows)


def score(settings: StudySettings, checkpoint: Path | None, semantics: str = "repaired") -> float:
    """Mean PSNR in dB of the synthesised frames of all test clips, cuts and repeats left out; of linear blending without a checkpoint.

    Raises:
        ClipError: no test clip is longer than the gap.
    """
    device = "cuda" if settings.device == "auto" and torch.cuda.is_available() else "cpu"
    method = PairMethod(blend) if checkpoint is None else ModelMethod(checkpoint, device, semantics, use_flow=True)
    clips = [clip for clip in open_dataset(settings.dataset, settings.input_size).split("test") if len(clip) > settings.gap]
    if not clips:
        raise ClipError(f"No test clip of {settings.dataset!r} has more than {settings.gap} frames: choose a smaller gap or longer clips.")
    tables = [score_method(clip, settings.gap, "model", method, limit=settings.pair_limit or None) for clip in clips]
    return float(clean(pd.concat(tables))["psnr"].mean())


def worth(found: pd.DataFrame) -> pd.DataFrame:
    """A row a repair, from `study`: mean PSNR as repaired and without the row, and the difference with its least and largest over seeds."""
    by_seed = found.pivot(index="seed", columns="semantics", values="psnr")
    pairs = {f"{row}": (by_seed["repaired"], by_seed[f"repaired-{row}"]) for row in TRAINED}
    repaired = found[found["semantics"] == "repaired"].set_index("seed")
    pairs["7"] = (repaired["psnr"], repaired["last"])
    pairs["1 to 6"] = (by_seed["repaired"], by_seed[MODEL_ROWS])
    rows = []
    for name in sorted(pairs, key=lambda name: (len(name) > 2, name.zfill(2))):
        with_it, without = pairs[name]
        gain = with_it - without
        what = WHAT[int(name)] if name.isdigit() else "all of the model"
        rows.append({"row": name, "repair": what, "repaired": with_it.mean(), "as published": without.mean(),
                     "worth": gain.mean(), "least": gain.min(), "most": gain.max(), "seeds": len(gain)})  # fmt: skip
    return pd.DataFrame(rows).set_index("row")


def chart(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `worth` for `views.interval_chart`."""
    columns = {"worth": "mean", "least": "low", "most": "high", "seeds": "count"}
    return table.rename(columns=columns).assign(category=table.index, method="repaired minus published")


def metric_worth(settings: StudySettings, checkpoint: Path, progress: Say = print) -> pd.DataFrame:
    """Row 9: the same model's frames scored both ways, by the published definitions; and how many videos were dropped."""
    options = JobOptions(
        savepath=str(settings.folder / "job"), resume=str(checkpoint), dataset=settings.dataset, input_size=settings.input_size,
        device=settings.device, use_flow=True,
    )  # fmt: skip
    folder = run_job(options, progress=progress, replace=True)
    ways = {"repaired": "repaired", "as published": "repaired-9"}
    scores = {
        name: score_folder(folder, settings.folder / f"scores-{semantics}", semantics, lpips=False, progress=None)
        for name, semantics in ways.items()
    }
    table = pd.DataFrame({name: score.record["mean"] for name, score in scores.items()}).T[["psnr", "ssim", "vgg_cosine"]]
    return table.assign(dropped=[len(score.record["dropped"]) for score in scores.values()])


def camera_worth(settings: StudySettings, worlds: int = 20, frames: int = 12) -> pd.DataFrame:
    """Row 11: the error of perfect camera paths when world-to-camera matrices are read as poses, and when they are inverted first.

    Returns:
        means over worlds with a moving camera: position error (evo's APE after alignment with scale, rmse) and rotation error in degrees.
    """
    options = WorldOptions(camera_motion=(8.0, 16.0), still_cameras=0.0, still_worlds=1.0)
    world = generate(range(worlds), options, load_textures())
    paths = torch.stack([world.camera(i / (frames - 1), settings.input_size).pose for i in range(frames)], dim=1)
    intrinsics = np.tile([1.0, 1.0, 0.5, 0.5], (frames, 1))
    rows = []
    for path in paths:
        cameras = Cameras(np.arange(frames), intrinsics, invert(path).numpy())
        for name, inverted in (("repaired", True), ("as published", False)):
            read = cameras.poses(inverted)
            rows.append({"reading": name, "position": ape(read, path)["rmse"], "rotation": rotation_error(read, path)["mean"]})
    return pd.DataFrame(rows).groupby("reading", sort=False).mean()
