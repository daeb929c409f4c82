"""The explorer's core: a pair of frames, pictures by method, moment and camera, compositions, views, files."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from make_clips import encode, pictures
from PIL import Image
from test_showcase import make_clip, sample_clip

from vae4d import build_model, register
from vae4d.checkpoint import save_checkpoint
from vae4d.clips.clip import Clip
from vae4d.clips.datasets import open_dataset
from vae4d.errors import ClipError, ConfigError, MethodError, MissingInputError, VideoError
from vae4d.evaluation.methods import blend
from vae4d.explorer import (
    TRUTH,
    Explorer,
    ExploreSettings,
    View,
    canvas,
    clips_of,
    draw,
    explorer_of,
    exports,
    latency,
    methods_of,
    modes,
    uploads,
)  # fmt: skip
from vae4d.explorer.beliefs import BELIEFS, beliefs
from vae4d.explorer.core import default_pair

TURN = (0.02, 0.0, 0.0, 0.0, 0.0, 0.0)


def moving_clip(count: int = 10, **changes) -> Clip:
    """A clip of 32 px whose texture moves 3 px a frame."""
    return dataclasses.replace(make_clip(count, name="moving"), frames=np.stack(pictures(count, 32, 32, seed=1)), **changes)


@pytest.fixture(scope="module")
def models():
    """Both families with random weights, the faithful one as if its flow were trained."""
    small = build_model("small", seed=1)
    small.flow_trained = True
    return {"sharp": build_model("sharp", seed=1), "small": small}


@pytest.fixture
def explorer(models):
    return Explorer(models | {"linear blend": blend}, moving_clip(), 2, 4)


def shade(level: float, size: int = 16) -> torch.Tensor:
    return torch.full((3, size, size), level)


def test_a_frame_is_encoded_once_for_each_model(explorer, models, monkeypatch):
    count = []

    def counted(name, encode):
        return lambda frame: count.append(name) or encode(frame)

    for name, model in models.items():
        monkeypatch.setattr(model, "encode", counted(name, model.encode))
    for t in (0.0, 0.3, 0.7):
        for name in explorer.names:
            explorer.picture(name, t), explorer.picture(name, t, TURN)
    assert sorted(count) == ["sharp", "sharp", "small", "small"]
    explorer.choose(explorer.clip, 6, 3)  # begins where the other pair ended
    explorer.picture("small", 0.5)
    assert count[4:] == ["small"]
    explorer.choose(moving_clip(), 6, 3)  # another clip shares nothing
    explorer.picture("small", 0.5)
    assert count[5:] == ["small", "small"]


def test_a_moment_is_synthesised_once(explorer, models, monkeypatch):
    synthesise, count = models["sharp"].synthesise, []
    monkeypatch.setattr(models["sharp"], "synthesise", lambda *given: count.append(given) or synthesise(*given))
    for fraction in (0.2, 0.4, 0.6):  # the line moves, the picture is the same
        draw(explorer, View(("sharp", TRUTH), 0.3, mode=modes.SPLIT, fraction=fraction))
    explorer.synthesis("sharp", 0.3)
    assert len(count) == 1
    draw(explorer, View(("sharp",), 0.3, TURN))
    assert len(count) == 2


def test_both_ends_give_back_the_frames_and_the_camera_moves_models_alone(explorer):
    for name in ("sharp", "linear blend", TRUTH):
        assert torch.allclose(explorer.picture(name, 0.0), explorer.clip.tensor(2), atol=1 / 255), name
        assert torch.allclose(explorer.picture(name, 1.0), explorer.clip.tensor(6), atol=1 / 255), name
    moved = {name: not torch.equal(explorer.picture(name, 0.5), explorer.picture(name, 0.5, TURN)) for name in explorer.names}
    assert moved == {"sharp": True, "small": True, "linear blend": False, TRUTH: False}
    assert all(image.shape == (3, 32, 32) and image.device.type == "cpu" for image in (explorer.picture(n, 0.5) for n in explorer.names))


def test_the_truth_is_the_nearest_frame_by_time_stamps(explorer):
    found = [explorer.truth(t) for t in (0.0, 0.25, 0.4, 1.0)]
    assert [(truth.number, truth.exact) for truth in found] == [(2, True), (3, True), (4, False), (6, True)]
    explorer.choose(moving_clip(times=np.array([0.0, 0.1, 0.4, 1, 2, 3, 4, 5, 6, 7])), 0, 3)
    truth = explorer.truth(0.39)
    assert (truth.number, truth.t, truth.exact) == (2, 0.4, False)


def test_what_cannot_be_chosen_is_said_and_the_pair_stays(explorer):
    with pytest.raises(ClipError, match=r"^clip has one frame, .*choose a clip of two or more\.$"):
        explorer.choose(make_clip(1))
    with pytest.raises(ConfigError, match=r"^moving has frames 0 to 9, not 8 and 12: choose start and gap within\.$"):
        explorer.choose(explorer.clip, 8, 4)
    assert (explorer.start, explorer.gap) == (2, 4)
    for t in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match=r"^t is .*: a moment between the two frames lies in \[0, 1\]\.$"):
            explorer.picture("linear blend", t)
    for offset in ((0.0,) * 5, (float("nan"), *(0.0,) * 5)):
        with pytest.raises(ConfigError, match="give six finite numbers"):
            explorer.picture("linear blend", 0.5, offset)
    for offset in ((1.6, *(0.0,) * 5), (*(0.0,) * 5, -2.1)):
        with pytest.raises(ConfigError, match=r"turn by at most a quarter \(pi / 2 radians\) and move by at most 2 cube units\.$"):
            explorer.picture("sharp", 0.5, offset)
    with pytest.raises(ConfigError, match=r"^Unknown method 'linear blnd'. Did you mean 'linear blend'"):
        explorer.picture("linear blnd", 0.5)
    with pytest.raises(ConfigError, match=r"^linear blend is no model .* choose one of sharp, small\.$"):
        explorer.synthesis("linear blend", 0.5)
    with pytest.raises(ConfigError, match="choose another name"):
        Explorer({TRUTH: blend}, moving_clip())


def test_a_frame_that_cannot_be_read_leaves_the_pair(explorer, monkeypatch):
    before = explorer.first, explorer.second
    damaged = moving_clip()
    monkeypatch.setattr(type(damaged), "tensor", lambda clip, index: 1 / 0 if index == 7 else torch.zeros(3, 32, 32))
    with pytest.raises(ZeroDivisionError):
        explorer.choose(damaged, 3, 4)
    assert explorer.clip is not damaged and (explorer.start, explorer.gap) == (2, 4) and (explorer.first, explorer.second) == before


def test_a_pair_in_the_middle_of_the_longest_shot():
    assert default_pair(make_clip(20, cuts=(4, 15)), 4) == (7, 4)  # 4 to 14 has 11 frames, 3 before and 3 after
    assert default_pair(make_clip(20, cuts=(4, 15)), 99) == (4, 10)
    assert default_pair(make_clip(3, cuts=(1, 2)), 2) == (0, 1)
    assert default_pair(make_clip(2), 8) == (0, 1)
    sample = sample_clip()
    assert default_pair(sample, 8) == (222, 8)  # chosen by eye
    assert default_pair(sample, 99) == (58, 99)  # too long for that shot


def test_a_split_shows_both_sides_of_its_line():
    image = canvas.split({"dark": shade(0.2), "bright": shade(0.8)}, 0.25)
    row = np.asarray(image)[-10, :, 0]
    line = image.width // 4
    assert set(row[: line - 4]) == {51} and set(row[line + 4 :]) == {204}
    assert set(np.asarray(canvas.split({"dark": shade(0.2), "bright": shade(0.8)}, 1.0))[-10, :-4, 0]) == {51}
    with pytest.raises(ConfigError, match="takes two pictures of one size"):
        canvas.split({"dark": shade(0.2), "bright": shade(0.8, 32)}, 0.5)
    with pytest.raises(ConfigError, match=r"not at 1\.5"):
        canvas.split({"dark": shade(0.2), "bright": shade(0.8)}, 1.5)


def test_errors_are_red_where_too_bright_and_blue_where_too_dark():
    truth = shade(0.5)
    made = {"bright": truth + 8 / 255, "dark": truth - 4 / 255, "right": truth}
    said = [canvas.error_note(image, truth) for image in made.values()]
    assert said == ["30.1 dB, |error| 8.0; +8.0, too bright", "36.1 dB, |error| 4.0; -4.0, too dark", "equal to the true frame"]
    both = torch.cat([truth[:, :8] + 8 / 255, truth[:, 8:] - 8 / 255], dim=1)
    assert canvas.error_note(both, truth) == "30.1 dB, |error| 8.0; as bright on average"
    image = np.asarray(canvas.error_maps(made, truth, "true frame 7")).astype(int)
    side = canvas.tile_width(4, 16)
    down = 2 * canvas.LINE + side // 2  # three tiles a row, the truth first
    bright, dark = image[down, side + canvas.GAP + 9], image[down, 2 * (side + canvas.GAP) + 9]
    right = image[down + side + 2 * canvas.LINE + canvas.GAP, 9]
    assert bright[0] > bright[2] + 100 and dark[2] > dark[0] + 50 and right.min() > 240
    with pytest.raises(ConfigError, match=r"truth's size \(3, 16, 16\)"):
        canvas.error_maps({"large": shade(0.5, 32)}, truth, "frame")
    with pytest.raises(ConfigError, match="choose a method"):
        canvas.error_maps({}, truth, "frame")


def test_pictures_are_enlarged_so_that_names_can_be_read():
    one, five = (canvas.side_by_side({str(i): shade(0.5, 128) for i in range(count)}) for count in (1, 5))
    assert one.width == canvas.TILE[1] and five.width <= canvas.WIDTH and five.height > 2 * five.width // 3
    assert canvas.side_by_side({"large": shade(0.5, 512)}).width == 512
    assert canvas.as_png(one).startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="choose a method"):
        canvas.side_by_side({})


def test_what_stands_beside_a_picture(explorer):
    grey = Explorer({"linear blend": blend, "off by one": lambda a, b, times: blend(a, b, times) + 1 / 255}, make_clip(10), 2, 4)
    view = View(("linear blend", "off by one", TRUTH), 0.25)
    said = {name: modes.note(grey, view, name, grey.picture(name, view.t)) for name in view.methods}
    assert said == {"linear blend": "equal to the true frame", "off by one": "48.1 dB", TRUTH: "frame 3"}
    between, moved = dataclasses.replace(view, t=0.3), dataclasses.replace(view, offset=TURN)
    assert modes.note(grey, between, "off by one", shade(0)) == "" and modes.note(grey, between, TRUTH, shade(0)) == "frame 3, of t = 0.25"
    assert modes.note(grey, moved, "linear blend", shade(0)) == "knows no camera"
    assert modes.sentences(grey, view) == []
    assert modes.sentences(grey, between) == ["No frame of the clip falls on t = 0.30: the nearest one, frame 3, is shown."]
    assert modes.sentences(grey, moved) == ["linear blend and off by one know no camera: time moves them, the camera does not."]
    error = dataclasses.replace(moved, t=0.3, mode=modes.ERROR)
    assert modes.caption(grey, error) == (
        "error: linear blend (equal to the true frame), off by one (48.1 dB, |error| 1.0; +1.0, too bright); t = 0.25"
    )
    assert modes.caption(grey, dataclasses.replace(view, mode=modes.SPLIT)).count("(") == 2  # the third is not shown
    assert modes.sentences(grey, error) == [
        "The error is that of frame 3 (t = 0.25), as the clip has no frame nearer and a moved camera has no truth."
    ]
    cut = Explorer({"linear blend": blend}, make_clip(10, cuts=(4,)), 2, 4)
    assert modes.sentences(cut, View(("linear blend",)))[0].startswith("Between the two frames lies a cut (frame 4 ")


def test_modes_say_what_they_need(explorer):
    for mode in (modes.SPLIT, modes.FLICKER):
        with pytest.raises(ConfigError, match=rf"^The mode '{mode}' compares two methods, and only small is chosen: tick a second one\.$"):
            draw(explorer, View(("small",), mode=mode))
    with pytest.raises(ConfigError, match="tick at least one"):
        View(())
    with pytest.raises(ConfigError, match="Unknown mode"):
        View(("small",), mode="slit")
    first, second = (draw(explorer, View(("small", TRUTH), mode=modes.FLICKER, second=second)) for second in (False, True))
    assert first.size == second.size and first.tobytes() != second.tobytes()


def test_every_view_of_a_sharp_model_and_what_others_lack(explorer, models):
    for name, figure in BELIEFS.items():
        assert figure(explorer, "sharp", 0.3, TURN).axes, name
    lacks = {}
    for name, figure in BELIEFS.items():
        try:
            figure(explorer, "small", 0.3)
        except ConfigError as error:
            lacks[name] = str(error)
    assert lacks == {
        view: f"small says nothing of {what}: choose another model for this view."
        for view, what in {"depth": "depth", "motion": "motion", "shares": "whose pixels it takes and what moves by itself"}.items()
    }
    with pytest.raises(ConfigError, match="is no model and believes nothing"):
        BELIEFS["occupancy"](explorer, "linear blend", 0.3)
    base = Explorer({"base": build_model("small")}, explorer.clip)
    with pytest.raises(ConfigError, match="base has no voxel flow, as its flow stage is not trained"):
        BELIEFS["voxel flow"](base, "base", 0.3)
    assert BELIEFS["occupancy"](base, "base", 0.3).axes


class Bare(torch.nn.Module):
    """The least that a model of one's own may be: it knows no camera, and says nothing but its picture."""

    def encode(self, frame):
        return frame

    def synthesise(self, first, second, t):
        return SimpleNamespace(image=(1 - t) * first + t * second, pose=None, voxel_flow=None, codes=torch.zeros(1))


