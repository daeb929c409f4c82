"""Errors of the camera paths that the trajectory job wrote, a row a clip: `poses.csv`.

Columns: `id`; `rmse`, `mean` and `max` of the absolute position error after alignment with scale, in units of the true path (evo APE); the
mean `rotation_error` since the first frame in degrees; the number of `poses`. A value is empty where a path does not move. Row 11 of the
defect table: published, world-to-camera matrices are taken for camera poses.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..cameras import Cameras, read_trajectory
from ..errors import ClipError, MissingInputError
from ..faithful.repairs import Repairs
from ..files import write_text
from ..parallel import rank, wait
from ..progress import Say
from .pose_errors import LEAST, ape, rotation_error

COLUMNS = ["id", "rmse", "mean", "max", "rotation_error", "poses"]
FILE = "trajectory.txt"


def holds_paths(folder: str | Path) -> bool:
    """Whether a folder is that of a trajectory job."""
    return any(not path.parent.name.startswith(".") for path in Path(folder).glob(f"*/{FILE}"))


def score_poses(
    folder: str | Path, output: str | Path, semantics: str | Repairs = "repaired", progress: Say | None = print
) -> pd.DataFrame:
    """Write `poses.csv` into the folder `output`, print means and standard deviations (divisor n), and return the table.

    Clips without true cameras or with fewer than three poses are named and left out.

    Raises:
        MissingInputError: no path, or none with true cameras; evo is not installed. ClipError: a file is damaged.
    """
    say, folder = progress or (lambda line: None), Path(folder)
    inverted = Repairs.parse(semantics).camera_poses
    rows, left_out = [], []
    for path in sorted(path for path in folder.glob(f"*/{FILE}") if not path.parent.name.startswith(".")):
        estimated, saved = read_trajectory(path), path.with_name("cameras.json")
        if not saved.exists() or len(estimated) < LEAST:
            left_out.append(path.parent.name)
            continue
        try:
            cameras = Cameras.from_dict(json.loads(saved.read_text(encoding="utf-8")))
        except (ValueError, ClipError) as error:
            raise ClipError(f"{saved} is damaged ({error}): delete {path.parent} and run the job again.") from error
        true = cameras.poses(inverted=inverted)
        errors = ape(estimated, true) | {"rotation_error": rotation_error(estimated, true)["mean"]}
        rows.append({"id": path.parent.name} | errors | {"poses": len(true)})
    if not rows:
        what = f"{folder} has no camera path with true cameras and {LEAST} poses"
        raise MissingInputError(f"{what}: run the job trajectory on a data set that knows its cameras, such as RealEstate10K.")
    table = pd.DataFrame(rows, columns=COLUMNS)
    if rank() == 0:
        write_text(Path(output) / "poses.csv", table.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
        say(f"{len(table)} camera paths, true poses {'' if inverted else 'not '}inverted from the world-to-camera matrices")
        for name in COLUMNS[1:-1]:
            values = table[name][np.isfinite(table[name])]
            say(f"{name:>14}  {values.mean():.4f} +- {values.std(ddof=0):.4f}" if len(values) else f"{name:>14}  not available")
        if left_out:
            say(f"Left out, without true cameras or with fewer than {LEAST} poses: {', '.join(left_out)}")
    wait()
    return table
