"""The report: sentences that follow the intervals, tables that say what they rest on, a page that needs nothing but itself."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

pytest.importorskip("jinja2")
from PIL import Image

from vae4d.clips.clip import Clip
from vae4d.errors import ConfigError, MissingInputError
from vae4d.evaluation.benchmark import Results
from vae4d.evaluation.methods import PairMethod, blend, repeat
from vae4d.evaluation.report import LARGE, Page, Picture, Table
from vae4d.evaluation.scene_summary import scene_summary
from vae4d.evaluation.scene_truth import COLUMNS as SCENE_COLUMNS
from vae4d.evaluation.scene_truth import SceneScores
from vae4d.evaluation.statistics import DIFFERENCES, differences, summary
from vae4d.views.truth import pose_comparison
from vae4d.workbook import lineup, notebook, provenance, scenecard, scorecard, start, strips, verdicts
from vae4d.workbook.settings import ScoreSettings
from vae4d.workbook.sheet import Chart, Sheet


def row(mean: float, low: float, high: float, clip: str = "bikes", reference: str = "DIS", **more) -> dict:
    values = {"clip": clip, "size": 128, "gap": 4, "method": "model", "reference": reference, "metric": "psnr", "videos": 1, "pairs": 40,
              "frames": 120, "undefined": 0, "mean": mean, "low": low, "high": high}
    return values | more

METHODS = ("linear blend", "DIS", "repeat", "model")


def record(**more) -> dict:
    clips = [{"clip": name, "size": 128, "split": split, "sha256": name * 16, "frames_sha256": "f" * 64, "frames": 250, "cuts": [30],
              "repeated": [], "fps": "25"} for name, split in (("bikes", "test"), ("bunny", "train"))]
    return {
        "versions": {"python": "3.11"}, "lpips": None, "definitions": {"psnr": "10 log10(255^2 / mse)"},
        "settings": {"limit": None, "resamples": 2000, "seeds": {"bootstrap": 0}},
        "methods": {name: {"settings": {"function": name}, "trained": name == "model", "test_only": name == "model"} for name in METHODS},
        "clips": clips,
        "leaks": {"checked": True, "result": "Leak check: no footage.", "pairs": []}, "flags": [], "left_out": [], "failures": [],
    } | more  # fmt: skip


def results(**more) -> Results:
    """Two clips of 20 pairs at gap 4; the model, on bikes alone, is 6 dB below the blend and 7 dB below DIS."""
    rng, rows = np.random.default_rng(0), []
    for clip in ("bunny", "bikes"):
        for pair in range(20):
            base, motion = 30 + rng.normal(), 0.5 + pair % 3
            for t in (1, 2, 3):
                for method, offset in (("repeat", -2.0), ("linear blend", 0.0), ("DIS", 1.0), ("model", -6.0)):
                    if method == "model" and clip == "bunny":
                        continue
                    psnr = base + offset + 0.1 * rng.normal()
                    error = 65025 / 10 ** (psnr / 10)
                    rows.append((clip, 128, 4, 4 * pair, 4 * pair + t, t / 4, False, False, motion, method, error, psnr, 0.9, np.nan))
    columns = ["clip", "size", "gap", "start", "frame", "t", "cut", "repeated", "motion", "method", "mse", "psnr", "ssim", "lpips"]
    scores = pd.DataFrame(rows, columns=columns)
    compared = pd.concat([differences(scores, name, metric) for name in ("linear blend", "DIS") for metric in ("psnr", "ssim")])
    return Results(Path("nowhere"), scores, summary(scores), compared, record(**more))


# --- sentences -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((-7.04, -8.1, -6.0), "worse than DIS by 7.04 dB PSNR (95 % interval 6.00 to 8.10)"),
        ((1.5, 0.2, 2.8), "better than DIS by 1.50 dB PSNR (95 % interval 0.20 to 2.80)"),
        ((1.5, -0.1, 2.8), "not told apart from DIS in PSNR (+1.50 dB, 95 % interval −0.10 to +2.80)"),
        ((1.5, np.nan, np.nan), "1.50 dB above DIS in mean PSNR, an interval is not estimable (40 pairs, 8 are needed)"),
    ],
)
def test_words_follow_the_interval(values, expected):
    assert verdicts.comparison(next(pd.DataFrame([row(*values)]).itertuples())) == expected


def test_lower_is_better_for_lpips():
    (found,) = pd.DataFrame([row(0.3, 0.2, 0.4, metric="lpips")]).itertuples()
    assert verdicts.outcome(found, "lpips") == "worse"
    assert verdicts.comparison(found, "lpips").startswith("worse than DIS by 0.3000 LPIPS")


def test_one_good_clip_is_no_victory():
    rows = [row(2.0, 1.0, 3.0), row(0.1, -1.0, 1.0, gap=8), row(1.0, np.nan, np.nan, clip="all")]
    headlines, details = verdicts.verdict(pd.DataFrame(rows), "model", record())
    assert headlines == ["model does not beat DIS throughout in PSNR: of 2 comparisons (clip, size, gap) it is worse in 0, "
                         "not told apart in 1, better in 1, not estimable in 0."]
    assert "Across videos model minus DIS is not estimable (1 video, 8 are needed): these figures speak of their clips alone." in details
    assert any("LPIPS is not available" in line for line in details)


def test_only_test_clips_and_primary_gaps_count_for_a_trained_method():
    rows = [row(-2.0, -3.0, -1.0), row(5.0, 4.0, 6.0, clip="bunny"), row(5.0, 4.0, 6.0, gap=2)]
    headlines, details = verdicts.verdict(pd.DataFrame(rows), "model", record())
    assert headlines == ["model is worse than DIS in PSNR in every comparison of a clip, size and gap (1 of 1)."]
    assert not any("bunny" in line or "gap 2" in line for line in details)
    nothing, _ = verdicts.verdict(pd.DataFrame(rows[1:2], columns=DIFFERENCES), "model", record())
    assert "nothing was compared" in nothing[0]


def test_what_weakens_a_figure_is_said():
    leak = {"checked": True, "result": "LEAK: bikes shows footage of bunny.", "pairs": [{"leak": True}]}
    flags = [{"method": "model", "clip": "bikes", "reason": "the clip shares footage with bunny (split train)"}]
    more = record(leaks=leak, flags=flags, settings={"limit": 12}, failures=[{"method": "model", "clip": "x", "size": 128, "gap": 4}])
    said = "\n".join(verdicts.verdict(pd.DataFrame([row(5.0, 4.0, 6.0)]), "model", more)[1])
    for part in ("at most 12 pairs", "Proves nothing: model on bikes, as the clip shares", "LEAK: bikes", "model failed on 1"):
        assert part in said
    small = "\n".join(verdicts.verdict(pd.DataFrame([row(5.0, 4.0, 6.0, size=64)]), "model", record())[1])
    assert "No gap of at least 4 at 128 px was scored" in small


# --- tables and charts ---------------------------------------------------------------------------------------------


def test_the_score_table_says_what_it_rests_on():
    table = scorecard.score_table(results(), 128, 4)
    headings = [heading for heading, _ in table.groups]
    assert headings[1] == "bikes (test): clean 20 pairs, 60 frames; cuts included 20 pairs, 60 frames"
    assert headings[2].startswith("all videos on which every method was scored: clean 1 video, 20 pairs")
    bikes = table.frame.iloc[3:7]
    assert bikes["clean", "PSNR ↑"].str.contains("★").tolist() == [False, False, True, False]
    assert bikes["clean", "LPIPS ↓"].tolist() == ["n/a"] * 4 and bikes["clean", "exact"].tolist() == ["0"] * 4
    minus = bikes["clean PSNR minus that of [95 % interval]", "DIS"]
    assert re.fullmatch(r"−6\.9\d|−7\.0\d", minus["model"].split(" ")[0]) and minus["DIS"] == "–"
    last = table.frame.iloc[-4:]["clean PSNR minus that of [95 % interval]", "linear blend"]
    assert last["DIS"].endswith("[not estimable; 2 videos]") and last["model"].endswith("[not estimable]")


def test_charts_by_clip_and_by_motion():
    found = results()
    (chart,) = scorecard.clip_charts(found)
    assert [ax.get_title() for ax in chart.figure.axes] == ["minus linear blend, gap 4", "minus DIS, gap 4"]
    pieces = list(scorecard.motion_charts(found, scorecard.motion_tables(found, 0)))
    charts = [piece for piece in pieces if isinstance(piece, Chart)]
    assert [ax.get_title() for ax in charts[0].figure.axes] == ["bikes, gap 4", "bunny, gap 4"]  # the clip with the model comes first
    assert [label.get_text() for label in charts[0].figure.axes[0].get_xticklabels()] == ["below 1\nn = 7", "1-2\nn = 7", "2-4\nn = 6"]
    (sentence,) = pieces[1]
    start = "bikes, 128 px, gap 4, model minus linear blend by motion, in dB: below 1 px −5.99 [not estimable] (7 pairs); 1-2 px"
    assert sentence.startswith(start) and scorecard.undefined(found) == 0 and scorecard.same_frames(found)


def looks(figure: Figure) -> dict[str, tuple]:
    """Colour and mark of each method in the legend."""
    marks = zip(figure.legends[0].get_texts(), figure.legends[0].legend_handles, strict=True)
    return {name.get_text(): (mark.get_color(), mark.get_marker()) for name, mark in marks}


def test_a_method_looks_alike_in_all_charts_of_a_report():
    """Whatever the order of the scores and whoever is missing there: the charts of videos and of worlds, and the arrows of poses."""
    found = results()
    turned = dataclasses.replace(found, scores=found.scores[::-1], differences=found.differences[::-1])
    (clips,) = scorecard.clip_charts(turned)
    _, _, worlds, _ = scenecard.chapter(scene_scores(), 0, METHODS)
    videos, scenes = looks(clips.figure), looks(worlds.figure)
    assert len(videos.keys() & scenes.keys()) == 2 and all(videos[name] == scenes[name] for name in ("DIS", "model"))
    assert scenes["nothing moves"][0] not in {colour for colour, _ in videos.values()}
    pose = torch.eye(3, 4)
    pose[0, 3] = 1.0
    arrows = pose_comparison([pose], {"model": [pose]}, ["world"], scorecard.drawn_order(METHODS)).axes[0].texts
    assert [arrow.arrow_patch.get_edgecolor() for arrow in arrows] == [to_rgba("black"), to_rgba(videos["model"][0])]


def test_a_reference_that_failed_is_left_out_of_charts_and_strips(monkeypatch):
    found = results()
    more = found.scores.assign(gap=8, start=found.scores["start"] * 2)
    scores = pd.concat([found.scores, more[more["method"] != "DIS"]], ignore_index=True)
    compared = pd.concat([differences(scores, name) for name in ("linear blend", "DIS")])
    short = dataclasses.replace(found, scores=scores, summary=summary(scores, {(128, 8, "DIS")}), differences=compared)
    (chart,) = scorecard.clip_charts(short)
    titles = [ax.get_title() for ax in chart.figure.axes]
    assert titles == ["minus linear blend, gap 4", "minus linear blend, gap 8", "minus DIS, gap 4", ""]  # the last place is empty
    nowhere = dataclasses.replace(found, scores=more[more["method"] != "DIS"], summary=summary(more))
    assert list(scorecard.motion_tables(nowhere, 0)) == ["linear blend"]

    # DIS was scored on bunny alone: of the model's frames, all on bikes, it is not asked again
    kept = found.scores[(found.scores["method"] != "DIS") | (found.scores["clip"] == "bunny")]
    drawn = []
    monkeypatch.setattr(strips, "retrace", lambda rows, clips, size, gap, methods: drawn.append(list(methods)) or (None, {}))
    titles = []
    monkeypatch.setattr(strips, "comparison_strip", lambda *args, **options: titles.extend(options["titles"]))
    names = dict.fromkeys(("repeat", "linear blend", "DIS", "model"), PairMethod(blend))
    charts = list(strips.strips(dataclasses.replace(found, scores=kept), [], names))
    assert all(re.fullmatch(r"(best|worst): [+−]\d+\.\d+ dB\nbikes\nframe \d+", title) for title in titles) and titles
    assert drawn == [["model", "linear blend"]] and [chart.name for chart in charts] == ["strip_model_linear_blend_gap4"]


def test_equal_frame_numbers_of_two_clips_are_two_cases(monkeypatch):
    rows = [(clip, 128, 4, 0, 2, 0.5, False, False, method, psnr)
            for clip, gain in (("bikes", 3.0), ("bunny", -3.0)) for method, psnr in (("linear blend", 30.0), ("model", 30.0 + gain))]
    scores = pd.DataFrame(rows, columns=["clip", "size", "gap", "start", "frame", "t", "cut", "repeated", "method", "psnr"])
    seen = []
    monkeypatch.setattr(strips, "retrace", lambda rows, *_: seen.append(rows["clip"].tolist()) or (None, {}))
    monkeypatch.setattr(strips, "comparison_strip", lambda *args, **options: None)
    found = dataclasses.replace(results(), scores=scores, summary=results().summary)
    list(strips.strips(found, [], {"model": PairMethod(blend), "linear blend": PairMethod(blend)}, count=1))
    assert seen == [["bikes", "bunny"]]


def test_without_a_model_dis_is_judged_on_all_clips():
    found = results()
    kept = found.scores[found.scores["method"] != "model"]
    about = {name: one for name, one in found.record["methods"].items() if name != "model"}
    compared = differences(kept, "linear blend")
    bare = dataclasses.replace(found, scores=kept, summary=summary(kept), differences=compared, record=record(methods=about))
    assert scorecard.subjects(bare) == ["DIS"]
    (headline,), details = scorecard.judgement(bare)
    assert headline == "DIS is better than linear blend in PSNR in every comparison of a clip, size and gap (2 of 2)."
    assert sum("bunny" in line for line in details) == 1
    failed = dataclasses.replace(bare, record=record())
    (said,), _ = scorecard.judgement(failed)
    assert said == "model: nothing was compared, as no test clip has frames scored for it and for a reference."


def ramp(name: str = "clip") -> Clip:
    frames = np.repeat(np.arange(30, dtype=np.uint8) * 8, 32 * 32 * 3).reshape(30, 32, 32, 3)
    return Clip(name, Path(f"{name}.mp4"), "test", Fraction(25), frames, np.arange(30) / 25, (), (), "0" * 64, Path(name))


def test_best_and_worst_are_found_by_the_metric_and_drawn_again():
    rows = [("clip", 32, 4, start, start + 2, 0.5, cut, False, method, psnr + (bonus if method == "repeat" else 0))
            for start, bonus, cut in ((0, 0.0, False), (4, 3.0, False), (24, -5.0, False), (16, 9.0, True))
            for method, psnr in (("linear blend", 30.0), ("repeat", 30.0))]
    scores = pd.DataFrame(rows, columns=["clip", "size", "gap", "start", "frame", "t", "cut", "repeated", "method", "psnr"])
    best, worst = strips.extremes(scores, 32, 4, "repeat", "linear blend", count=1)
    assert best[["frame", "difference"]].values.tolist() == [[6, 3.0]]  # the pair across a cut does not count
    assert worst[["frame", "difference"]].values.tolist() == [[26, -5.0]]
    methods = {"linear blend": PairMethod(blend), "repeat": PairMethod(repeat)}
    truth, made = strips.retrace(pd.concat([best, worst]), [ramp()], 32, 4, methods)
    levels = {name: [round(float(frame.mean()) * 255) for frame in frames] for name, frames in {"truth": truth, **made}.items()}
    assert levels == {"truth": [48, 208], "linear blend": [48, 208], "repeat": [32, 192]}
    with pytest.raises(ConfigError, match="no method 'flow' at gap 4"):
        strips.extremes(scores, 32, 4, "flow", "repeat")
    near = pd.DataFrame({"clip": ["a", "a", "b", "a"], "frame": [4, 5, 5, 7]})
    assert strips.apart(near, 3).values.tolist() == [["a", 4], ["b", 5], ["a", 7]]


def test_settings_hashes_failures_and_the_command_are_told(tmp_path, monkeypatch):
    failures = [{"method": "mine", "clip": "bikes", "size": 128, "gap": 4, "message": "Method 'mine' returned NaN."}]
    said = provenance.checks(record(failures=failures, left_out=["Clip 'x' is short."]), None)
    assert said[0] == "Leak check: no footage." and "mine lost its rows on bikes, 128 px, gap 4: Method 'mine' returned NaN." in said
    assert any("LPIPS is not available" in line for line in said) and any("worlds were left out" in line for line in said)
    about = {"settings": {"checkpoint": "ab" * 32, "semantics": "repaired"}, "trained": True}
    definitions, methods = provenance.definitions(record(methods={"model": about}))
    assert methods.frame.iloc[0, 0] == "checkpoint abababababababab, semantics repaired" and definitions.prose
    command = provenance.command(ScoreSettings(run_dir="outputs/t", gaps=(4, 8)), "05_evaluate")
    assert command.startswith("papermill notebooks/05_evaluate.ipynb outputs/t/05_evaluate.ipynb -y ") and '"gaps": [4, 8]' in command


def test_identity_tests_as_a_table():
    columns = ["method", "test", "value", "unit", "limit", "verdict"]
    tests = pd.DataFrame([("a", "ends", np.inf, "dB", ">= 40", "passes"), ("a", "mirror", 21.0, "dB", ">= 40", "fails")], columns=columns)
    table, untested = provenance.identity_pieces(tests, ["b has no identity tests: ..."])
    assert table.groups == [("a: passes 1 of 2", 2)] and table.frame["measured"].tolist() == ["∞ dB (equal)", "21 dB"]
    assert untested and list(provenance.identity_pieces(tests[:0], [])) == []


def test_identity_runs_on_functions_and_survives_one_that_fails():
    def broken(first, second, times):
        return torch.stack([first / 0 * t for t in times])

    settings = ScoreSettings(sizes=(32,), worlds=0)
    tests, failed = lineup.identity(settings, [ramp()], {"linear blend": PairMethod(blend), "broken": PairMethod(broken)})
    assert tests["verdict"].tolist() == ["passes"] * 4 and len(failed) == 1 and failed[0].startswith("broken has no identity tests")
    tests, failed = lineup.identity(settings, [dataclasses.replace(ramp(), cuts=tuple(range(1, 30)))], {})
    assert tests.empty and "no clip has two frames" in failed[0]


# --- procedural worlds ---------------------------------------------------------------------------------------------


def scene_scores(model_error: float = 3.0) -> SceneScores:
    rows = []
    for world in range(9):
        for method, value in (("nothing moves", 2.0), ("DIS", 0.5), ("model", model_error)):
            rows.append(("1-2 px", world, "both", 32, 1.5, 1.0, method, "flow epe", np.nan, value + 0.1 * (world % 3), "px", ""))
        rows.append(("1-2 px", world, "both", 32, 1.5, 1.0, "model", "rotation error", np.nan, 1.0, "degrees", ""))
    table = pd.DataFrame(rows, columns=SCENE_COLUMNS)
    return SceneScores(Path("nowhere"), table, scene_summary(table), {"settings": {"size": 32, "least_parallax": 0.1}, "failures": []})


def test_a_model_that_knows_less_than_nothing_moves_is_said_to():
    said = scenecard.scene_verdict(scene_scores())
    assert said[0] == "model is worse than nothing moves in flow end-point error (px): +1.00, 95 % interval +1.00 to +1.00 over 9 worlds."
    assert scenecard.scene_verdict(scene_scores(1.0))[0].startswith("model is better than nothing moves")
    assert scenecard.signed(-0.0004, 2) == "−0.0004" and scenecard.signed(0.0, 2) == "+0.00"


def test_scenes_as_table_and_chart_or_left_out():
    sentences, table, *charts = scenecard.chapter(scene_scores(), 0, METHODS)
    assert [heading.split(" ↓")[0] for heading, _ in table.groups] == ["flow end-point error (px)", "rotation error (degrees)"]
    assert re.fullmatch(r"0\.60 \[0\.5\d, 0\.6\d\] \(9\)", table.frame.loc["DIS", "all that move"])
    assert len(charts) == 2 and charts[0].figure.axes[0].get_title() == "flow end-point error ↓"
    assert list(scenecard.chapter(None, 0, METHODS)) == ["Left out (worlds = 0)."] and sentences


# --- the page ------------------------------------------------------------------------------------------------------

SAY = "a <b>clip</b> & \"quotes\" $x^2$"


@pytest.fixture
def noise(tmp_path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def test_a_page_needs_nothing_but_itself(tmp_path, noise):
    page = Page(SAY, SAY)
    page.section(SAY)
    frame = pd.DataFrame({("clean", "PSNR"): ["1 ★", "2"], ("clean", "SSIM"): [SAY, "x"]}, index=[SAY, "b"])
    page.add(SAY, [SAY], Table(frame, SAY, [(SAY, 1), ("", 1)]), Picture.read(noise, SAY, SAY))
    text = page.write(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in text and text.count("a &lt;b&gt;clip&lt;/b&gt; &amp;") >= 9
    assert re.findall(r"\b(?:src|href)=(?!\"(?:data:image|#))", text) == [] and text.count('src="data:image/webp') == 1
    assert not any(word in text for word in ("<script", "<link", "@import", "url("))
    assert 'colspan="2">clean' in text and 'scope="row">b' in text and re.search(r'alt="[^"]+" width="400" height="400"', text)


def test_large_pictures_are_packed_and_small_ones_kept(tmp_path, noise):
    assert noise.stat().st_size > LARGE and Picture.read(noise, "a", "b").uri.startswith("data:image/webp;base64,")
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    small = Picture.read(tmp_path / "small.png", "a", "b")
    assert small.uri.startswith("data:image/png;base64,iVBOR") and (small.width, small.height) == (8, 8)
    with pytest.raises(MissingInputError, match=r"no picture .*nothing\.png"):
        Picture.read(tmp_path / "nothing.png", "a", "b")


def test_wrong_blocks_are_refused():
    with pytest.raises(ConfigError, match="call section"):
        Page("t").add("text")
    page = Page("t")
    page.section("s")
    with pytest.raises(ConfigError, match="int cannot stand on a page"):
        page.add(3)
    with pytest.raises(ConfigError, match="cover its 1 rows, not 2"):
        Table(pd.DataFrame({"a": [1]}), "", [("x", 2)])


def test_notebook_and_page_hold_the_same(tmp_path, monkeypatch, capsys):
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    book = start("05_evaluate", ScoreSettings(run_dir="outputs/t"))
    sheet, told = Sheet(book, "How good is it?"), []
    found = results()
    sheet.show("In words", scorecard.judgement(found))
    sheet.show("Scores", scorecard.score_tables(found))
    with monkeypatch.context() as patch:
        patch.setattr(notebook, "display", lambda figure, metadata: told.append(metadata["image/png"]["alt"]))
        sheet.show("Differences", scorecard.clip_charts(found))
    assert told == ["Chart of PSNR differences to linear blend and DIS, per clip."]
    sheet.show("Worlds", scenecard.chapter(None, 0, METHODS))
    sheet.show("Origin", provenance.origin(found.record, book, ScoreSettings(run_dir="outputs/t")))
    sheet.show("Empty", [])
    text = sheet.write().read_text(encoding="utf-8")
    assert (tmp_path / "outputs/t/figures/05_differences.png").is_file() and book.links == [Path("outputs/t/report.html")]
    assert list(book.figures) == ["05_differences.png"] and len(book.figures["05_differences.png"]) > 20  # told to the run's page, too
    printed = " ".join(capsys.readouterr().out.split())
    assert "- model is worse than linear blend in PSNR in every comparison" in printed
    assert "what this section needs was not scored." in printed
    assert f'alt="{told[0]}"' in text
    for part in ("model is worse than linear blend in PSNR in every", "Left out (worlds = 0).", "papermill notebooks/05_evaluate"):
        assert part in text
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", text) == ["In words", "Scores", "Differences", "Worlds", "Origin", "Empty"]