def test_registered_models_are_methods_and_what_they_lack_is_a_sentence(tmp_path):
    def within(first, second, times):
        assert all(0 < t < 1 for t in times)
        return blend(first, second, times)

    register.model("bare")(Bare)
    register.model("within")(within)
    try:
        methods = methods_of(("within",))
        assert list(methods) == ["within", "bare", "linear blend", "DIS warp"]
        explorer = Explorer(methods, moving_clip(), 2, 4)
        for name in ("within", "bare"):
            for t in (0.0, 0.5, 1.0):
                assert torch.allclose(explorer.picture(name, t, TURN), explorer.picture("linear blend", t), atol=1e-6), (name, t)
        view = View(("bare", "within"), 0.5, TURN)
        assert modes.sentences(explorer, view) == ["bare and within know no camera: time moves them, the camera does not."]
        exports.export("its data (npz)", tmp_path, explorer, "bare", view, 0.05)
        lacks = {}
        for name, figure in beliefs().items():
            with pytest.raises((ConfigError, MethodError)) as caught:
                figure(explorer, "bare", 0.5)
            lacks[name] = str(caught.value)
    finally:
        register.forget("bare")
        register.forget("within")
    assert lacks["depth"] == "bare says nothing of depth: choose another model for this view."
    assert lacks["voxel flow"] == "bare says nothing of voxel flow: choose another model for this view."
    assert lacks["camera path"] == "bare has no camera path: choose a model of vae4d's own, such as 'sharp'."
    assert lacks["occupancy"].startswith("bare says something that this view cannot show (IndexError: ")


