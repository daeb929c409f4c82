"""The contract of the notebooks: thin, taught in prose, parameterised by literals, stored without outputs."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

import pytest

pytest.importorskip("papermill")
import nbformat

from vae4d.workbook.profiles import defaults_of, load_profile, plan

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
NAMES = ["00_explore", "01_data", "02_train_autoencoder", "03_train_flow", "04_interpolate", "05_evaluate", "06_repairs",
         "07_flow_and_depth", "08_ablation", "09_bring_your_own"]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook):
    """The one cell tagged `parameters`, and the code cell after it."""
    cells = code(notebook)
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1, "one cell is tagged parameters"
    return cells[tagged[0]], cells[tagged[0] + 1]


def plain(source: str) -> str:
    """Python without IPython's magics."""
    return re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE)


def test_the_notebooks_exist():
    assert [path.stem for path in PATHS] == NAMES


def test_stored_without_outputs(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    for cell in code(notebook):
        assert cell.outputs == [] and cell.execution_count is None


def test_opens_with_title_purpose_and_files(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    opening = first.source.lower()
    assert len(opening.split()) > 30 and "reads" in opening and "writes" in opening


def test_parameters_are_literals(path, notebook):
    cell, after = parameters(notebook)
    names = []
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.Assign) and len(node.targets) == 1, "only name = literal"
        ast.literal_eval(node.value)
        names.append(node.targets[0].id)
    for line in cell.source.splitlines():
        assert line.count("=") <= 1, f"papermill cannot read a second '=' in: {line}"
    assert "run_dir" in names
    assert list(defaults_of(path)) == names, "papermill sees other parameters than Python"
    body = "\n".join(plain(other.source) for other in code(notebook) if other is not cell)
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    assert not set(names) - used, f"parameters that nothing reads: {set(names) - used}"
    assert after.source.strip(), "the cell after the parameters makes the config"


def test_thin_cells(notebook):
    lengths = [len(cell.source.splitlines()) for cell in code(notebook)]
    assert statistics.median(lengths) <= 6 and max(lengths) <= 20
    for cell in code(notebook):
        for node in ast.walk(ast.parse(plain(cell.source))):
            assert not isinstance(node, ast.ClassDef), "classes belong in vae4d"
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 5, f"{node.name} is longer than 5 lines"


def test_prose_before_code(notebook):
    kinds = "".join(cell.cell_type[0] for cell in notebook.cells)
    assert kinds[0] == "m" and "ccc" not in kinds, f"at most two code cells in a row: {kinds}"
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    assert words >= 150, "a notebook teaches"


def test_last_cell_writes_metrics_and_asserts(notebook):
    last = code(notebook)[-1].source
    assert "metrics" in last and "assert" in last


def test_no_absolute_paths_and_no_bars(notebook):
    text = "\n".join(cell.source for cell in notebook.cells)
    assert not re.search(r"[\"'`(]/(home|root|tmp|Users|mnt)/", text)
    assert "tqdm" not in text, "progress bars freeze in a saved file"


@pytest.mark.parametrize("name", ["quick", "full", "smoke"])
def test_profiles_fit_the_notebooks(name):
    profile = load_profile(name, FOLDER / "profiles")
    steps = plan(profile, FOLDER, f"outputs/{name}")
    assert [step.name for step in steps] == NAMES
    assert profile.expected_seconds.keys() == set(NAMES)
