"""The explorer's panel, driven without a browser, and its pictures where nobody drives it."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from types import SimpleNamespace

import pytest

pytest.importorskip("ipywidgets")
from make_clips import encode, pictures
from test_explorer import moving_clip
from test_showcase import make_clip

from vae4d import build_model, register
from vae4d.errors import ConfigError
from vae4d.evaluation.methods import blend
from vae4d.explorer import TRUTH, Explorer, ExploreSettings, explore, modes, panel, show_beliefs, stills
from vae4d.explorer.beliefs import BELIEFS
from vae4d.explorer.controls import AXES, offset_of, values_of
from vae4d.explorer.panel import Panel
from vae4d.explorer.replies import Pause
from vae4d.views.figures import picture
from vae4d.workbook import notebook
from vae4d.workbook.moments import sideways


@pytest.fixture(scope="module")
def methods():
    return {"sharp": build_model("sharp", seed=1), "small": build_model("small", seed=1), "linear blend": blend}


@pytest.fixture
def made(methods, tmp_path):
    clip, other = moving_clip(), make_clip(6, name="other")
    return Panel(Explorer(methods, clip, 2, 4), {"moving": clip, "other": other}, tmp_path / "out", data_root=tmp_path / "data")


def test_the_picture_follows_every_slider(made):
    c, seen = made.controls, {bytes(made.controls.image.value)}
    c.t.value = 0.25
    seen.add(bytes(c.image.value))
    for axis, slider in zip(AXES, c.camera, strict=True):
        slider.value = axis.reach / 2
        seen.add(bytes(c.image.value))
    assert len(seen) == 8 and all(png.startswith(b"\x89PNG") for png in seen)
    assert "linear blend knows no camera: time moves it" in c.status.value
    c.rest.click()
    assert [slider.value for slider in c.camera] == [0] * 6 and c.status.value == ""


def test_sliders_and_the_six_numbers(made):
    made.controls.camera[0].value = 3.0
    assert made.offset == pytest.approx(sideways(math.radians(3)).tolist())  # to the right
    assert values_of(made.offset) == pytest.approx([3, 0, 0, 0, 0, 0])
    assert offset_of([1e-14, -1e-14, 0, 50, 0, 0]) == (0, 0, 0, 1, 0, 0)  # half the picture's width is one unit of the cube
    assert math.copysign(1, offset_of([1e-14] * 6)[0]) == 1


def test_playing_moves_time_camera_and_the_flicker(made):
    c = made.controls
    assert (c.t.step, c.play.max) == (1 / 48, 48)  # a gap of 4: every frame falls on a step
    before = c.image.value
    c.play.value = 12
    assert c.t.value == 0.25 and c.image.value != before
    c.t.value = 0.75  # by hand: what plays goes on from there
    assert c.play.value == 36
    c.play.value = 37
    assert c.t.value == pytest.approx(37 / 48)
    c.orbit.value = 9  # a quarter of the orbit
    assert c.camera[0].value == pytest.approx(-math.degrees(0.05)) and made.offset[3:] == (0, 0, 0)
    c.mode.value, before = modes.FLICKER, c.image.value
    first = c.image.value
    c.flicker.value = 1
    assert c.second.value is True and c.image.value != first != before


def test_only_the_controls_of_a_mode_are_shown(made):
    c = made.controls
    shown = {}
    for mode in modes.MODES:
        c.mode.value = mode
        shown[mode] = [widget.layout.display != "none" for widget in (c.fraction, c.flicker, c.second)]
    assert shown == {"side by side": [False] * 3, "split": [True, False, False], "flicker": [False, True, True], "error": [False] * 3}
    c.mode.value, before = modes.SPLIT, c.image.value
    at_half = c.image.value
    c.fraction.value = 0.9
    assert c.image.value != at_half and before


def fault(*given):
    raise ValueError("a <fault>")


def test_what_goes_wrong_is_one_sentence_and_the_picture_stays(made, monkeypatch):
    c = made.controls
    for box in c.ticks.values():
        box.value = False
    before = c.image.value
    assert all(part in c.status.value for part in ("Not done.", "No method is chosen: tick at least one.", 'role="alert"'))
    c.ticks["small"].value = True
    assert c.status.value == "" and c.image.value != before
    c.mode.value = modes.SPLIT
    assert "compares two methods, and only small is chosen" in c.status.value
    c.ticks["linear blend"].value = True
    assert c.status.value == ""
    before = c.image.value
    monkeypatch.setattr(modes, "draw", fault)
    c.t.value = 0.1
    assert "ValueError: a &lt;fault&gt;. This is a fault of the explorer: please report it" in c.status.value
    assert "Traceback" not in c.status.value and c.image.value == before


def test_another_pair_and_another_clip(made):
    c = made.controls
    assert (c.start.value, c.gap.value, c.start.max) == (2, 4, 5)
    c.gap.value = 8  # frame 2 and 10 are not both there: the pair moves
    assert (made.explorer.start, made.explorer.gap) == (1, 8) and (c.start.value, c.start.max) == (1, 1)
    c.clip.value = "other"
    assert made.explorer.clip.name == "other" and (c.gap.value, c.start.value, c.start.max) == (5, 0, 0)
    c.gap.value = 2
    c.start.value = 3
    assert (made.explorer.start, made.explorer.gap) == (3, 2) and c.status.value == ""


def send(controls, name: str, content: bytes) -> None:
    """What upload.js sends: no content where it is too large."""
    buffers = [memoryview(content)] if len(content) <= controls.upload.largest else []
    controls.upload._handle_custom_msg({"name": name, "size": len(content)}, buffers)


def test_uploads_good_and_bad(made, tmp_path):
    pytest.importorskip("av")
    c, before = made.controls, made.controls.image.value
    for name, content, sentence in (
        ("notes.txt", b"hello", "notes.txt is not named as a video"),
        ("no.mp4", b"no video", "no.mp4 cannot be opened as a video"),
        ("big.mp4", bytes(7_000_001), "drop the file into"),
        ("one.mp4", encode(tmp_path / "1.mp4", pictures(1, 48, 48)).read_bytes(), "one.mp4 has one frame"),
    ):
        send(c, name, content)
        assert sentence in c.status.value and "Not done." in c.status.value and c.image.value == before
        assert c.clip.options == ("moving", "other")
    send(c, "mine.mp4", encode(tmp_path / "5.mp4", pictures(5, 48, 48, seed=3)).read_bytes())
    assert c.clip.value == "mine" and c.clip.options == ("mine", "moving", "other")
    assert made.explorer.clip.name == "mine" and c.status.value == "" and c.image.value != before
    send(c, "other.mp4", encode(tmp_path / "o.mp4", pictures(4, 48, 48, seed=4)).read_bytes())
    assert c.clip.value.startswith("other-") and "other" in c.clip.options  # the one that was there is kept
    before = list((tmp_path / "data" / "videos").iterdir())
    send(c, "again.mp4", (tmp_path / "5.mp4").read_bytes())
    assert c.clip.value == "mine" and list((tmp_path / "data" / "videos").iterdir()) == before and c.status.value == ""
    made._choose(made.clips["moving"], None)
    made.clips["mine"] = dataclasses.replace(made.clips["mine"], path=tmp_path / "elsewhere.mp4")  # as of another data set
    (tmp_path / "data" / "videos" / "mine.mp4").unlink()
    send(c, "again.mp4", (tmp_path / "5.mp4").read_bytes())
    assert c.clip.value == "mine" and not (tmp_path / "data" / "videos" / "again.mp4").exists()


def test_looking_for_new_clips(methods, tmp_path):
    clip, found = moving_clip(), {}

    def refresh(say) -> dict:
        say("[4/4] notes.mp4 (test): left out. notes.mp4 is empty.")
        return {"moving": clip} | found

    made = Panel(Explorer(methods, clip, 2, 4), {"moving": clip}, tmp_path, refresh=refresh)
    assert made.controls.look.layout.display != "none"
    made.controls.look.click()
    assert "No new clips found. [4/4] notes.mp4 (test): left out." in made.controls.status.value
    found["moving"] = make_clip(5, name="moving", digest="1" * 64)
    made.controls.look.click()
    assert "1 new clip found." in made.controls.status.value and made.controls.clip.options == ("moving-111111", "moving")
    made.controls.look.click()
    assert "No new clips found." in made.controls.status.value


def test_views_show_what_there_is_and_say_what_is_not(made):
    c = made.controls
    assert bytes(c.figures[0].value).startswith(b"\x89PNG")  # the first tab is open
    c.believer.value = "small"
    assert "small says nothing of depth: choose another model" in c.texts[0].value and c.figures[0].layout.display == "none"
    c.tabs.selected_index = list(BELIEFS).index("occupancy")
    place = c.tabs.selected_index
    assert c.texts[place].value == "" and bytes(c.figures[place].value).startswith(b"\x89PNG")
    before = c.figures[place].value
    c.t.value = 0.9
    assert c.figures[place].value != before
    c.believer.value, c.tabs.selected_index = "sharp", 0
    assert c.texts[0].value == "" and c.figures[0].layout.display != "none"


def test_a_view_is_drawn_again_only_where_something_changed(made, monkeypatch):
    c, drawn = made.controls, []
    first = next(iter(c.views))
    monkeypatch.setitem(c.views, first, lambda *given: drawn.append(given) or picture(1, 1))
    c.mode.value = modes.FLICKER
    for step in (1, 0, 1):
        c.flicker.value = step
    c.mode.value = modes.SPLIT
    c.fraction.value = 0.7
    assert drawn == []  # it was drawn when the panel was made
    c.t.value = 0.25
    c.start.value = 3
    c.believer.value = "small"
    assert len(drawn) == 3
    c.tabs.selected_index = 1
    c.tabs.selected_index = 0
    assert len(drawn) == 4


def test_a_registered_view_has_a_tab_and_its_faults_are_a_sentence(methods, tmp_path):
    def moment(made, first, second):
        figure = picture(2, 2)
        figure.gca().imshow(made.image[0].permute(1, 2, 0))
        return figure

    register.view("my moment")(moment)
    register.view("my fault")(lambda made, first, second: None)
    try:
        clip = moving_clip()
        c = Panel(Explorer(methods, clip, 2, 4), {"moving": clip}, tmp_path).controls
        c.tabs.selected_index = list(c.views).index("my moment")
        assert bytes(c.figures[c.tabs.selected_index].value).startswith(b"\x89PNG")
        c.tabs.selected_index = list(c.views).index("my fault")
        assert "return a matplotlib Figure" in c.texts[c.tabs.selected_index].value
        c.believer.value = "linear blend"
        assert "linear blend is no model" in c.texts[c.tabs.selected_index].value
    finally:
        register.forget("my moment")
        register.forget("my fault")


def test_saving_writes_a_file_and_links_to_it(made, tmp_path):
    c = made.controls
    c.save.click()
    assert (tmp_path / "out" / "moving_2-6_1.png").is_file()
    assert 'download="moving_2-6_1.png" href="data:image/png;base64,' in c.link.value
    (tmp_path / "out" / "moving_2-6_1.png").unlink()
    (tmp_path / "out").rmdir()
    (tmp_path / "out").write_text("no folder")
    c.save.click()
    assert "Not done." in c.status.value and c.link.value == ""


def test_every_control_says_what_it_is(made):
    c = made.controls
    controls = [c.clip, c.upload, c.look, c.start, c.gap, c.t, c.play, *c.camera, c.orbit, c.rest, *c.ticks.values()]
    controls += [c.mode, c.fraction, c.second, c.flicker, c.believer, c.kind, c.save]
    assert all(widget.description and widget.tooltip.endswith(".") for widget in controls)
    headings = [widget.value for widget in panel.every(c.panel) if getattr(widget, "value", "") and str(widget.value).startswith("<h3>")]
    assert len(headings) == 5 and "<h3>Time</h3>" in headings
    assert all(image.tooltip is None for image in (c.image, *c.figures)), "the browser's side of Image fails on a tooltip"
    assert all(axis.unit in slider.description for axis, slider in zip(AXES, c.camera, strict=True))


def test_the_views_wait_until_the_hand_rests():
    calls = []

    async def hand() -> None:
        pause = Pause(lambda: calls.append(1), 0.001)
        for _ in range(5):
            pause()
        assert not calls
        await asyncio.sleep(0.05)

    asyncio.run(hand())
    assert calls == [1]
    Pause(lambda: calls.append(2))()  # no loop: at once
    assert calls == [1, 2]


@pytest.fixture
def book(tmp_path, monkeypatch):
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return notebook.start("00_explore", ExploreSettings(run_dir="outputs/t"))


def test_without_a_hand_the_pictures_stand_in_the_cell(book, methods, monkeypatch):
    pytest.importorskip("IPython")
    shown = []
    monkeypatch.setattr(notebook, "display", lambda data, **how: shown.append((data, how)))
    explorer, settings = Explorer(methods, moving_clip(), 2, 4), ExploreSettings()
    explore(explorer, book, {}, settings, interactive=False)
    names = {path.stem for path in (book.folder / "figures").glob("*.png")}
    assert names == {"00_time", "00_camera", "00_side_by_side", "00_split", "00_error"}
    assert len(shown) == 5 and all(data["image/png"].startswith(b"\x89PNG") for data, _ in shown)
    alts = [how["metadata"]["image/png"]["alt"] for _, how in shown]
    assert alts[0] == "sharp, t = 0.25; sharp, t = 0.5; sharp, t = 0.75"
    assert alts[1] == "sharp, camera to the left; sharp, camera to the right" and alts[4].startswith("error: sharp (")
    monkeypatch.setattr(modes, "note", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explore(explorer, book, {}, settings, interactive=False)


def test_with_a_hand_the_panel_is_shown(book, methods, monkeypatch):
    shown = []
    monkeypatch.setattr("vae4d.explorer.stills.display", shown.append)
    clip = moving_clip()
    for _ in range(2):  # as a cell that is run again
        explore(Explorer(methods, clip, 2, 4), book, {"moving": clip}, ExploreSettings(), interactive=True)
    assert [type(widget).__name__ for widget in shown] == ["VBox"] * 2
    assert [{widget.comm is None for widget in panel.every(one)} for one in shown] == [{True}, {False}]


def test_looking_again_finds_videos_whatever_the_data_set(book, methods, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("vae4d.explorer.stills.display", lambda widget: None)
    monkeypatch.setattr("vae4d.explorer.stills.clips_of", lambda settings, **how: asked.append((settings.dataset, how["fresh"])) or {})
    clip = moving_clip()
    explore(Explorer(methods, clip, 2, 4), book, {"moving": clip}, ExploreSettings(dataset=str(tmp_path)), interactive=True)
    stills.OPEN[0].controls.look.click()
    assert asked == [("samples", True)] and "No new clips found." in stills.OPEN[0].controls.status.value
    assert stills.OPEN[0].controls.clip.options == ("moving",)


def test_all_views_of_a_method_as_pictures(methods, capsys):
    figures = []
    book = SimpleNamespace(show=lambda figure, name, text: figures.append((name, text)))
    explorer = Explorer(methods, moving_clip(), 2, 4)
    assert show_beliefs(explorer, book, "sharp") == list(BELIEFS)
    assert ("flow_in_space_sharp", "flow in space of sharp at t = 0.50") in figures
    assert show_beliefs(explorer, book, "linear blend") == []
    assert capsys.readouterr().out.count("linear blend is no model") == 1  # one line for all views
    with pytest.raises(ConfigError, match="Unknown method"):
        explorer.model("shrp")
    assert TRUTH in explorer.names
    register.view("my fault")(lambda made, first, second: None)
    try:
        assert show_beliefs(explorer, book, "sharp") == list(BELIEFS)
    finally:
        register.forget("my fault")
    assert "No my fault: View 'my fault' returned NoneType: return a matplotlib Figure." in capsys.readouterr().out
