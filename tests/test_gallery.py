"""The gallery: one page a run that needs nothing but itself, one that compares, and what they say of runs that lack parts."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("jinja2")
from PIL import Image

from vae4d import build_model
from vae4d.__main__ import main
from vae4d.errors import MissingInputError
from vae4d.training.runlog import RunLog
from vae4d.workbook import gallery
from vae4d.workbook.gallery import write_gallery
from vae4d.workbook.gallery_runs import read_run, text

MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(100)


class Reader(HTMLParser):
    """Elements by tag, and the text of the page."""

    def __init__(self, page: Path):
        super().__init__()
        self.found: dict[str, list[dict]] = {}
        self.text, self.open = "", []
        self.feed(page.read_text(encoding="utf-8"))
        assert not self.open, f"elements are left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.found.setdefault(tag, []).append(dict(attrs))
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open and self.open[-1] != "style" else ""

    def row(self, head: str) -> str:
        return re.search(rf"^{re.escape(head)}(.*)$", self.text, re.MULTILINE)[1]


def make_run(folder: Path, lr: float = 0.1, psnr: float = 30.0, **more) -> Path:
    """A small run of one notebook that trained, with a figure and a video."""
    for name in ("figures", "videos", "base"):
        (folder / name).mkdir(parents=True)
    settings = {"run_dir": f"outputs/{folder.name}", "lr": lr, "seed": 0, "savepath": f"outputs/{folder.name}/base"}
    row = {"clip": "bikes", "size": 64, "gap": 2, "method": "model", "rows": "clean", "pairs": 5, "psnr": psnr, "lpips": None}
    metrics = {
        "notebook": "01_first", "best_psnr": psnr, "table": [row, row | {"rows": "cuts included"}], "verdicts": ["It is <b>good</b>."],
        "seconds": 4.5, "laps": {}, "peak_memory_gb": 1.0, "versions": {"torch": "2.11"}, "device": "cpu", "hardware": "2 threads",
        "settings": settings,
    } | more  # fmt: skip
    (folder / "01_first.metrics.json").write_text(json.dumps(metrics))
    (folder / "01_first.ipynb").write_text("{}")
    (folder / "run.json").write_text(json.dumps({"01_first": {"ended": 0.0, "seconds": 6.0}}))
    (folder / "base" / "options.json").write_text(json.dumps({"steps": 3, "lr": lr}))
    (folder / "base" / "losses.csv").write_text(f"step,loss,lr\n1,2.0,{lr}\n2,1.5,{lr}\n3,1.0,{lr}\n")
    (folder / "base" / "validation.csv").write_text(f"step,psnr\n3,{psnr}\n")
    Image.fromarray(np.zeros((4, 2000, 3), np.uint8)).save(folder / "figures" / "01_wide_strip.png")
    (folder / "videos" / "film.mp4").write_bytes(MP4)
    return folder


@pytest.fixture
def outputs(tmp_path):
    make_run(tmp_path / "outputs" / "quick")
    return tmp_path / "outputs"


def test_a_page_holds_all_of_a_run_and_needs_nothing_else(outputs):
    assert write_gallery(outputs) == [outputs / "quick" / "index.html", outputs / "index.html"]
    page = Reader(outputs / "quick" / "index.html")
    assert "Run quick" in page.text and "Notebooks run: 1, in 0.1 minutes; the last one ended 1970-01-01 00:00 UTC" in page.text
    assert page.row("lr") == "0.1all" and page.row("savepath") == "<run>/baseall" and page.row("torch") == "2.11"
    assert page.row("best_psnr") == "30" and "It is <b>good</b>." in page.text and "b" not in page.found
    assert "Nothing: every notebook ran" in page.text
    assert [video["aria-label"] for video in page.found["video"]] == ["Video film"] and "controls" in page.found["video"][0]
    sources = [one["src"] for tag in ("img", "video") for one in page.found[tag]]
    assert len(sources) == 3 and all(source.startswith("data:") for source in sources)  # curves, figure, film
    assert all(len(one["alt"]) > 20 for one in page.found["img"])
    assert any("loss 2 at first, 1 at last; validation psnr 30 at first, 30 at last" in one["alt"] for one in page.found["img"])
    links = [one["href"] for one in page.found["a"]]
    assert {"01_first.ipynb", "base/"} <= set(links) and not any(":" in link for link in links)
    assert not {"script", "link", "iframe"} & page.found.keys()
    assert page.found["html"][0]["lang"] == "en" and all("scope" in one for one in page.found["th"])


def test_parameters_are_one_row_for_each_value(outputs):
    metrics = json.loads((outputs / "quick" / "01_first.metrics.json").read_text())
    for name, lr in (("02_second", 0.1), ("03_third", 0.2)):
        more = metrics | {"settings": {"lr": lr, "seed": 0}}
        (outputs / "quick" / f"{name}.metrics.json").write_text(json.dumps(more))
    write_gallery(outputs)
    said = Reader(outputs / "quick" / "index.html").text
    assert "lr0.101, 02\n" in said and "lr0.203\n" in said and "seed0all\n" in said


def test_figures_stand_as_the_notebook_shows_them_and_are_told(outputs):
    run = outputs / "quick"
    for name, height in (("01_a_last.png", 4), ("01_left_behind.png", 701), ("01_a_first.png", 700)):
        Image.new("RGB", (700, height)).save(run / "figures" / name)
    values = json.loads((run / "01_first.metrics.json").read_text())
    figures = {"01_wide_strip.png": "A strip of frames.", "01_a_last.png": "", "01_a_first.png": "The first."}
    (run / "01_first.metrics.json").write_text(json.dumps(values | {"figures": figures}))
    write_gallery(outputs)
    text = (run / "index.html").read_text()
    assert re.findall(r"<figcaption>(.*?)</figcaption>", text)[-4:] == ["Wide strip", "A last", "A first", "Left behind"]
    assert re.findall(r'alt="([^"]*)"', text)[-4:-1] == [
        "A strip of frames.", "Figure “a last” of 01_first; the notebook says what it shows.", "The first."]  # fmt: skip
    shapes = re.findall(r'<figure class="(.*?)">', text)[-4:]
    assert shapes == ["broad", "", "", "tall"]  # a phone shows small ones whole


def test_what_an_unfinished_run_lacks_is_said(outputs):
    run = outputs / "quick"
    (run / "02_second.partial.ipynb").write_text("{}")
    (run / "03_third.metrics.json").write_text("{")
    (run / "01_first.metrics.json").rename(run / "04_fourth.metrics.json")
    (run / "base" / "options.json").write_text('{"steps": 1000}')
    (run / "figures" / "01_torn.png").write_bytes(b"no picture")
    (run / "videos" / "film.mp4").unlink()
    (run / "flow").mkdir()
    (run / "flow" / "losses.csv").touch()
    write_gallery(outputs)
    page = Reader(run / "index.html")
    for said in (
        "02_second failed or is still running: 02_second.partial.ipynb shows how far it came.",
        "03_third.metrics.json cannot be read (",
        "01_first ran and left no metrics.",
        "There is no executed copy of 04_fourth",
        "The training base is not finished: 3 of 1,000 steps are done.",
        "figures/01_torn.png cannot be read (cannot identify image file",
        "This run has no videos.",
        "flow: no step was done yet.",
    ):
        assert said in page.text, said
    assert "remarks on what is missing 7" in Reader(outputs / "index.html").text


def test_a_damaged_run_is_said_to_be_and_hides_no_other(outputs):
    run = make_run(outputs / "damaged")
    (run / "run.json").write_text("[1]")
    (run / "base" / "options.json").write_text("[]")
    (run / "base" / "losses.csv").write_text("step,loss\n1,none\n")
    (run / "02_second.metrics.json").write_text('{"settings": []}')
    bench = outputs / "bench"
    bench.mkdir()
    (bench / "benchmark.json").write_text("{}")
    for torn in ("", "clip,size\n1,2,3\n4\n5,6,7,8,9\n", "psnr\nmuch\n"):
        (bench / "summary.csv").write_text(torn)
        assert outputs / "quick" / "index.html" in write_gallery(outputs)
        assert "summary.csv cannot be read (" in Reader(bench / "index.html").text
    said = Reader(run / "index.html").text
    for name in ("run.json cannot be read (it does not hold values by name)", "02_second.metrics.json cannot", "base/options.json cannot",
                 "base/losses.csv cannot be read (Unable to parse"):
        assert name in said, name
    (run / "run.json").write_text('{"01_first": 7}')
    write_gallery(outputs)
    assert "run.json cannot be read (it does not hold values by name for each notebook)" in Reader(run / "index.html").text


def test_an_unfinished_training_tells_by_its_checkpoint(outputs):
    base = outputs / "quick" / "base"
    (base / "options.json").write_text("{}")  # as of the faithful model, whose steps may change between two calls
    log = RunLog(base, {}, total=40)
    model = build_model("small")
    for step in (1, 2, 3):
        log.write("losses", {"step": step, "loss": 1.0})
    log.close()
    log.save(SimpleNamespace(model=model, name="base", critic=None), {}, {"step": 3})
    assert read_run(outputs / "quick").problems == ["The training base is not finished: 3 of 40 steps are done."]
    log.total = 3
    log.save(SimpleNamespace(model=model, name="base", critic=None), {}, {"step": 3})
    assert read_run(outputs / "quick").problems == []
    (base / "newest.safetensors").write_bytes(b"torn")
    assert "base/newest.safetensors cannot be read (it is not a whole safetensors file" in read_run(outputs / "quick").problems[0]


def test_notebooks_that_did_not_run_are_named(outputs):
    (outputs.parent / "notebooks").mkdir()
    for name in ("01_first", "09_last"):
        (outputs.parent / "notebooks" / f"{name}.ipynb").touch()
    write_gallery(outputs)
    assert "Not run: 09_last." in Reader(outputs / "quick" / "index.html").text


def test_videos_above_the_limits_are_linked(outputs, monkeypatch):
    (outputs / "quick" / "videos" / "zlong.mp4").write_bytes(MP4)
    monkeypatch.setattr(gallery, "VIDEOS_LIMIT", len(MP4) + 1)
    write_gallery(outputs)
    page = Reader(outputs / "quick" / "index.html")
    assert len(page.found["video"]) == 1 and "videos/zlong.mp4" in [one["href"] for one in page.found["a"]]
    assert "Left out of this page, as they are too large for it" in page.text
    monkeypatch.setattr(gallery, "VIDEO_LIMIT", 10)
    write_gallery(outputs)
    assert "video" not in Reader(outputs / "quick" / "index.html").found


def test_runs_are_compared(outputs):
    make_run(outputs / "other", lr=0.2, psnr=31.5, versions={"torch": "2.12"})
    (outputs / "notes").mkdir()  # no run
    write_gallery(outputs)
    page = Reader(outputs / "index.html")
    assert [one["href"] for one in page.found["a"] if one["href"].endswith(".html")] == ["other/index.html", "quick/index.html"]
    assert page.row("01_first: lr") == "0.20.1" and page.row("01_first: torch") == "2.122.11"
    assert "01_first: seed" not in page.text and "savepath" not in page.text  # the same but for the run's own name
    assert page.row("best_psnr") == "31.530" and page.row("bikes, 64 px, gap 2, 5 pairs: model") == "31.5030.00"
    alts = [one["alt"] for one in page.found["img"]]
    assert "Curves of the loss of base; at the end other 1 at step 3, quick 1 at step 3." in alts
    assert "Curves of the validation PSNR of base; at the end other 31.5 at step 3, quick 30 at step 3." in alts
    pictures = [one for one in page.found["img"] if one["alt"].startswith("Figure")]
    assert [(one["alt"], one["width"]) for one in pictures] == [
        ("Figure “wide strip” of run other.", "900"), ("Figure “wide strip” of run quick.", "900"),
    ]  # fmt: skip


def test_runs_without_anything_in_common(outputs):
    (outputs / "bare").mkdir()
    (outputs / "bare" / "options.json").write_text("{}")
    write_gallery(outputs)
    page = Reader(outputs / "index.html")
    assert page.text.count("No two runs have any in common.") == 3
    assert "This run has no metrics, no training curves, no figures, no videos." in Reader(outputs / "bare" / "index.html").text


def test_a_page_is_whole_or_as_it_was_and_one_run_can_be_written_alone(outputs, monkeypatch):
    make_run(outputs / "other")
    write_gallery(outputs)
    before = {path: path.read_bytes() for path in outputs.glob("**/index.html")}
    assert write_gallery(outputs, "other") == [outputs / "other" / "index.html", outputs / "index.html"]
    assert {path: path.read_bytes() for path in outputs.glob("**/index.html")} == before  # equal runs, equal bytes
    with pytest.raises(MissingInputError, match=r"^There is no run 'othr' in .*: choose one of other, quick\.$"):
        write_gallery(outputs, "othr")
    monkeypatch.setattr(gallery.Page, "html", lambda page: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_gallery(outputs)
    assert {path: path.read_bytes() for path in outputs.glob("**/*ndex*")} == before


def test_the_command(outputs, capsys, tmp_path):
    assert main(["gallery", str(outputs)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Written to {outputs / 'index.html'}"
    assert main(["gallery", str(tmp_path / "nowhere")]) == 2
    assert "There is no run in" in capsys.readouterr().err
    with pytest.raises(MissingInputError, match="run the notebooks first"):
        write_gallery(tmp_path / "outputs" / "quick" / "videos")


def test_tables_are_cut_where_they_are_long(outputs):
    make_run(outputs / "long", table=[{"case": f"row {i}", "value": i + 0.5} for i in range(gallery.ROWS + 5)])
    write_gallery(outputs)
    page = Reader(outputs / "long" / "index.html")
    assert f"the first {gallery.ROWS} of {gallery.ROWS + 5} rows" in page.text
    assert page.row(f"row {gallery.ROWS - 1}") == f"{gallery.ROWS - 0.5:g}" and f"row {gallery.ROWS}\n" not in page.text


def test_tables_far_wider_than_high_are_turned(outputs):
    make_run(outputs / "wide", table=[{"case": f"row {i}", **{f"m{k}": k + i for k in range(gallery.WIDE + 1)}} for i in range(3)])
    write_gallery(outputs)
    page = Reader(outputs / "wide" / "index.html")
    assert "measurerow 0row 1row 2" in page.text and page.row("m7") == "789"


def test_what_was_put_aside_and_what_lies_deep_is_no_training(outputs):
    run = outputs / "quick"
    for name in ("base.old-1", "study/seed-0"):
        (run / name).mkdir(parents=True)
        (run / name / "losses.csv").write_text("step,loss\n1,1\n")
    assert list(read_run(run).trainings) == ["base"]
    write_gallery(outputs)
    assert "parts of studies, are not drawn here: 1." in Reader(run / "index.html").text


@pytest.mark.parametrize(("value", "shown"), [
    (0.123456, "0.1235"), (123456.0, "1.2346e+05"), (True, "yes"), (None, "–"), ([1, 0.5], "1, 0.5"), ({"a": 1.0}, "a 1"), ("x", "x"),
])
def test_values_in_tables(value, shown):
    assert text(value) == shown
