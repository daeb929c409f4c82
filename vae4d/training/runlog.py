"""What a training run leaves in its folder: losses, TensorBoard events, its options, and the newest and best checkpoints.

Of several processes the first one writes; all read the checkpoint that a run goes on from.

    options.json               the options and the data that make this run this run
    losses.csv                 one row a training step: losses, gradient norm, seconds of loader and step
    validation.csv             one row a validation
    tensorboard/               the same for TensorBoard
    newest.safetensors         weights and optimiser, to go on from
    best.safetensors           weights with the highest validation PSNR so far (of a sharp model: since the gradients joined)
    cleaning.csv               the error of every video, where some were to be left out (`clean_limit`)
    bad-batch-<step>.safetensors   only after a loss that was not finite
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..checkpoint import read_checkpoint, save_checkpoint
from ..errors import CheckpointError, ConfigError, TrainingError
from ..files import atomic_path, storage_error, write_json, write_text
from ..parallel import from_first, processes, rank

if TYPE_CHECKING:
    from ..faithful.stages import Stage
    from ..faithful.train_config import TrainConfig
    from ..family import Model
    from ..sharp.training import SharpTrainConfig

NEWEST, BEST = "newest.safetensors", "best.safetensors"
Watch = Callable[[int, str, dict[str, float]], None]  # is told the steps of the whole run, a table ("losses", "validation"), its new row


def result_of(folder: Path) -> Path:
    """The checkpoint that a run made: the best, or the newest where it kept no best one (row 7 of the defect table)."""
    best, newest = folder / BEST, folder / NEWEST
    return newest if newest.is_file() and not best.is_file() else best


class RunLog:
    """The folder of one run, opened to start it or to go on with it.

    Args:
        folder: made when absent.
        identity: JSON values that must be equal for the run to go on; other options would change the losses.
        restart: move a run with another identity to `<folder>.old-N` and start anew, instead of raising.
        total: steps of the whole run. watch: is told of every row, once it is written.
    Raises:
        ConfigError: the folder holds a run with other options.
    """

    def __init__(self, folder: Path, identity: dict, restart: bool = False, total: int = 0, watch: Watch | None = None):
        self.folder, self.total, self.watch = folder, total, watch
        self.identity = json.loads(json.dumps(identity))
        from_first(lambda: self._claim(restart))
        self.newest, self.best = folder / NEWEST, folder / BEST
        self.state: dict = {}  # metadata of the newest checkpoint
        self.tensors: dict[str, Tensor] = {}
        if self.newest.is_file():
            meta, self.tensors = read_checkpoint(self.newest)
            if "step" not in meta["extra"]:
                raise CheckpointError(f"{self.newest} holds no training state: delete it to start anew, or copy the run's own file back.")
            self.state = meta["extra"]
        self._writers: dict[str, csv.DictWriter] = {}
        self._streams: list = []
        for name in ("losses.csv", "validation.csv") if not rank() else ():
            self._trim(folder / name)
        self._events = None

    def _claim(self, restart: bool) -> None:
        """Make the folder this run's own, or find that it is."""
        folder, options, identity = self.folder, self.folder / "options.json", self.identity
        if options.is_file():
            before = json.loads(options.read_text(encoding="utf-8"))
            changed = sorted(name for name in before.keys() | identity.keys() if before.get(name) != identity.get(name))
            if changed and not restart:
                what = ", ".join(difference(name, before.get(name), identity.get(name)) for name in changed)
                raise ConfigError(f"{folder} holds a run with other options ({what}): choose another savepath, or set restart.")
            if changed:
                number = next(n for n in range(1, 10_000) if not folder.with_name(f"{folder.name}.old-{n}").exists())
                shutil.move(folder, folder.with_name(f"{folder.name}.old-{number}"))
        write_json(options, identity)
        # A checkpoint that a killed process was writing; the library safetensors writes into a file .tmp?????? of its own.
        for torn in (*folder.glob(".*.safetensors"), *folder.glob(".tmp??????")):
            torn.unlink()

    @property
    def step(self) -> int:
        """Steps done so far."""
        return self.state.get("step", 0)

    def _trim(self, path: Path) -> None:
        """Drop rows after the newest checkpoint: those steps are run again."""
        if not path.is_file():
            return
        lines = path.read_text(encoding="utf-8").splitlines()
        last = self.step if self.tensors else -1  # without a checkpoint nothing is kept, not even the row of step 0
        kept = lines[:1] + [line for line in lines[1:] if line.split(",")[0].isdigit() and int(line.split(",")[0]) <= last]
        write_text(path, "".join(f"{line}\n" for line in kept))

    def write(self, name: str, row: dict) -> None:
        """Append a row to `<name>.csv` and to TensorBoard; its first key is `step`. The first row fixes the columns."""
        if rank():
            return
        path = self.folder / f"{name}.csv"
        try:
            if name not in self._writers:
                header = not path.is_file() or not path.read_text(encoding="utf-8").strip()
                stream = path.open("a", newline="", encoding="utf-8")
                self._streams.append(stream)
                self._writers[name] = csv.DictWriter(stream, list(row), lineterminator="\n")
                if header:
                    self._writers[name].writeheader()
            self._writers[name].writerow(row)
            for stream in self._streams:  # an interrupted run keeps its rows
                stream.flush()
            self._log_events(name, row)
        except OSError as error:
            raise storage_error(path, error) from error
        if self.watch is not None:
            self.watch(self.total, name, row)

    def _log_events(self, name: str, row: dict) -> None:
        if self._events is None:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step + 1)
        for key, value in row.items():
            if key != "step":
                self._events.add_scalar(f"{name}/{key}", value, row["step"])

    def save(
        self, stage: Stage, adams: dict[str, torch.optim.Optimizer], state: dict, tensors: dict[str, Tensor] | None = None
    ) -> None:
        """Write newest.safetensors: weights, the tensors of optimisers and critic, further `tensors`, and `state` (with `step`).

        The steps of the whole run stand beside, so that whoever finds the folder sees whether it is finished.
        """
        self.state = state | {"total": self.total}
        if rank():
            return
        save_checkpoint(self.newest, stage.model, stage.name, self.state, training_tensors(stage, adams) | (tensors or {}))
        if self._events is not None:
            self._events.flush()

    def save_best(self, model: Model, stage: str, state: dict) -> None:
        """Write best.safetensors: weights and `state`, without the optimiser."""
        if not rank():
            save_checkpoint(self.best, model, stage, state)

    def recipe(self, config: TrainConfig | SharpTrainConfig) -> dict:
        """For a checkpoint's metadata: the options, and all clips seen; no place where anything lay, as it may tell who trained it."""
        options = {name: value for name, value in dataclasses.asdict(config).items() if name not in ("savepath", "data_root")}
        options["dataset"] = Path(config.dataset.partition(":")[0]).name  # "HMDB51+cm:/some/folder" is called HMDB51+cm
        options |= {name: self.identity[name] for name in ("resume", "textures")}  # SHA-256 of what they name
        return {"recipe": options, "data": self.identity["data"]}

    def bad_batch(self, step: int, batch: dict, loss: float) -> TrainingError:
        """Save the batch of a loss that is not finite and return the error to raise."""
        part = f"-of-process-{rank()}" if processes() > 1 else ""  # each has its part of the batch
        path = self.folder / f"bad-batch-{step:06d}{part}.safetensors"
        tensors = {name: value.detach().cpu().contiguous() for name, value in batch.items() if isinstance(value, Tensor)}
        with atomic_path(path) as partial:
            save_file(tensors, partial, metadata={"step": str(step), "loss": str(loss)})
        good = "no checkpoint had been written yet"
        if self.newest.is_file():
            good = f"the last good checkpoint, {self.newest} of step {self.step}, is untouched"
        return TrainingError(
            f"Training stopped at step {step}: the loss or its gradient became {loss}. The batch is saved in {path}; {good}. "
            "Lower lr or clip_grad, use mixed_precision='no' or 'bf16', or look at the batch."
        )

    def close(self) -> None:
        """Close the files."""
        for stream in self._streams:
            stream.close()
        if self._events is not None:
            self._events.close()
        self._writers, self._streams, self._events = {}, [], None


