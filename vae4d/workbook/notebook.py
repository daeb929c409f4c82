"""What every notebook starts and ends with: its settings, its place in the repository, figures, links and metrics.

A notebook may be run by the runner or by papermill (working directory: wherever it was called) or in JupyterLab (working directory:
`notebooks/`). `start` enters the repository's root, so that relative paths such as "data" and "outputs/quick" mean the same in all of them.
"""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import sys
import textwrap
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image

from ..checkpoint import locate
from ..errors import ConfigError, MissingInputError
from ..files import atomic_path, write_json
from ..progress import Say
from ..views.figures import save
from .settings import coerced


def repository_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` (default: the working directory) that holds the notebooks; else the package's own repository.

    Raises:
        ConfigError: neither exists.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents, Path(__file__).resolve().parents[2]):
        if (folder / "notebooks" / "profiles").is_dir():
            return folder
    raise ConfigError(f"{start} is not within the repository of the notebooks: start Jupyter or papermill in its root folder.")


def require(path: str | Path, notebook: str) -> Path:
    """`path`, which `notebook` writes, or the path of the shipped checkpoint of that name.

    Raises:
        MissingInputError: it does not exist.
    """
    path = locate(path)
    if not path.exists():
        raise MissingInputError(f"{path} is missing: run notebook {notebook} first (with the same run_dir).")
    return path


def start(name: str, settings: Any, run_dir: str | None = None, interactive: Any = False) -> Workbook:
    """Enter the repository's root, seed, print versions, device and settings, and open the run's folder.

    Args:
        name: the notebook's file name without suffix, such as "01_data".
        settings: a dataclass with seed, and device where the notebook computes.
        run_dir: the run's folder where `settings` does not hold it.
        interactive: somebody looks, and may touch: widgets are shown, and a bar instead of lines.
    """
    before, root = Path.cwd().resolve(), repository_root()
    os.chdir(root)
    folder = Path(run_dir or settings.run_dir)
    on_gpu = getattr(settings, "device", "cpu") == "auto" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.manual_seed(settings.seed)
    packages = ("vae4d", "torch", "torchvision", "accelerate", "numpy", "av", "papermill")
    versions = {"python": platform.python_version()} | {package: version(package) for package in packages}
    hardware = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} threads"
    print(", ".join(f"{package} {number}" for package, number in versions.items()))
    print(f"device {device.type} ({hardware}), seed {settings.seed}, results in {folder}")
    options = dataclasses.asdict(settings)
    print(textwrap.fill(", ".join(f"{key}={value!r}" for key, value in options.items()), 120))
    where = root / "notebooks" if before == root / "notebooks" else folder.absolute()
    return Workbook(name, folder, device, {"versions": versions, "device": device.type, "hardware": hardware, "settings": options}, where,
                    coerced("interactive", interactive, True))  # fmt: skip


def version(package: str) -> str:
    """Installed version, or "absent"; vae4d itself may run from its folder without being installed."""
    if package == "vae4d":
        from .. import __version__

        return __version__
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def peak_memory() -> float:
    """Largest resident memory of this process so far in GB; NaN where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class Workbook:
    """One notebook's run: where its results go, and how long its steps take.

    Args:
        where: folder that the executed notebook lies in; links to videos are relative to it.
        interactive: somebody looks, and may touch.
    """

    def __init__(self, name: str, folder: Path, device: torch.device, facts: dict, where: Path, interactive: bool = False):
        self.name, self.folder, self.device, self.facts, self.where, self.interactive = name, folder, device, facts, where, interactive
        self.progress: Say = print
        if interactive:
            from .live import Bar  # which needs what stands here

            self.progress = Bar()
        self.laps: dict[str, float] = {}
        self.figures: dict[str, str] = {}  # what they show by name of their file, in the order in which they were shown
        self.links: list[Path] = []
        self._began = self._last = time.monotonic()

    def lap(self, step: str) -> None:
        """Print the time since the last lap (or the start) and the largest memory so far; the metrics will hold them."""
        now = time.monotonic()
        self.laps[step], self._last = now - self._last, now
        print(f"{step}: {self.laps[step]:.1f} s; largest memory so far {peak_memory():.2f} GB")

    def show(self, picture: Figure | Image.Image, name: str, text: str = "") -> None:
        """Save a picture as `figures/<number of the notebook>_<name>.png` in the run's folder, and show it below the cell.

        Args:
            text: what it shows, for those who do not see it; by default its name.
        """
        path = self.figure_path(name, text)
        text = text or f"Figure: {name.replace('_', ' ')}"
        if isinstance(picture, Figure):
            save(picture, path)
            display_figure(picture, text)
            return
        with atomic_path(path) as partial:
            picture.save(partial)
        display({"image/png": path.read_bytes()}, raw=True, metadata={"image/png": {"alt": text}})

    def figure_path(self, name: str, text: str = "") -> Path:
        """Where a picture of the notebook goes; `figures` has it from now on, with what it shows."""
        path = self.folder / "figures" / f"{self.name[:2]}_{name}.png"
        self.figures.pop(path.name, None)  # shown anew, it comes last
        self.figures[path.name] = text
        return path

    def link(self, path: Path, text: str) -> None:
        """Show a link to a file of the run, with a sentence about it."""
        self.links.append(path)
        display_markdown(f"[{path.name}](<{Path(os.path.relpath(path.absolute(), self.where)).as_posix()}>): {text}  \n`{path.as_posix()}`")

    def write_metrics(self, **values: Any) -> Path:
        """Write `<run_dir>/<notebook>.metrics.json`: the values, times, memory, figures, versions and settings. NaN becomes null."""
        times = {"seconds": time.monotonic() - self._began, "laps": self.laps, "peak_memory_gb": peak_memory(), "figures": self.figures}
        path = self.folder / f"{self.name}.metrics.json"
        write_json(path, json_ready({"notebook": self.name} | values | times | self.facts))
        print(f"metrics written to {path}")
        return path


def display(value: Any, **how: Any) -> Any:
    """Show a value in the notebook, `how` and what is returned as IPython's `display` has it; without IPython nothing happens."""
    try:
        from IPython.display import display as show
    except ImportError:
        return None
    return show(value, **how)


def display_figure(figure: Figure, text: str) -> None:
    """Show a figure, with a text for those who do not see it."""
    display(figure, metadata={kind: {"alt": text} for kind in ("image/png", "image/jpeg")})


def display_markdown(text: str) -> None:
    """Show Markdown in the notebook; print it without IPython."""
    try:
        from IPython.display import Markdown
    except ImportError:
        print(text)
        return
    display(Markdown(text))


def json_ready(value: Any) -> Any:
    """`value` as JSON has it: NaN becomes None, an infinite number the text "inf" or "-inf"; numpy scalars and tuples become plain."""
    if isinstance(value, dict):
        return {str(key): json_ready(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
