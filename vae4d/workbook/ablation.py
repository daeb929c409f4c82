"""What each part of the sharp model is worth: it is built up part by part, trained anew each time, and scored alike.

Two kinds of rows. The first build up: linear blending, then one thing more in every row until the whole model stands (`whole`), then
longer training; a row is worth its difference from the row before. The others change one thing of the whole model and are compared with it.
All rows start from the same initial weights as far as their sizes are equal, take the same steps, batches, seed and data unless their
sentence says otherwise, and give their averaged weights.

Scores: PSNR in dB of frames between two given ones on cropped clips, cuts and repeats left out, as `evaluation.benchmark` has them; and
`sharp.training.validation` on held-out collages and worlds of other photographs. Means over clips leave out the clips of split train, as
the rows with real video learn from them.

Rows are `variants.ROWS`. Two are trained side by side, a thread each. A finished row is kept as row.json beside its weights, and not
trained again. One seed: what chance is worth is told by the row `other draw`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..clips.datasets import open_dataset, prepare_dataset
from ..config import choice, preset
from ..errors import ConfigError, MissingInputError, TrainingError
from ..evaluation.benchmark import REFERENCES, benchmark
from ..evaluation.methods import baselines
from ..evaluation.processes import spread
from ..files import atomic_path, sha256, write_json
from ..progress import Line, Say
from ..scenes import load_textures
from ..sharp.training import drawn_worlds, train_sharp
from .settings import at_least
from .variants import BLEND, ROWS, VariantConfig, VariantMethod, VariantRun, variant

BUILT_UP, CHANGED = "built up", "changed in the whole model"  # kinds of rows
SCENE = ("psnr", "epe", "rotation", "log_depth")  # of `validation`


@dataclass(frozen=True)
class AblationSettings:
    """Options of notebook 08_ablation and of the command `ablate`."""

    run_dir: str = "outputs"  # the study lies in its folder ablation
    dataset: str = "samples"  # clips to score on, and in their train split to learn from where a row takes real video
    rows: tuple[str, ...] = tuple(ROWS)
    steps: int = 600  # of each training
    bsize: int = 8  # samples a step
    size: int = 128  # side of the pictures in pixels
    worlds: int = 3000  # ray-cast worlds, drawn once
    gaps: tuple[int, ...] = (2, 4, 8)  # distances between the two given frames, in source frames
    pair_limit: int = 16  # pairs a clip and gap, spread evenly; 0 for all
    workers: int = 2  # rows that are trained side by side
    device: str = "auto"  # auto, cpu
    data_root: str = "data"  # folder of clips and of drawn worlds
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.rows:
            choice("row", name, ROWS)
        if not self.rows or not self.gaps:
            raise ConfigError("An ablation needs a row and a gap: name at least one of each.")
        at_least(self, steps=1, bsize=1, pair_limit=0, workers=1, worlds=1, seed=0)

    @property
    def folder(self) -> Path:
        """Where the study lies."""
        return Path(self.run_dir) / "ablation"

    @property
    def chosen_device(self) -> torch.device:
        """Where it is trained."""
        return torch.device("cuda" if self.device == "auto" and torch.cuda.is_available() else "cpu")

    def training(self, name: str) -> VariantConfig:
        """The training of a row."""
        row = ROWS[name]
        steps = self.steps * row.longer
        return VariantConfig(
            savepath=str(self.folder / name.replace(" ", "-")), row=name, steps=steps, bsize=self.bsize, size=self.size, worlds=self.worlds,
            dataset=self.dataset if row.video else "", device=self.device, data_root=self.data_root, seed=self.seed, restart=True,
            valid_freq=steps, save_freq=100, **row.recipe,
        )  # fmt: skip


def study(settings: AblationSettings, progress: Say = print) -> pd.DataFrame:
    """Train the rows that are not finished, score all, and write table.csv into the study's folder; a second call goes on.

    A row whose training fails (a loss that is not finite) is told, and has no scores.

    Returns:
        a row a variant, linear blending first, indexed by name: `against`, `what`, `gap N` (dB above linear blending, mean over the clips
        that no row has learned from), `gap N DIS` (above DIS; NaN without OpenCV), `gap N CLIP` for each of them above linear blending,
        `psnr`, `epe`, `rotation`, `log_depth` of held-out scenes, `parameters`, `steps` and `minutes`.
    Raises:
        ConfigError, MissingInputError, ClipError: see `SharpTrainConfig`, `prepare_dataset` and `benchmark`; also where a row takes real
            video and the data set has no clip to train on.
    """
    tasks = [settings.training(name) for name in settings.rows]
    needed = ("train",) if any(task.dataset for task in tasks) else ()
    prepare_dataset(settings.dataset, settings.size, settings.data_root, progress, needed)
    # The longest first, so that no process works alone at the end.
    waiting = sorted((task for task in tasks if finished(task) is None), key=lambda task: -task.steps)
    progress(f"{len(tasks) - len(waiting)} of {len(tasks)} rows are finished")
    if waiting:  # once, before several processes ask for them
        drawn_worlds(waiting[0], load_textures(split="train").to(settings.chosen_device), settings.chosen_device, progress)
    began, done = time.monotonic(), 0
    steps = sum(task.steps for task in waiting)
    for task, problem in spread(waiting, train_row, settings.workers, lambda task: True, lambda task: "its process died"):
        done += task.steps
        left = (time.monotonic() - began) / done * (steps - done) / 60
        said = f"{task.row}: {problem or 'trained'}, {done} of {steps} steps of all rows are done, about {left:.0f} min left"
        progress(Line(said, done / steps, bool(problem)))
    table = scored(settings, [task for task in tasks if finished(task) is not None], progress)
    with atomic_path(settings.folder / "table.csv") as partial:
        table.to_csv(partial)
    return table


def identity(config: VariantConfig) -> dict[str, Any]:
    """What a finished row must share with the row that is asked for."""
    options = {name: value for name, value in dataclasses.asdict(config).items() if name not in config.free}
    model = preset("sharp").to_dict()
    return json.loads(json.dumps({"options": options, "row": dataclasses.asdict(ROWS[config.row]), "model": model}))


def finished(config: VariantConfig) -> dict[str, Any] | None:
    """What row.json says of a row that is trained already, by these very options; None where it is not."""
    folder = Path(config.savepath)
    if not (folder / "row.json").is_file() or not (folder / "best.safetensors").is_file():
        return None
    found = json.loads((folder / "row.json").read_text(encoding="utf-8"))
    return found if found["identity"] == identity(config) and found["weights"] == sha256(folder / "best.safetensors") else None


def train_row(config: VariantConfig) -> str:
    """Train one row in a process of its own and write its row.json; returns why it failed, or nothing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = Path(config.savepath)
    try:
        # With its end in one piece, as another process may write between the two.
        train_sharp(config, lambda line: print(f"{config.row}: {line}\n", end="", flush=True), kind=VariantRun)
    except TrainingError as error:
        return str(error)
    finally:
        torch.set_num_threads(threads)
    held_out = pd.read_csv(folder / "validation.csv")[list(SCENE)].to_dict("records")
    seconds = pd.read_csv(folder / "losses.csv")[["drawing_seconds", "step_seconds"]].to_numpy().sum()
    parameters = sum(p.numel() for p in variant(config.row).parameters())
    found = {"identity": identity(config), "weights": sha256(folder / "best.safetensors"), "parameters": parameters, "steps": config.steps,
             "minutes": seconds / 60, "held_out": held_out[-1], "before": held_out[0]}  # fmt: skip
    write_json(folder / "row.json", found)
    return ""