def fails(*given):
    raise ValueError("a fault")


@pytest.mark.parametrize(("method", "sentence"), [
    (fails, r"^Method 'mine' failed \(ValueError: a fault\): correct it and run its cell again\.$"),
    (lambda first, second, times: first, r"^Method 'mine' returned shape \(3, 32, 32\), not \(1, 3, 32, 32\) for moving .*"),
    (lambda first, second, times: 255 * first[None], r"^Method 'mine' returned values from .* divided by 255\.$"),
    (SimpleNamespace(encode=fails, synthesise=fails, parameters=lambda: iter(())), r"^Method 'mine' failed \(ValueError: a fault\)"),
])
def test_faults_of_ones_own_method_are_a_sentence(method, sentence):
    with pytest.raises(MethodError, match=sentence):
        Explorer({"mine": method}, moving_clip(), 2, 4).picture("mine", 0.5)


def test_optical_flow_shows_its_motion():
    pytest.importorskip("cv2")
    from vae4d.evaluation.optical_flow import FlowWarp, dis_flow

    assert BELIEFS["motion"](Explorer({"DIS warp": FlowWarp(dis_flow)}, moving_clip()), "DIS warp", 0.5).axes


def test_exports_hold_what_was_shown(explorer, tmp_path):
    view = View(("sharp", "linear blend"), 0.25, TURN)
    one, two = (exports.export("this picture (PNG)", tmp_path, explorer, "sharp", view, 0.05) for _ in range(2))
    assert (one.name, two.name) == ("moving_2-6_1.png", "moving_2-6_2.png")
    assert np.array_equal(np.asarray(Image.open(one)), np.asarray(draw(explorer, view)))
    with np.load(exports.export("its data (npz)", tmp_path, explorer, "sharp", view, 0.05)) as data:
        assert {"image", "depth", "motion", "pose", "weights", "own", "density", "voxel_flow"} <= set(data)
        assert (float(data["t"]), str(data["clip"]), data["frames"].tolist()) == (0.25, "moving", [2, 6])
        assert data["offset"].tolist() == list(TURN) and data["depth"].shape == (32, 32) and data["motion"].shape == (2, 2, 32, 32)
        assert np.array_equal(data["image"], explorer.picture("sharp", 0.25, TURN).numpy())
    with np.load(exports.export("its data (npz)", tmp_path, explorer, "linear blend", view, 0.05)) as data:
        assert set(data) == {"images", "methods", "image", "t", "offset", "clip", "frames", "method"}
        assert data["methods"].tolist() == ["sharp", "linear blend"] and data["images"].shape == (2, 3, 32, 32)
        assert np.array_equal(data["images"][0], explorer.picture("sharp", 0.25, TURN).numpy())
    error = dataclasses.replace(view, t=0.3, mode=modes.ERROR)
    with np.load(exports.export("its data (npz)", tmp_path, explorer, "sharp", error, 0.05)) as data:  # what is shown, not what is asked
        assert float(data["t"]) == 0.25 and not data["offset"].any() and data["methods"].tolist() == ["sharp", "linear blend", TRUTH]
    with pytest.raises(ConfigError, match="Unknown export"):
        exports.export("a print", tmp_path, explorer, "sharp", view, 0.05)


