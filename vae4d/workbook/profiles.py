"""Parameters of the notebooks: profiles, overrides from the command line, and their check against each notebook.

A profile is `notebooks/profiles/<name>.toml`:

    [all]                   # for every notebook that has the parameter
    seed = 0
    [02_train_autoencoder]  # for one notebook
    epochs = 2
    [runner]                # optional
    cell_timeout = 3600     # seconds that one cell may take
    expected_seconds = { "02_train_autoencoder" = 240 }  # for the first estimate; later ones use measured times

A parameter must exist in the notebook's cell tagged `parameters`, and a value must have its default's type (an int may stand for a float;
a default of None takes anything): papermill itself would only warn, and go on with the default.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MissingInputError


@dataclass(frozen=True)
class Profile:
    """Values by notebook ("all" for every notebook that has them), and how long things take."""

    name: str
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    cell_timeout: float = 3600.0  # seconds
    expected_seconds: dict[str, float] = field(default_factory=dict)  # by notebook


@dataclass(frozen=True)
class Step:
    """One notebook to run, with every value that differs from or repeats its defaults."""

    notebook: Path
    parameters: dict[str, Any]

    @property
    def name(self) -> str:
        return self.notebook.stem


@dataclass(frozen=True)
class Setting:
    """`[notebook.]name=value` from the command line; the value stays text until the default's type is known."""

    notebook: str | None
    name: str
    text: str

    @classmethod
    def parse(cls, argument: str) -> Setting:
        left, equals, text = argument.partition("=")
        notebook, _, name = left.strip().rpartition(".")
        if not equals or not name.isidentifier():
            raise ConfigError(f"--set {argument}: write it as name=value or notebook.name=value.")
        return cls(notebook or None, name, text.strip())


def find_notebooks(folder: Path) -> list[Path]:
    """`NN_name.ipynb` in order.

    Raises:
        MissingInputError: there is none.
    """
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise MissingInputError(f"There are no notebooks in {folder.absolute()}: run this in the folder of the repository.")
    return found


def load_profile(name: str, folder: Path) -> Profile:
    """`<folder>/<name>.toml`.

    Raises:
        ConfigError: no such profile, no TOML, or an unknown entry.
    """
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in folder.glob("*.toml"))) or "none"
        raise ConfigError(f"There is no profile {name!r} in {folder}: choose one of these: {known}.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The profile {path} is not TOML ({error}): correct it.") from error
    runner = content.pop("runner", {})
    stray = [key for key, table in content.items() if not isinstance(table, dict)]
    stray += sorted(runner.keys() - {"cell_timeout", "expected_seconds"})
    if stray:
        raise ConfigError(f"The profile {path} has a stray {stray[0]!r}: put parameters under [all] or under a notebook's name.")
    return Profile(name, content, **runner)


def plan(profile: Profile, folder: Path, run_dir: str, settings: Iterable[str] = (), video: str | Path | None = None) -> list[Step]:
    """Every notebook in `folder` with its parameters: the profile's, then `video`, then `settings`, each checked.

    Args:
        run_dir: where the run writes, for the parameter `run_dir` that every notebook has.
        settings: "name=value" or "notebook.name=value".
        video: a video file or folder for the parameter `dataset`.
    Raises:
        ConfigError: an unknown notebook or parameter, or a value of another type than its default.
        MissingInputError: no notebooks, or no such video.
    """
    notebooks = {path.stem: path for path in find_notebooks(folder)}
    defaults = {name: defaults_of(path) for name, path in notebooks.items()}
    chosen: dict[str, dict[str, Any]] = {name: {} for name in notebooks}

    def assign(notebook: str | None, name: str, value: Any, is_text: bool = False) -> None:
        if notebook is not None and notebook not in notebooks:
            raise ConfigError(f"There is no notebook {notebook!r}{alternatives(notebook, notebooks)}")
        targets = [notebook] if notebook else [stem for stem in notebooks if name in defaults[stem]]
        if not targets or name not in defaults[targets[0]]:
            known = defaults[notebook] if notebook else {key for names in defaults.values() for key in names}
            raise ConfigError(f"{notebook or 'No notebook'} has {'no' if notebook else 'a'} parameter {name!r}{alternatives(name, known)}")
        for stem in targets:
            default = defaults[stem][name]
            if name == "dataset" and isinstance(value, str):
                value = os.path.expanduser(value)  # a quoted ~ reaches us as it is
            chosen[stem][name] = fitting(interpret(value, default) if is_text else value, default, f"{stem}.{name}")

    for table, values in profile.values.items():
        for name, value in values.items():
            assign(None if table == "all" else table, name, value)
    if video is not None:
        if not Path(os.path.expanduser(video)).exists():
            raise MissingInputError(f"There is no video {video}: check the path.")
        assign(None, "dataset", str(video))
    for setting in map(Setting.parse, settings):
        if setting.name == "run_dir":
            raise ConfigError(f"run_dir is {run_dir}, after the profile: copy the profile under another name for another folder.")
        assign(setting.notebook, setting.name, setting.text, is_text=True)
    for stem in notebooks:
        assign(stem, "run_dir", run_dir)
    return [Step(path, chosen[name]) for name, path in notebooks.items()]


def defaults_of(notebook: Path) -> dict[str, Any]:
    """Names and literal defaults of a notebook's parameters.

    Raises:
        ConfigError: no notebook, or a default that is no literal.
    """
    import papermill

    try:
        found = papermill.inspect_notebook(str(notebook).replace("{", "{{").replace("}", "}}"))
    except ValueError as error:  # nbformat: no JSON, or no notebook
        raise ConfigError(f"{notebook} is not a readable notebook ({error}): fetch it again.") from error
    defaults = {}
    for name, parameter in found.items():
        try:
            defaults[name] = ast.literal_eval(parameter["default"])
        except (ValueError, SyntaxError) as error:
            raise ConfigError(f"The parameter {name} of {notebook} is {parameter['default']}: write a literal.") from error
    return defaults


def interpret(text: str, default: Any) -> Any:
    """A value typed on the command line: TOML, else JSON, else the text itself; for a string parameter only quotes are taken off."""
    try:
        value = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        value = {}
    if value.keys() == {"value"} and isinstance(value["value"], str):
        return value["value"]
    if isinstance(default, str):
        return text
    if value.keys() == {"value"} and isinstance(value["value"], bool | int | float | list | dict):  # dates are not JSON
        return value["value"]
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None if text == "None" else text


def fitting(value: Any, default: Any, where: str) -> Any:
    """`value`, as a float where the default is one.

    Raises:
        ConfigError: the value has another type than the default.
    """
    if default is None or type(value) is type(default):
        return value
    if type(default) is float and type(value) is int:
        return float(value)
    raise ConfigError(f"{where} is {value!r}, {kind(value)}, but its default {default!r} is {kind(default)}: give a value of that kind.")


def kind(value: Any) -> str:
    """A type in words."""
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "a table"}
    return words.get(type(value), "nothing")


def alternatives(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: ": did you mean ...?" for a mistyped name, else the known ones."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=2)
    return f": did you mean {' or '.join(near)}?" if near else f": known are {', '.join(known)}."
