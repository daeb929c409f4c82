"""Tables and sentences made from measured numbers, so that the notebooks' prose holds none."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..clips.datasets import Dataset
from ..clips.windows import ClipWindows
from ..metrics import mse, psnr_of_mse


def clip_table(data: Dataset) -> pd.DataFrame:
    """One row a clip: split, frames, seconds, exact rate, cuts, repeated frames, source."""
    rows = [
        {
            "clip": clip.name,
            "split": clip.split,
            "frames": len(clip),
            "seconds": round(float(clip.times[-1]), 2),
            "frames a second": f"{clip.fps}{' on average' if clip.variable_rate else ''}",
            "cuts": len(clip.cuts),
            "repeated frames": len(clip.duplicates),
            "source": clip.path.name,
        }
        for clip in data.clips
    ]
    return pd.DataFrame(rows).set_index("clip")


def free_psnr(windows: ClipWindows, blend: bool) -> float:
    """Pooled PSNR in dB, on validation's own frames, of what costs nothing.

    Args:
        blend: mix the first and the last frame by time (inner frames are scored, as in the flow stage); else repeat the first
            frame (all later ones are scored, as in the base stage).
    """
    errors = []
    for item in windows:
        frames, t = item["frames"], item["times"][:, None, None, None]
        guess = (1 - t) * frames[:1] + t * frames[-1:] if blend else frames[:1].expand_as(frames)
        scored = slice(1, -1 if blend else None)
        errors.append(mse(guess[scored], frames[scored]))
    return float(psnr_of_mse(np.concatenate(errors).mean()))


def best_state(validation: pd.DataFrame) -> str:
    """A sentence that says which state of a training was kept, from its validation.csv."""
    kept, first, last = (validation.iloc[place] for place in (int(validation["psnr"].argmax()), 0, -1))
    if len(validation) > 1 and kept["step"] == first["step"]:
        return (f"No: validation was best at step {first['step']:.0f} ({first['psnr']:.2f} dB), before this training, and ends at "
                f"{last['psnr']:.2f} dB. The weights it started from are kept.")  # fmt: skip
    went = f"Validation went from {first['psnr']:.2f} to {last['psnr']:.2f} dB"
    return f"{went}; the state of step {kept['step']:.0f} is kept ({kept['psnr']:.2f} dB)."


def versus(name: str, value: float, other: str, reference: float, what: str) -> str:
    """A sentence that says which of two PSNRs is higher."""
    relation = "as good as" if value == reference else f"{abs(value - reference):.2f} dB {'above' if value > reference else 'below'}"
    return f"{what}: {name} {value:.2f} dB, {other} {reference:.2f} dB; {name} is {relation} {other}."
