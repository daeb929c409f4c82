"""The command `python -m vae4d score`: predicted videos and camera paths, scored as published or repaired."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from ..errors import ConfigError
from ..faithful.repairs import Repairs
from ..parallel import rank
from .pose_scores import holds_paths, score_poses
from .predicted import samples_in, samples_of
from .published import score


def add_options(part: argparse.ArgumentParser) -> None:
    """The options of the command."""
    part.add_argument("folder", nargs="?", help="what `synthesise` wrote, folders of pairs, or NAME_pred.* beside NAME_true.*")
    part.add_argument("--predicted", metavar="FOLDER", help="videos or folders of frames; goes with --true")
    part.add_argument("--true", metavar="FOLDER", help="the true ones, by the same names")
    part.add_argument("--semantics", default="repaired", help="repaired (default) or published: rows 9 and 11 of the defect table")
    part.add_argument("--take-every-other", action="store_true",
                      help="two predictions in a row are of one sample, the better value counts")
    part.add_argument("--given-ends", action="store_true",
                      help="the first and last frame of the videos were given: leave them out (as published, they count)")
    part.add_argument("--no-lpips", dest="lpips", action="store_false", help="leave LPIPS out")
    part.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: a GPU where there is one")
    part.add_argument("--data-root", default="data", help="folder of the networks' weights (default: data)")
    part.add_argument("--output", default="outputs/scores", help="folder of results.csv or poses.csv (default: outputs/scores)")


def run(arguments: argparse.Namespace) -> None:
    """Score what the command line names, and print the averages.

    Raises:
        ConfigError: neither a folder nor two. Others: see `published.score` and `pose_scores.score_poses`.
    """
    semantics, both = Repairs.parse(arguments.semantics), (arguments.predicted, arguments.true)
    if bool(arguments.folder) == any(both) or any(both) != all(both):
        raise ConfigError("What is to be scored is not clear: name one folder, or --predicted and --true, one folder each.")
    say = partial(print, flush=True)
    if arguments.folder and holds_paths(arguments.folder):
        score_poses(arguments.folder, arguments.output, semantics, say)
        written = "poses.csv"
    else:
        honest = semantics.true_metrics
        ends = arguments.given_ends and honest
        samples = samples_of(*both, ends) if all(both) else samples_in(arguments.folder, not honest, ends)
        weights = Path(arguments.data_root) / "weights"
        results = score(samples, arguments.output, semantics, arguments.take_every_other, arguments.lpips, weights, arguments.device, say)
        written = f"results.csv, results.json\n{results}"
    if rank() == 0:
        say(f"Written to {arguments.output}: {written}")