def scored(settings: AblationSettings, tasks: list[VariantConfig], progress: Say) -> pd.DataFrame:
    """The table of `study`, of rows that are trained."""
    data = open_dataset(settings.dataset, settings.size, settings.data_root)
    device = str(settings.chosen_device)
    methods = baselines(REFERENCES) | {
        task.row: VariantMethod(task.row, Path(task.savepath) / "best.safetensors", device) for task in tasks
    }
    results = benchmark(
        data.clips, methods, settings.gaps, settings.folder / "benchmark", lpips=False, workers=settings.workers,
        limit=settings.pair_limit or None, splits="all", seed=settings.seed, progress=progress,
    )  # fmt: skip
    learned = {clip["clip"] for clip in results.record["clips"] if clip["split"] == "train"}
    found = results.differences.query("metric == 'psnr' and clip != 'all'")

    def above(reference: str, name: str, gap: int) -> pd.Series:
        """By clip, in dB; empty where the reference cannot be had."""
        rows = found[(found["reference"] == reference) & (found["method"] == name) & (found["gap"] == gap)]
        return rows.set_index("clip")["mean"]

    rows: list[dict[str, Any]] = [{"row": BLEND, "against": "", "what": "Both frames, mixed by time: the model before its first step."}]
    for gap in settings.gaps:
        rows[0] |= {f"gap {gap}": 0.0, f"gap {gap} DIS": -unlearned(above("linear blend", "DIS", gap), learned)}
        rows[0] |= {f"gap {gap} {clip}": 0.0 for clip in found["clip"].unique() if clip not in learned}
    for task in tasks:
        facts, row = finished(task), ROWS[task.row]
        rows[0] |= facts["before"]
        entry = {"row": task.row, "against": row.against, "what": row.what}
        for gap in settings.gaps:
            clips = above("linear blend", task.row, gap)
            entry |= {f"gap {gap}": unlearned(clips, learned), f"gap {gap} DIS": unlearned(above("DIS", task.row, gap), learned)}
            entry |= {f"gap {gap} {clip}": value for clip, value in clips.items() if clip not in learned}
        rows.append(entry | facts["held_out"] | {name: facts[name] for name in ("parameters", "steps", "minutes")})
    return pd.DataFrame(rows).set_index("row")


