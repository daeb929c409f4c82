"""`python -m vae4d`: set up, prepare clips, train, run the notebooks, measure."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Sequence

from .errors import NotebookError, Vae4dError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for a failed notebook, 2 for a wrong request, 130 when interrupted."""
    argv = [with_hyphens(word) for word in (sys.argv[1:] if argv is None else argv)]
    arguments = parser(chosen=argv[0] if argv else "").parse_args(argv)
    try:
        arguments.command(arguments)
    except NotebookError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except Vae4dError as error:
        print(error, file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "vae4d":
            raise
        print(f"This command needs the package {error.name}: install it with pip install -e '.[notebooks]'.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted: the same command goes on from what is finished.", file=sys.stderr)
        return 130
    return 0


def with_hyphens(word: str) -> str:
    """--data_root as --data-root, its value as it is: the original's options have underscores, and every command takes both."""
    return re.sub(r"^--\w[\w-]*", lambda option: option[0].replace("_", "-"), word)


def parser(chosen: str = "") -> argparse.ArgumentParser:
    """The command line; the options of `train` and `evaluate` come from modules that load torch, so only where one is chosen."""
    top = argparse.ArgumentParser(prog="python -m vae4d", description="A 4D video autoencoder: new frames and new views of a video.")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    part = commands.add_parser("run", help="run the notebooks in order; those whose inputs did not change are skipped")
    part.add_argument("--profile", default="quick", help="name of a file in notebooks/profiles (default: quick)")
    part.add_argument("--video", metavar="PATH", help="a video file or folder of your own, in the place of the samples")
    part.add_argument("--set", dest="settings", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
                      help="another value for a parameter; NOTEBOOK.NAME=VALUE for one notebook")
    part.add_argument("--only", nargs="+", action="extend", default=[], metavar="NOTEBOOK", help="run these alone, such as 04_interpolate")
    part.add_argument("--force", action="store_true", help="run notebooks that would be skipped")
    part.set_defaults(command=run)

    part = commands.add_parser("prepare", help="decode a data set once, into data/cache")
    part.add_argument("dataset", nargs="?", default="samples",
                      help="samples (default), a video, a folder of videos or frames, or a name as in docs/datasets.md, such as HMDB51")
    part.add_argument("--size", type=int, default=128, help="side of the square frames in pixels (default: 128)")
    part.add_argument("--data-root", default="data", help="folder of samples, videos and cache (default: data)")
    part.add_argument("--square-pixels", action="store_true", help="take pixels as square whatever the file says")
    part.add_argument("--squash", action="store_true", help="squash pictures to a square, as published, instead of cropping them")
    part.add_argument("--video-limit", type=int, default=0, metavar="N", help="clips of each split, spread evenly; 0 for all (default)")
    part.add_argument("--workers", type=int, default=1, metavar="N", help="processes that decode (default: 1)")
    part.set_defaults(command=prepare)

    part = commands.add_parser("check", help="say what a data set should look like, what is there and what is missing")
    part.add_argument("dataset", help="as for prepare, such as HMDB51, RealEstate10K, Matterport3D, Matterport3D-walks, Replica")
    part.add_argument("--data-root", default="data", help="folder in which data sets lie under their names (default: data)")
    part.add_argument("--all", action="store_true", help="open every clip, not some of them")
    part.set_defaults(command=check)

    part = commands.add_parser("assets", help="fetch weights and sample clips, or check those that are there")
    part.add_argument("--data-root", default="data", help="where they go (default: data)")
    part.set_defaults(command=fetch)

    part = commands.add_parser("train", help="train one stage: base, then flow")
    if chosen == "train":
        add_training_options(part)
    part.set_defaults(command=train)

    part = commands.add_parser("train-sharp", help="train the sharp model, or go on with its training")
    if chosen == "train-sharp":
        from .sharp.training import SharpTrainConfig

        add_fields(part, SharpTrainConfig, leave_out=("savepath",))
        part.add_argument("--savepath", required=True, help="folder of the run")
    part.set_defaults(command=train_sharp)

    part = commands.add_parser("ablate", help="train the sharp model without one part after the other and write what each is worth")
    if chosen == "ablate":
        from .workbook.ablation import AblationSettings
        from .workbook.variants import ROWS

        add_fields(part, AblationSettings, leave_out=("rows", "gaps"))
        part.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)} (default: all)")
        part.add_argument("--gaps", nargs="+", type=int, default=[2, 4, 8], help="distances between the two given frames (default: 2 4 8)")
    part.set_defaults(command=ablate)

    part = commands.add_parser("convert", help="write a checkpoint in the other format: ours, or the original system's")
    part.add_argument("source", help="the checkpoint to read, or the name of one that comes with the package")
    part.add_argument("target", help="the file to write: .safetensors is our format, .ckpt, .tar, .pt and .pth the original's")
    part.set_defaults(command=convert)

    part = commands.add_parser("evaluate", help="score frames between given ones: baselines, models, frames of other programs")
    if chosen == "evaluate":
        from .evaluation.command import add_options

        add_options(part)
    part.set_defaults(command=evaluate)

    part = commands.add_parser("synthesise", help="predict the test clips of a data set as the published system did, into files")
    if chosen == "synthesise":
        from .jobs.options import JobOptions

        add_fields(part, JobOptions)
    part.set_defaults(command=synthesise)

    part = commands.add_parser("showcase", help="make the README's pictures again: a strip and an animation of one pair of frames")
    if chosen == "showcase":
        from .workbook.opening import ShowcaseOptions

        add_fields(part, ShowcaseOptions)
    part.set_defaults(command=showcase)

    part = commands.add_parser("score", help="score predicted videos or camera paths as published, and without its defects")
    if chosen == "score":
        from .evaluation.score_command import add_options

        add_options(part)
    part.set_defaults(command=score)

    part = commands.add_parser("gallery", help="write a page for each run, and one that compares them: outputs/index.html")
    part.add_argument("outputs", nargs="?", default="outputs", help="folder of the runs (default: outputs)")
    part.set_defaults(command=gallery)

    part = commands.add_parser("bench", help="print speed and memory figures")
    part.set_defaults(command=bench)
    return top


