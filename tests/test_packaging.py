"""The project's files about itself: requirements that agree, imports that are declared, a licence and citations."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vae4d.workbook.profiles import load_profile, plan

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Packages whose import has another name.
DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless", "skimage": "scikit-image"}
LAZY = ("anywidget", "av", "cv2", "evo", "imagehash", "imageio_ffmpeg", "jinja2", "lpips")
LAZY += ("papermill", "traitlets", "nbclient", "nbformat", "IPython", "ipywidgets", "jupyterlab", "k3d")


def declared() -> dict[str, Requirement]:
    """Requirements of the package and of all its extras, by name."""
    lines = PROJECT["dependencies"] + [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    found = {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}
    assert len(found) == len(lines), "a package is named twice in pyproject.toml"
    return found


def pinned(lines: list[str]) -> dict[str, str]:
    """name==version lines, by name; anything else (a path, a host, a range) is a mistake."""
    found = {}
    for line in lines:
        match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([0-9][A-Za-z0-9.+!]*)", line)
        assert match, f"{line!r} is not name==version"
        found[canonicalize_name(match[1])] = match[2]
    return found


def constraints() -> dict[str, str]:
    return pinned([line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")])


def conda_pip_lines() -> list[str]:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == "vae4d" and environment["dependencies"][:2] == ["python=3.11", "pip"]
    return environment["dependencies"][2]["pip"]


def test_three_files_name_the_same_packages():
    pins, lines = constraints(), conda_pip_lines()
    assert lines[0] == "--constraint constraints.txt" and lines[-1] == "--editable ."
    conda = pinned(lines[1:-1])
    assert conda.keys() == declared().keys()
    assert conda == {name: pins[name] for name in conda}
    for name, requirement in declared().items():
        assert requirement.specifier.contains(pins[name]), f"{name}: the pin {pins[name]} is outside of pyproject's {requirement.specifier}"
    assert (pins["torch"], pins["torchvision"]) == ("2.14.1", "0.29.1")


def test_constraints_pin_every_dependency_of_a_dependency():
    """From the installed packages' own metadata, so that an unpinned package cannot make two installs differ."""
    pins, waiting, seen = constraints(), [Requirement("vae4d"), *declared().values()], set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name == "vae4d" or (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            if name in declared():
                pytest.skip(f"{name} is not installed here")
            raise
        assert name in pins, f"{name} is needed but not in constraints.txt"
        extras = requirement.extras or {""}
        parsed = map(Requirement, needs)
        waiting += [need for need in parsed if not need.marker or any(need.marker.evaluate({"extra": extra}) for extra in extras)]
    unused = pins.keys() - {name for name, _ in seen}
    if sys.platform == "linux" and sys.version_info[:2] == (3, 11) and importlib.metadata.version("torch").startswith("2.14.1"):
        assert not unused, f"nothing needs {sorted(unused)}"


def test_ranges_hold_the_bare_gpu_server():
    requirements = declared()
    assert requirements["torch"].specifier.contains("2.11.0") and requirements["torchvision"].specifier.contains("0.26.0")
    assert PROJECT["requires-python"] == ">=3.11"


def imports(path: Path) -> set[str]:
    """Top-level names that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def test_every_import_is_declared():
    core = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    optional = declared().keys() - core
    for path in sorted((ROOT / "vae4d").rglob("*.py")):
        for name in imports(path) - set(sys.stdlib_module_names) - {"vae4d"}:
            package = canonicalize_name(DISTRIBUTIONS.get(name, name))
            assert package in core | optional, f"{path.name} imports {name}, which pyproject.toml does not name"
            assert package in core or name in LAZY, f"{path.name} imports {name} of an extra: name it in this test's LAZY"


def test_package_imports_without_the_extras():
    """A bare GPU server has none of them: every module must import all the same."""
    paths = sorted(path.relative_to(ROOT).with_suffix("") for path in (ROOT / "vae4d").rglob("*.py") if not path.stem.startswith("__"))
    assert len(paths) > 30
    program = f"import sys\nfor name in {LAZY!r}: sys.modules[name] = None\n" + "".join(f"import {'.'.join(p.parts)}\n" for p in paths)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_version_licence_and_citations():
    import vae4d

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert vae4d.__version__ == PROJECT["version"] == citation["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert "Copyright (c) 2026 the vae4d authors" in (ROOT / "LICENSE").read_text()
    titles = [reference["title"] for reference in citation["references"]]
    assert len(titles) == 2 and titles[0].startswith("Video Autoencoder") and "4D Video Autoencoder" in titles[1]
    assert [author["family-names"] for author in citation["references"][0]["authors"]] == ["Lai", "Liu", "Efros", "Wang"]


FAKE_PYTHON = """\
#!/bin/sh
# Stands for python and, copied by -m venv, for that of the environment. Without python3-venv, -m venv leaves bin/python alone.
[ "$1 $2" = "-m venv" ] || exit 0
shift 2; [ "$1" = --clear ] && rm -rf "$2" && shift
mkdir -p "$1/bin" && cp "$0" "$1/bin/python" && [ -e ensurepip ] && touch "$1/bin/pip" && chmod +x "$1/bin/pip"
"""


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_make_recovers_from_an_environment_without_pip(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    command = ["make", "-s", "setup", f"PYTHON={python}"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0
    assert (tmp_path / ".venv/bin/python").exists() and not (tmp_path / ".venv/.installed").exists()
    (tmp_path / "ensurepip").touch()  # the user installs what was missing
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".venv/bin/pip").exists() and (tmp_path / ".venv/.installed").exists()


def test_the_makefiles_example_takes_effect():
    header = (ROOT / "Makefile").read_text().partition("\nSHELL")[0]
    settings = re.search(r'SET="([^"]*)"', header)[1].split()
    folder = ROOT / "notebooks"
    profile = load_profile("quick", folder / "profiles")
    before, after = ({step.name: step.parameters for step in plan(profile, folder, "outputs/quick", extra)} for extra in ((), settings))
    assert before != after and "none inside a value" in header
    steps = after["03_train_flow"]["max_steps"]
    assert steps != before["03_train_flow"]["max_steps"] and "epochs" not in " ".join(settings)


def test_ci_runs_the_test_command():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK) and "make test" in script.read_text()