def difference(name: str, before: object, now: object) -> str:
    """What changed in an option, of one with parts only these."""
    if isinstance(before, dict) and isinstance(now, dict):
        parts = sorted(part for part in before.keys() | now.keys() if before.get(part) != now.get(part))
        return ", ".join(difference(f"{name}.{part}", before.get(part), now.get(part)) for part in parts)
    return f"{name} {before!r} -> {now!r}"


def training_tensors(stage: Stage, adams: dict[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """What training needs beside the model: `critic.<key>` of the discriminator, and `optimizer.<name>.<parameter index>.<key>`."""
    flat = {} if stage.critic is None else {f"critic.{key}": value for key, value in stage.critic.state_dict().items()}
    for name, adam in adams.items():
        for index, entry in adam.state_dict()["state"].items():
            flat |= {f"optimizer.{name}.{index}.{key}": value for key, value in entry.items()}
    return {name: value.detach().cpu().contiguous() for name, value in flat.items()}


def restore(stage: Stage, adams: dict[str, torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Put the model's weights and what `training_tensors` took back; no tensors change nothing."""
    if not tensors:
        return
    stage.model.load_state_dict({name: tensors[name] for name in stage.model.state_dict()})
    if stage.critic is not None:
        stage.critic.load_state_dict({name: tensors[f"critic.{name}"] for name in stage.critic.state_dict()})
    for name, adam in adams.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"optimizer.{name}."):
                index, entry = key.removeprefix(f"optimizer.{name}.").split(".", 1)
                state.setdefault(int(index), {})[entry] = value
        adam.load_state_dict(adam.state_dict() | {"state": state})
