"""The command `python -m vae4d evaluate`: clips and methods from the command line, the benchmark, its tables as text and as a page.

With `--export FOLDER` it scores nothing: it writes the given frames for another program, whose frames `--frames` scores then.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from ..checkpoint import load_model, shipped
from ..clips.clip import Clip
from ..clips.datasets import prepare_dataset
from ..errors import ClipError, ConfigError, MissingInputError
from ..parallel import rank
from ..progress import Say
from .benchmark import SPLIT_RULES, Results, benchmark, wanted
from .frame_folders import FrameFolderMethod, export_given
from .methods import BASELINES, Method, ModelMethod, baselines, load_user_method
from .record import labels_of


def add_options(part: argparse.ArgumentParser) -> None:
    """The options of the command."""
    part.add_argument("--dataset", default="samples", help="samples (default), a video, or a folder of videos or frames")
    part.add_argument("--data-root", default="data", help="folder of samples, videos, cache and weights (default: data)")
    part.add_argument("--sizes", nargs="+", type=int, default=[128, 256], help="sides of the square frames (default: 128 256)")
    part.add_argument("--gaps", nargs="+", type=int, default=[2, 4, 8], help="distance of given frames, source frames (default: 2 4 8)")
    part.add_argument("--methods", nargs="*", default=list(BASELINES), metavar="NAME",
                      help=f"baselines: {', '.join(BASELINES)} (default: all)")
    part.add_argument("--checkpoint", nargs="*", action="extend", metavar="PATH",
                      help="models to score beside them (default: those that come with the package; with no PATH none)")
    part.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the models (default: cpu)")
    part.add_argument("--frames", nargs="+", action="extend", default=[], metavar="FOLDER", help="frames that another program made")
    part.add_argument("--export", metavar="FOLDER", help="score nothing: write the given frames there, for another program")
    part.add_argument("--method", dest="functions", nargs="+", action="extend", default=[], metavar="FILE.py:FUNCTION",
                      help="a function (first, second, times) of your own; scored anew when this file changes")
    part.add_argument("--square-pixels", action="store_true", help="take pixels as square whatever the file says")
    part.add_argument("--splits", choices=SPLIT_RULES, default="auto",
                      help="auto (default): baselines on all clips, and models whose checkpoint records that it saw none of them; "
                           "other models on test clips; or every method on test, or on all")
    part.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    part.add_argument("--limit", type=int, help="pairs a clip, in chains spread evenly, for a quick look (default: all)")
    part.add_argument("--worlds", type=int, default=0, metavar="N",
                      help="score the models on N procedural worlds a bin of motion too, at the first size, with DIS and linear blending; "
                           "18 as in the README (default: 0, none)")
    part.add_argument("--no-lpips", dest="lpips", action="store_false", help="leave LPIPS out")
    part.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    part.add_argument("--output", default="outputs/benchmark", help="folder of the results (default: outputs/benchmark)")


def evaluate(arguments: argparse.Namespace) -> Results | None:
    """Prepare the clips at every size, score, print the tables and write the page; or export the given frames (then None).

    Processes that `accelerate launch` starts share the scoring, and the first one speaks; the others return None.
    """
    say = partial(print, flush=True) if not rank() else lambda line: None  # shows at once in a pipe or a log file as well
    methods = {} if arguments.export else methods_of(arguments)
    clips: list[Clip] = []
    for size in dict.fromkeys(arguments.sizes):
        clips += prepare_dataset(arguments.dataset, size, arguments.data_root, say, (), arguments.square_pixels).clips
    if arguments.export:
        export(clips, arguments.gaps, arguments.export, arguments.splits, say)
        return None
    results = benchmark(
        clips, methods, arguments.gaps, arguments.output, arguments.lpips, arguments.workers, arguments.limit, arguments.splits,
        arguments.seed, weights=Path(arguments.data_root) / "weights", progress=say,
    )  # fmt: skip
    if results is None:  # one of several processes; the first one goes on
        return None
    say("\n" + tables(results))
    say(f"\nWritten to {results.folder}: scores.csv, summary.csv, differences.csv, benchmark.json")
    from ..workbook.pages import write_page  # draws: only where everything has been scored

    try:
        say(f"The same with charts, as one page that opens offline: {write_page(results, clips, methods, arguments.seed)}")
    except MissingInputError as error:
        say(f"No report.html: {error}")
    if arguments.worlds:
        say("\n" + on_worlds(methods, arguments, say))
    return results


def on_worlds(methods: dict[str, Method], arguments: argparse.Namespace, say: Say) -> str:
    """Score the models among the methods on procedural worlds, beside DIS, linear blending and knowing nothing; the table of means."""
    from .estimates import estimators
    from .scene_truth import score_scenes

    models = {name: method for name, method in methods.items() if isinstance(method, ModelMethod)}
    beside = {name: method for name, method in methods.items() if name in ("linear blend", "DIS")}
    folder = Path(arguments.output) / "worlds"
    scores = score_scenes(beside | models, estimators(models.items()), folder, worlds_per_bin=arguments.worlds, size=arguments.sizes[0],
                          seed=arguments.seed, progress=say)
    shown = ("psnr", "flow epe", "depth rank correlation", "rotation error", "novel view psnr")
    table = scores.summary[scores.summary["measure"].isin(shown)]
    means = table.pivot_table(index=["measure", "method"], columns="bin", values="mean", sort=False)
    return f"Procedural worlds by motion, means; intervals and counts in {folder}/scene_summary.csv\n{means.round(2).to_string()}"


def export(clips: Sequence[Clip], gaps: Sequence[int], folder: str | Path, splits: str, say: Say) -> None:
    """Write the given frames of all clips that a method of another program is scored on, see `frame_folders`.

    Raises:
        ClipError: no clip has a pair of frames at any of the gaps. ConfigError: a gap below 2. StorageError: see `export_given`.
    """
    labels, written = labels_of(clips), 0
    for clip in (clip for clip in clips if wanted(clip, False, splits)):
        for gap in dict.fromkeys(gaps):
            try:
                say(f"{export_given(clip, gap, folder, labels[clip.sha256])}: every {gap}th frame, and wanted.csv")
                written += 1
            except ClipError as error:
                say(f"Left out: {error}")
    if not written:
        raise ClipError("Nothing can be exported: choose smaller gaps or longer clips.")
    say("Make the frames that each wanted.csv lists, in the same layout, and score them with the same options and --frames THEIR_FOLDER.")


def methods_of(arguments: argparse.Namespace) -> dict[str, Method]:
    """The methods that the command line names.

    Raises:
        ConfigError: an unknown baseline, two methods of one name, or no GPU. MissingInputError: no such checkpoint or folder.
        CheckpointError: a file that is no checkpoint, or one of a model that this version does not know.
    """
    made: list[tuple[str, Method]] = [*baselines(arguments.methods).items()]
    checkpoints = shipped() if arguments.checkpoint is None else arguments.checkpoint
    if checkpoints and arguments.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, and there is no GPU that torch can use: take --device cpu, or install torch with CUDA.")
    for path in checkpoints:
        load_model(path)  # what is none, or of another version, is told now, and not when the baselines have been scored
    made += zip(model_names(checkpoints), (ModelMethod(path, arguments.device) for path in checkpoints), strict=True)
    made += [(Path(folder).name, FrameFolderMethod(folder)) for folder in arguments.frames]
    made += [(where.rpartition(":")[2], load_user_method(where)) for where in arguments.functions]
    names = [name for name, _ in made]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"Two methods are called {twice[0]!r}: rename the folder or the function of one.")
    return dict(made)


def model_names(checkpoints: Sequence[str]) -> list[str]:
    """Those that come with the package keep their names. Of others one is "model", several the shortest ends of their paths that differ."""
    others = [path for path in checkpoints if path not in shipped()]
    parts = [Path(path).with_suffix("").parts for path in others]
    names = ["model"] * len(others)
    for count in range(1, max(map(len, parts), default=1) + 1):
        if len(set(names)) == len(names):
            break
        names = ["model " + "/".join(part[-count:]) for part in parts]
    named = dict(zip(others, names, strict=True))
    return [named.get(path, path) for path in checkpoints]


def tables(results: Results) -> str:
    """Summary and differences as plain text: one table for each size, gap and kind of rows."""
    texts = [results.record["leaks"]["result"]]
    for (size, gap, rows), part in results.summary.groupby(["size", "gap", "rows"], sort=False):
        table = part.drop(columns=["size", "gap", "rows"]).set_index(["clip", "method"])
        texts.append(f"{size} px, gap {gap}, {rows}\n{_text(table)}")
    for (size, gap, metric), part in results.differences.groupby(["size", "gap", "metric"], sort=False):
        table = part.drop(columns=["size", "gap", "metric"]).set_index(["clip", "method", "reference"])
        texts.append(f"{size} px, gap {gap}: difference in {metric}, 95 % interval\n{_text(table, 'not estimable')}")
    for failure in results.record["failures"]:
        texts.append(f"FAILED {failure['method']} on {failure['clip']} ({failure['size']} px, gap {failure['gap']}): {failure['message']}")
    definitions = "\n".join(f"{name}: {text}" for name, text in results.record["definitions"].items())
    versions = ", ".join(f"{name} {version}" for name, version in results.record["versions"].items())
    settings = "\n".join(f"{name}: {', '.join(f'{key} {value}' for key, value in about['settings'].items())}"
                         for name, about in results.record["methods"].items())
    return "\n\n".join([*texts, f"{definitions}\n{settings}\n{versions}"])


def _text(table: pd.DataFrame, missing: str = "n/a") -> str:
    decimals = {"psnr": 2, "psnr_pooled": 2, "ssim": 4, "lpips": 4, "mean": 4, "low": 4, "high": 4}
    shown = [name for name in table if name in decimals]
    written = {name: [missing if pd.isna(value) else f"{value:.{decimals[name]}f}" for value in table[name]] for name in shown}
    return table.assign(**written).to_string(sparsify=False)
