"""What a call of a training did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .runlog import result_of


@dataclass(frozen=True)
class TrainResult:
    """What a call of `train` or `train_sharp` did."""

    folder: Path
    steps: int  # done so far, over all calls
    finished: bool  # False: stopped by max_minutes, call again to go on
    best_psnr: float | None  # dB, validation
    loader_ms: float  # median wait for data per step in this call (NaN when no step ran)
    step_ms: float  # median time of the rest of a step

    @property
    def checkpoint(self) -> Path:
        """What the run made, see `runlog.result_of`."""
        return result_of(self.folder)