def unlearned(clips: pd.Series, learned: set[str]) -> float:
    """The mean over the clips that no row has learned from."""
    return float(clips.drop([clip for clip in clips.index if clip in learned]).mean())


def worth(table: pd.DataFrame) -> pd.DataFrame:
    """What every row adds to the row that it is compared with, `against`: dB by gap, and held-out scores.

    Where that one was not trained, it is the nearest one before it, linear blending at last.
    """
    columns = [name for name in table if name.startswith("gap ") or name in SCENE]
    rows = []
    for name in table.index.drop(BLEND):
        against = ROWS[name].against
        while against not in table.index:
            against = ROWS[against].against
        rows.append({"row": name, "against": against} | (table.loc[name, columns] - table.loc[against, columns]).astype(float).to_dict())
    return pd.DataFrame(rows).set_index("row")


def read_table(path: str | Path) -> pd.DataFrame:
    """A table that `study` wrote.

    Raises:
        MissingInputError: there is none.
    """
    if not Path(path).is_file():
        raise MissingInputError(f"There is no table {path}: run `python -m vae4d ablate` first, which takes an hour or two on 2 cores.")
    table = pd.read_csv(path, index_col="row")
    return table.assign(against=table["against"].fillna(""))


def chart(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Panels for `views.interval_chart`: what each row adds by gap, the mean with the least and the most of all clips."""
    gained = worth(table)
    panels: dict[str, list[dict[str, Any]]] = {}
    for name, row in gained.iterrows():
        title = BUILT_UP if ROWS[name].built_up else CHANGED
        for mean in [column for column in gained if re.fullmatch(r"gap \d+", column)]:
            clips = row[[column for column in gained if column.startswith(f"{mean} ") and column != f"{mean} DIS"]].astype(float)
            limits = {"low": clips.min(), "high": clips.max(), "count": len(clips)}
            panels.setdefault(title, []).append({"category": name, "method": mean, "mean": row[mean], **limits})
    return {title: pd.DataFrame(rows) for title, rows in panels.items()}