def add_training_options(part: argparse.ArgumentParser) -> None:
    """One option for each field of TrainConfig; the comment beside a field is its help."""
    from .faithful.train import TrainConfig

    part.add_argument("stage", choices=("base", "flow"))
    add_fields(part, TrainConfig, leave_out=("stage",))


def add_fields(part: argparse.ArgumentParser, kind: type, leave_out: Sequence[str] = ()) -> None:
    """One option for each field of a dataclass of options; the comment beside a field is its help."""
    comments = dict(re.findall(r"^    (\w+): .*?  # (.*)$", inspect.getsource(kind), re.MULTILINE))
    types = {"str": str, "int": int, "float": float, "bool": bool}
    for field in dataclasses.fields(kind):
        if field.name in leave_out:
            continue
        option = "--" + field.name.replace("_", "-")
        text = f"{comments.get(field.name, '')} (default: {field.default!r})".strip().replace("%", "%%")
        wanted = types[field.type.removesuffix(" | None")]
        if wanted is bool:
            part.add_argument(option, action=argparse.BooleanOptionalAction, default=field.default, help=text)
        else:
            part.add_argument(option, type=wanted, default=field.default, help=text)


def run(arguments: argparse.Namespace) -> None:
    from .workbook.runner import run

    run(arguments.profile, video=arguments.video, settings=arguments.settings, only=arguments.only, force=arguments.force,
        log=functools.partial(print, flush=True))  # progress shows at once in a pipe or a log file as well


def prepare(arguments: argparse.Namespace) -> None:
    from .clips.datasets import prepare_dataset

    prepare_dataset(arguments.dataset, arguments.size, arguments.data_root, functools.partial(print, flush=True),
                    square_pixels=arguments.square_pixels, squash=arguments.squash, video_limit=arguments.video_limit,
                    workers=arguments.workers)


def check(arguments: argparse.Namespace) -> None:
    from .clips.check import check_dataset

    check_dataset(arguments.dataset, arguments.data_root, arguments.all)


def fetch(arguments: argparse.Namespace) -> None:
    from .assets import fetch_all

    fetch_all(arguments.data_root)


def train(arguments: argparse.Namespace) -> None:
    from .faithful.train import TrainConfig, train

    train(from_fields(TrainConfig, arguments))


def train_sharp(arguments: argparse.Namespace) -> None:
    from .sharp.training import SharpTrainConfig, train_sharp

    train_sharp(from_fields(SharpTrainConfig, arguments), functools.partial(print, flush=True))


def ablate(arguments: argparse.Namespace) -> None:
    from .workbook.ablation import AblationSettings, study
    from .workbook.settings import typed

    fields = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(AblationSettings)}
    settings = typed(AblationSettings, **fields)
    table = study(settings, functools.partial(print, flush=True))
    print(table.drop(columns="what").round(3).to_string())
    print(f"Written to {settings.folder / 'table.csv'}; notebook 08_ablation shows it.")


def from_fields(kind: type, arguments: argparse.Namespace) -> object:
    """The dataclass whose fields `add_fields` made options of."""
    return kind(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(kind)})


def synthesise(arguments: argparse.Namespace) -> None:
    from .jobs.run import JobOptions, run_job
    from .parallel import rank

    folder = run_job(from_fields(JobOptions, arguments), functools.partial(print, flush=True))
    if rank() == 0:
        print(f"Written to {folder}")


def showcase(arguments: argparse.Namespace) -> None:
    from .workbook.opening import ShowcaseOptions, showcase

    for path in showcase(from_fields(ShowcaseOptions, arguments)):
        print(f"Written to {path}")


def gallery(arguments: argparse.Namespace) -> None:
    from .workbook.gallery import write_gallery

    for path in write_gallery(arguments.outputs):
        print(f"Written to {path}")


def score(arguments: argparse.Namespace) -> None:
    from .evaluation.score_command import run

    run(arguments)


def convert(arguments: argparse.Namespace) -> None:
    from .checkpoint import convert

    print(convert(arguments.source, arguments.target))


def evaluate(arguments: argparse.Namespace) -> None:
    from .evaluation.command import evaluate

    evaluate(arguments)


def bench(arguments: argparse.Namespace) -> None:
    from .bench.run import main

    main()


if __name__ == "__main__":
    sys.exit(main())
