"""The notebooks as their readers use them: the real JupyterLab, driven in Chromium. Screenshots go to outputs/browser/.

`make test` drives the explorer alone; `make browser` opens and runs every notebook, and interrupts a training.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from make_clips import encode, pictures
from make_lab import CHROMIUM, LabPage, jupyterlab

from vae4d.workbook.profiles import load_profile, plan

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
LONG = "interrupted"  # notebook 02 with a training that takes long

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")


@pytest.fixture(scope="module")
def root(tmp_path_factory, weights) -> Path:
    """A repository with small parameters in its notebooks, that asks for widgets, and a data set of drawn videos."""
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    root = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks" / "profiles", root / "notebooks" / "profiles")
    (root / "data").mkdir()
    (root / "data" / "weights").symlink_to(weights)
    videos = root / "videos"
    for seed, (name, count) in enumerate({"train/one": 10, "validate/two": 10, "test/three": 10, "test/four": 10}.items()):
        encode(videos / f"{name}.mp4", pictures(count, 96, 80, seed=seed))
    profile = load_profile("smoke", ROOT / "notebooks" / "profiles")
    for step in plan(profile, ROOT / "notebooks", "outputs/lab", ["interactive=true"], videos):
        copies = {step.name: {}}
        if step.name == "02_train_autoencoder":
            copies[LONG] = {"max_steps": 100_000, "epochs": 100_000, "run_dir": "outputs/long"}
        for name, changes in copies.items():
            notebook = parameterize_notebook(load_notebook_node(str(step.notebook)), step.parameters | changes)
            nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")
    return root


@pytest.fixture(scope="module")
def address(root, tmp_path_factory):
    with jupyterlab(root / "notebooks", tmp_path_factory.mktemp("home")) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def lab(browser, address):
    page = LabPage(browser, address, ROOT / "outputs" / "browser")
    yield page
    page.shoot("last")  # of a test that failed, what it saw
    page.close()


class Explorer:
    """The panel of 00_explore in the page."""

    def __init__(self, lab: LabPage):
        self.lab, self.panel = lab, lab.page.locator(".vae4d-explorer")
        lab.page.wait_for_selector(".vae4d-explorer img", state="attached")

    def slider(self, name: str):
        """The handle of a slider, by what a screen reader calls it."""
        return self.panel.get_by_role("slider", name=name)

    def picture(self) -> str:
        """The address of the main picture, which is another for other bytes."""
        return self.panel.locator("img").first.get_attribute("src")

    def changes(self, act) -> None:
        """`act`, and wait until the picture is another."""
        before = self.picture()
        act()
        self.lab.page.wait_for_function("before => document.querySelector('.vae4d-explorer img').src !== before", arg=before)

    def upload(self, path: Path) -> None:
        with self.lab.page.expect_file_chooser() as chooser:
            self.panel.get_by_role("button", name="Upload a video").click()
        chooser.value.set_files(path)

    def said(self) -> str:
        return " ".join(self.panel.locator("[role=status], [role=alert]").all_inner_texts())


def test_the_explorer_follows_the_hand(lab):
    lab.open("00_explore")
    lab.run()
    explorer = Explorer(lab)
    explorer.panel.scroll_into_view_if_needed()
    lab.shoot("explorer", ".vae4d-explorer")
    for name in ("t (0 to 1)", "swing right", "move forward"):
        handle = explorer.slider(name)
        handle.focus()
        before = float(handle.get_attribute("aria-valuetext"))
        explorer.changes(lambda: lab.page.keyboard.press("ArrowRight"))
        assert float(handle.get_attribute("aria-valuetext")) > before
    explorer.changes(lambda: explorer.panel.get_by_role("button", name="Camera back").click())
    for mode in ("split", "flicker", "error", "side by side"):
        explorer.changes(lambda mode=mode: explorer.panel.get_by_role("button", name=mode, exact=True).click())
    explorer.changes(lambda: explorer.panel.get_by_role("checkbox", name="DIS warp").check())
    lab.shoot("explorer_methods", ".vae4d-explorer")
    for tab in explorer.panel.get_by_role("tab").all_inner_texts():
        explorer.panel.get_by_role("tab", name=tab, exact=True).click()
        explorer.panel.get_by_alt_text(f"{tab} of sharp").wait_for()
    lab.shoot("explorer_views", ".vae4d-explorer")
    assert "Not done" not in explorer.said()
    lab.check()


def test_the_explorer_takes_a_video_and_answers_bad_input_with_a_sentence(lab, root, tmp_path):
    lab.open("00_explore")
    lab.run()
    explorer = Explorer(lab)
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "torn.mp4").write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(500))
    (tmp_path / "large.mp4").write_bytes(bytes(11 * 2**20))  # its message would end the connection
    for name, word in {"notes.txt": "not named as a video", "torn.mp4": "torn.mp4", "large.mp4": "drop the file into"}.items():
        explorer.upload(tmp_path / name)
        explorer.panel.get_by_role("alert").filter(has_text=word).wait_for()
    lab.shoot("explorer_refused", ".vae4d-explorer")
    explorer.changes(lambda: explorer.upload(encode(tmp_path / "mine.mp4", pictures(5, 96, 80, seed=9))))
    assert "mine" in explorer.panel.get_by_role("combobox", name="clip").inner_text()
    assert not {path.name for path in (root / "data" / "videos").iterdir()} & {"notes.txt", "torn.mp4", "large.mp4"}
    lab.check()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_notebook_runs_in_jupyterlab(lab, name):
    lab.open(name)
    lab.run()
    lab.shoot(name)
    for number, image in enumerate(lab.page.locator(".jp-Notebook .jp-RenderedImage img").all()):
        assert image.evaluate("image => image.naturalWidth") > 0, f"picture {number}"


@pytest.mark.slow
def test_a_training_is_watched_interrupted_and_goes_on(lab):
    page = lab.page
    lab.open(LONG)
    lab.start()
    bar = page.locator(".jp-Notebook .progress-bar")
    bar.wait_for(state="attached")
    page.wait_for_selector("text=/Step [0-9]{2,} of/")
    lab.shoot("training", ".jp-Notebook .widget-vbox")
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_role("menuitem", name="Interrupt Kernel").click()
    page.wait_for_selector("text=Interrupted: run the cell again")
    lab.shoot("training_interrupted", ".jp-Notebook .widget-vbox")
    page.locator(".jp-CodeCell", has_text="result = watched(").first.click()
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector("text=steps were done before")
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_role("menuitem", name="Interrupt Kernel").click()
    page.wait_for_selector("text=Interrupted: run the cell again")
    assert lab.faults == [] and lab.strangers == []