def test_films_run_from_the_first_frame_to_the_second(explorer, tmp_path):
    view = View(("linear blend",), 0.3)
    film = exports.export("sweep over time (GIF)", tmp_path, explorer, "linear blend", view, 0.05)
    with Image.open(film) as shown:
        assert shown.n_frames == exports.MOMENTS + 1 and shown.info["loop"] == 0
    frames = list(exports.sweep(explorer, view))
    for place, end in ((0, 0.0), (-1, 1.0)):
        assert frames[place].tobytes() == draw(explorer, dataclasses.replace(view, t=end)).tobytes()
    assert len(list(exports.orbiting(explorer, view, 0.05))) == exports.VIEWS
    flickering = dataclasses.replace(view, methods=("linear blend", TRUTH), mode=modes.FLICKER)
    still = [image.tobytes() for image in exports.orbiting(explorer, flickering, 0.0)]
    assert len(set(still)) == 2 and still[0] != still[exports.RATE // 2] and still[0] == still[exports.RATE]
    with pytest.raises(ConfigError, match=r"^A moved camera has no truth, .*: choose another mode than 'error'\.$"):
        exports.orbiting(explorer, dataclasses.replace(view, mode=modes.ERROR), 0.05)
    pytest.importorskip("av")
    from vae4d.workbook.showcase import read_back

    back = read_back(exports.export("sweep over time (MP4)", tmp_path, explorer, "linear blend", view, 0.05))
    assert (back.frames, back.fps) == (exports.MOMENTS + 1, Fraction(exports.RATE))


def test_an_upload_becomes_a_clip_and_nothing_stays_of_what_is_none(tmp_path):
    pytest.importorskip("av")
    good, single = (encode(tmp_path / f"{n}.mp4", pictures(n, 48, 48)).read_bytes() for n in (5, 1))
    videos = tmp_path / "data" / "videos"

    def take(name: str, content: bytes) -> Clip:
        return uploads.take(name, content, 32, tmp_path / "data")

    for name, content, sentence in (
        ("big.mp4", bytes(uploads.LARGEST + 1), r"^big.mp4 is 7.0 MB, too large .* drop the file into .*/videos/ and press"),
        ("notes.txt", b"hello", r"^notes.txt is not named as a video: give a file that ends in .mp4"),
        ("no.mp4", b"this is no video", r"no.mp4 cannot be opened as a video"),
        ("empty.mp4", b"", r"empty.mp4 is empty"),
    ):
        with pytest.raises(VideoError, match=sentence):
            take(name, content)
    with pytest.raises(ClipError, match=r"^one.mp4 has one frame, "):
        take("one.mp4", single)
    assert not videos.exists() or not list(videos.iterdir())
    clip = take(r"C:\films\five.mp4", good)
    assert (clip.name, len(clip), clip.size, clip.split) == ("five", 5, 32, "test") and (videos / "five.mp4").read_bytes() == good
    assert take("five.mp4", good).sha256 == clip.sha256
    assert take("copy.mp4", good).sha256 == clip.sha256 and [path.name for path in videos.iterdir()] == ["five.mp4"]
    with pytest.raises(VideoError, match="is there already and is another video: give yours another name"):
        take("five.mp4", encode(tmp_path / "another.mp4", pictures(6, 48, 48)).read_bytes())
    assert (videos / "five.mp4").read_bytes() == good


def test_an_upload_of_a_sample_writes_nothing(tmp_path):
    pytest.importorskip("av")
    sample = encode(tmp_path / "data" / "samples" / "bigbuckbunny.mp4", pictures(5, 48, 48))
    clip = uploads.take("bunny.mp4", sample.read_bytes(), 32, tmp_path / "data")
    assert clip.name == "bigbuckbunny" and not (tmp_path / "data" / "videos").exists()


def test_an_interrupted_upload_leaves_no_file(tmp_path, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(uploads, "prepare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        uploads.take("five.mp4", encode(tmp_path / "five.mp4", pictures(5, 48, 48)).read_bytes(), 32, tmp_path / "data")
    assert not list((tmp_path / "data" / "videos").iterdir())


def test_settings_name_clips_and_methods(tmp_path):
    pytest.importorskip("av")
    for name, count in (("test/long", 6), ("test/one", 1), ("train/other", 4)):
        encode(tmp_path / "films" / f"{name}.mp4", pictures(count, 48, 48, seed=len(name)))
    checkpoints = [tmp_path / place / "run" / "best.safetensors" for place in ("quick", "full")]
    for path in checkpoints:
        save_checkpoint(path, build_model("sharp"), "sharp")
    settings = ExploreSettings(dataset=str(tmp_path / "films"), input_size=32, models=tuple(map(str, checkpoints)))
    clips = clips_of(settings, tmp_path / "data")
    assert list(clips) == ["long", "other"]  # test first; a single frame is no clip to move in
    methods = methods_of(settings.models)
    explorer = explorer_of(settings, clips, methods)
    second = f"sharp ({checkpoints[1].with_suffix('').as_posix()})"  # the short name is taken
    assert explorer.names == ["sharp (run/best)", second, "linear blend", "DIS warp", TRUTH] and (explorer.start, explorer.gap) == (0, 4)
    assert explorer_of(dataclasses.replace(settings, clip="other", start=1, gap=2), clips, methods).clip.name == "other"
    with pytest.raises(ConfigError, match="Unknown clip 'lon'"):
        explorer_of(dataclasses.replace(settings, clip="lon"), clips, methods)
    taken = latency(Explorer({"linear blend": blend}, explorer.clip), 2)
    assert list(taken) == ["the panel as it opens", "linear blend", TRUTH] and min(taken.values()) > 0


def test_the_first_clip_is_a_test_clip_ones_own_before_the_samples(tmp_path):
    pytest.importorskip("av")
    root = tmp_path / "data"
    for seed, name in enumerate(("samples/bigbuckbunny", "samples/carphone_pristine", "samples/bikes", "videos/train/mine")):
        encode(root / f"{name}.mp4", pictures(4, 48, 48, seed=seed))
    settings = ExploreSettings(input_size=32, video_limit=1)
    assert list(clips_of(settings, root)) == ["bikes", "carphone_pristine", "mine", "bigbuckbunny"]
    assert len(open_dataset("samples", 32, root).clips) == 4  # video_limit leaves no part of a data set behind
    encode(root / "videos" / "own.mp4", pictures(4, 48, 48, seed=9))
    assert next(iter(clips_of(settings, root, fresh=True))) == "own"


def test_a_limit_leaves_no_part_of_a_data_set_behind(tmp_path):
    pytest.importorskip("av")
    for seed in range(3):
        encode(tmp_path / "films" / "test" / f"{seed}.mp4", pictures(4, 48, 48, seed=seed))
    settings = ExploreSettings(dataset=str(tmp_path / "films"), input_size=32, video_limit=1)
    assert len(clips_of(settings, tmp_path / "data")) == 1
    with pytest.raises(MissingInputError, match="was not prepared"):
        open_dataset(settings.dataset, 32, tmp_path / "data")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"t": 1.5}, "t is 1.5"), ({"models": ()}, "give different checkpoints"), ({"gap": 0}, "gap is 0"), ({"input_size": 40}, "of 16"),
        ({"orbit_angle": 0.14}, r"orbit_angle is 0\.14: .* at most 0\.1396 radians \(8 degrees\), give less"),
    ],
)
def test_settings_out_of_range(change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ExploreSettings(**change)
