"""What a user registers: where its name works afterwards, what is refused, and what a run remembers of it."""

from __future__ import annotations

import io
import json
import pickle
import sys
import textwrap

import pandas as pd
import pytest
import torch
from make_clips import pictures, save_images
from matplotlib.figure import Figure
from torch import nn

import vae4d
from vae4d import SharpAutoencoder4D, Synthesis, build_model, load_model, register
from vae4d.checkpoint import save_checkpoint
from vae4d.clips import sources
from vae4d.clips.cache import prepare
from vae4d.clips.datasets import open_dataset, prepare_dataset
from vae4d.clips.sources import find_sources
from vae4d.errors import CheckpointError, ClipError, ConfigError, MethodError, MissingInputError
from vae4d.evaluation.benchmark import benchmark
from vae4d.evaluation.methods import BASELINES, ModelMethod, baselines, blend
from vae4d.evaluation.units import travels
from vae4d.sharp import losses, training
from vae4d.sharp.training import SharpTrainConfig, train_sharp
from vae4d.synthesis import between

SIZES = {
    "planes": 2, "code_channels": 4, "feature_channels": (8, 8), "hidden_channels": 4, "matching_channels": 8,
    "geometry_channels": (8, 8, 8, 8), "volume_channels": 4, "fusion_channels": 4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def tables():
    """What a test registers is gone afterwards."""
    known = set(register._makers)
    yield
    for kind, name in set(register._makers) - known:
        register.release(kind, name)


def nearest(first, second, times):
    return torch.stack([first if t < 0.5 else second for t in times])


class Mixer(nn.Module):
    """The least that has the interface of a model; it has no parameters."""

    def encode(self, frame):
        return frame

    def synthesise(self, first, second, t=0.5, offset=None):
        nothing = torch.zeros(1)
        return Synthesis((1 - t) * first + t * second, nothing, nothing, nothing)


class Tiny(SharpAutoencoder4D):
    """A model of the sharp family."""


def edges(made, batch):
    return (made.fused.image - batch.target).diff(dim=-1).abs().flatten(1).mean(1)


def white(made, first, second):
    return Figure()


def clip_of(folder, count=9):
    return prepare(save_images(folder / "film", pictures(count, 64, 64)), folder / "cache", 32, "test")


def test_a_function_is_scored_beside_the_baselines(tmp_path):
    assert register.model("mine")(blend) is blend
    assert list(baselines()) == ["repeat", "linear blend", "Farneback", "DIS", "minterpolate", "mine"]
    methods = baselines(["linear blend", "mine"])
    results = benchmark([clip_of(tmp_path)], methods, (2, 4), tmp_path / "scores", lpips=False, workers=1, progress=lambda line: None)
    scores = pd.read_csv(results.folder / "scores.csv")
    own, plain = (scores[scores["method"] == name].drop(columns="method").reset_index(drop=True) for name in ("mine", "linear blend"))
    assert len(own) == 10 and own.equals(plain)
    register.forget("mine")
    assert "mine" not in BASELINES


def test_a_changed_function_is_another_method():
    namespace = {"__name__": "__main__"}
    settings = []
    for factor in (1, 2):
        exec(f"def same(first, second, times):\n    return {factor} * first", namespace)
        register.model("same")(namespace["same"])  # as a cell that is run again
        settings.append(baselines(["same"])["same"].settings)
    assert settings[0]["function"] == settings[1]["function"] == "__main__.same" and settings[0] != settings[1]


def test_a_module_with_the_interface_is_loaded_and_scored_by_name():
    register.model("mixer")(Mixer)
    model = load_model("mixer")
    assert isinstance(model, Mixer) and model is vae4d.load("mixer") and not model.training
    first, second = torch.zeros(3, 8, 8), torch.ones(3, 8, 8)
    assert between(model, first, second, (0.25, 0.5)).mean((1, 2, 3)).tolist() == [0.25, 0.5]
    register.model("object")(Mixer())
    assert register.digest(Mixer()) == register.digest(load_model("object"))
    with pytest.raises(MissingInputError, match="no checkpoint nobody"):
        load_model("nobody")


def test_a_model_whose_weights_differ_is_another_method():
    layers = [nn.Linear(2, 2) for _ in range(2)]
    layers.append(layers[0])
    digests = [register.digest(layer) for layer in layers]
    assert digests[0] == digests[2] != digests[1]


def test_a_subclass_of_a_family_is_built_saved_and_loaded(tmp_path):
    register.model("tiny", **SIZES)(Tiny)
    model = build_model("tiny", 3)
    assert type(model) is Tiny and model.config.preset == "tiny" and model.config.planes == 2
    path = save_checkpoint(tmp_path / "tiny.safetensors", model, "sharp")
    again = load_model(path)
    assert type(again) is Tiny and all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    method = ModelMethod(path)
    assert method.sharp and method.settings["source"] == register.digest(Tiny)
    assert type(pickle.loads(pickle.dumps(method))) is ModelMethod and travels(method)
    register.forget("tiny")
    with pytest.raises(CheckpointError, match=r"Unknown preset 'tiny'.*: use the version that wrote it, or register the model\.$"):
        load_model(path)


def test_what_a_module_registers_works_in_worker_processes_and_what_a_cell_registers_stays_here(tmp_path, monkeypatch):
    source = """
        import vae4d
        from vae4d.evaluation.methods import blend

        @vae4d.register.model("of a file")
        def mixed(first, second, times):
            return blend(first, second, times)

        @vae4d.register.model("class of a file", planes=2)
        class Mine(vae4d.SharpAutoencoder4D):
            def extra(self):
                return 1
    """
    (tmp_path / "my_models.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("my_models", None)
    import my_models

    path = save_checkpoint(tmp_path / "mine.safetensors", build_model("class of a file"), "sharp")
    method = ModelMethod(path)
    methods = baselines(["linear blend", "of a file"]) | {"class": method}
    lines = []
    results = benchmark([clip_of(tmp_path)], methods, (2,), tmp_path / "scores", lpips=False, workers=2, progress=lines.append)
    assert results.record["failures"] == [] and not any("calling process" in line for line in lines)
    monkeypatch.setattr(my_models.mixed, "__module__", "__main__")  # as in a notebook
    monkeypatch.setattr(my_models.Mine, "__module__", "__main__")
    assert not travels(baselines(["of a file"])["of a file"]) and not travels(method)


def train(folder, **options):
    options = {"preset": "tiny", "steps": 1, "bsize": 2, "size": 64, "worlds": 0, "device": "cpu", "mixed_precision": "no"} | options
    return train_sharp(SharpTrainConfig(str(folder), **options), lambda line: None)


def test_a_loss_joins_the_training_and_stands_in_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "VALIDATED", 2)
    register.model("tiny", **SIZES)(Tiny)
    train(tmp_path / "without")
    register.loss("edges", weight=0.5)(edges)
    train(tmp_path / "with")
    before, after = (pd.read_csv(tmp_path / name / "losses.csv").iloc[0] for name in ("without", "with"))
    assert after["edges"] > 0 and after["loss"] == pytest.approx(before["loss"] + 0.5 * after["edges"], rel=1e-5)
    assert after["image"] == before["image"]
    options = json.loads((tmp_path / "with" / "options.json").read_text())
    assert options["losses"] == {"edges": {"weight": 0.5, "source": register.digest(edges)}}
    assert "losses" not in json.loads((tmp_path / "without" / "options.json").read_text())
    recipe = vae4d.checkpoint.read_checkpoint(tmp_path / "with" / "best.safetensors")[0]["extra"]["recipe"]
    assert recipe["losses"] == options["losses"]
    assert train(tmp_path / "with").finished  # nothing changed: it goes on

    with pytest.raises(ConfigError, match=r"without does not learn from the registered loss 'edges': call register\.forget\('edges'\)"):
        train(tmp_path / "without")
    register.loss("edges", weight=0.25)(edges)
    with pytest.raises(ConfigError, match=r"with learns from loss 'edges' with weight 0\.5 and other code or weight now"):
        train(tmp_path / "with")
    register.forget("edges")
    with pytest.raises(ConfigError, match=r"learns from the registered loss 'edges' of weight 0\.5, unknown here: register it as then,"):
        train(tmp_path / "with")
    assert train(tmp_path / "with", restart=True).finished and (tmp_path / "with.old-1").is_dir()


@pytest.mark.parametrize(("returned", "said"), [
    (lambda made, batch: batch.t.mean(), r"'edges' returned shape \(\): return a tensor \(2,\), one value for each sample"),
    (lambda made, batch: 0.0, r"'edges' returned float: return a tensor \(2,\)"),
])
def test_a_loss_of_another_shape_is_refused(tmp_path, monkeypatch, returned, said):
    register.model("tiny", **SIZES)(Tiny)
    register.loss("edges", weight=1)(returned)
    with pytest.raises(ConfigError, match=said):
        train(tmp_path / "run")


def films(folder, count):
    return [save_images(folder / f"film {i}", pictures(6, 64, 64, seed=i)) for i in range(count)]


def test_a_data_set_is_prepared_and_opened_by_its_name(tmp_path):
    train_films, test_films = films(tmp_path / "a", 3), films(tmp_path / "b", 5)[3:]
    register.dataset("mine")(lambda: {"train": [str(path) for path in train_films], "test": tmp_path / "b" / "film 4"})
    assert [(entry.path, entry.split) for entry in find_sources("mine", tmp_path)][-1] == (test_films[1], "test")
    with pytest.raises(MissingInputError, match=r"'mine' at 32 px was not prepared .*: call prepare_dataset\('mine', 32\) first\.$"):
        open_dataset("mine", 32, tmp_path)
    prepare_dataset("mine", 32, tmp_path, progress=None)
    register.forget("mine")
    opened = open_dataset("mine", 32, tmp_path)  # in any process
    assert {split: len(opened.split(split)) for split in ("train", "validate", "test")} == {"train": 2, "validate": 1, "test": 1}


def test_a_list_is_split_by_content(tmp_path):
    register.dataset("listed")(lambda: films(tmp_path, 3))
    assert sorted(entry.split for entry in find_sources("listed", tmp_path)) == ["test", "train", "validate"]
    register.dataset("searched")(lambda: [tmp_path])
    assert {entry.path: entry.split for entry in find_sources("searched", tmp_path)} == {
        entry.path: entry.split for entry in find_sources("listed", tmp_path)
    }


@pytest.mark.parametrize(("returned", "error", "said"), [
    (["nowhere.mp4"], ConfigError, r"'mine' returned nowhere\.mp4, which does not exist"),
    ({"learn": []}, ConfigError, r"'mine' returned a split 'learn': name them train, validate, test"),
    (7, ConfigError, r"'mine' returned int: return paths, or \{'train'"),
    ([], ClipError, r"'mine' returned no video and no folder"),
])
def test_a_data_set_of_something_else_is_refused(tmp_path, returned, error, said):
    register.dataset("mine")(lambda: returned)
    with pytest.raises(error, match=said):
        find_sources("mine", tmp_path)


def test_a_view_returns_a_figure_or_a_sentence():
    register.view("white")(white)
    assert isinstance(register.views["white"](None, None, None), Figure)
    register.view("nothing")(lambda made, first, second: None)
    with pytest.raises(MethodError, match=r"View 'nothing' returned NoneType: return a matplotlib Figure\."):
        register.views["nothing"](None, None, None)
    register.view("broken")(lambda made, first, second: made.depth)
    with pytest.raises(MethodError, match=r"View 'broken' failed \(AttributeError: .*depth.*\): correct it and run its cell again\.$"):
        register.views["broken"](object(), None, None)


def test_a_view_of_pyplot_leaves_no_figure_behind():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    register.view("plotted")(lambda made, first, second: pyplot.subplots()[0])
    figure = register.views["plotted"](None, None, None)
    assert pyplot.get_fignums() == before
    figure.savefig(io.BytesIO())


def test_a_faulty_cell_leaves_what_it_registered_before():
    namespace = {"__name__": "__main__"}
    for kind, arguments in (("model", "first, second, times"), ("view", "made, first, second"), ("dataset", "")):
        for code in (f"def same({arguments}):\n    return 7", "def same(wrong):\n    return 7"):
            exec(code, namespace)
            add = getattr(register, kind)("same")
            if "wrong" in code:
                with pytest.raises(ConfigError, match="'same' takes"):
                    add(namespace["same"])
            else:
                add(namespace["same"])
    assert "same" in BASELINES and "same" in register.views and "same" in sources.OWN
    register.model("tiny", **SIZES)(Tiny)
    with pytest.raises(ConfigError, match="Unknown model field 'depth'"):
        register.model("tiny", depth=2)(Tiny)
    register.loss("mine", 1.0)(edges)
    with pytest.raises(ConfigError, match="The weight of loss"):
        register.loss("mine", -1.0)(edges)
    assert losses.WEIGHTS["mine"] == 1.0 and isinstance(build_model("tiny"), Tiny)


@pytest.mark.parametrize(("add", "what", "said"), [
    (register.model("DIS"), blend, "There is a model 'DIS' already, vae4d's own"),
    (register.model("small"), blend, "There is a model 'small' already, vae4d's own"),
    (register.model("a/b"), blend, "'a/b' is no name for a model"),
    (register.model("mine"), lambda a, b: a, r"'mine' takes \(a, b\): a model takes \(first, second, times\)"),
    (register.model("mine"), 3, "is to be a model, and int cannot be called"),
    (register.model("mine"), nn.Linear, "Model 'mine' has no encode"),
    (register.model("mine", planes=2), Mixer, r"takes no sizes \(planes\)"),
    (register.model("mine", depth=2), Tiny, "Unknown model field 'depth'"),
    (register.loss("flow", 1.0), edges, "There is a loss 'flow' already"),
    (register.loss("loss", 1.0), edges, "There is a loss 'loss' already"),
    (register.loss("mine", 0.0), edges, r"The weight of loss 'mine' is 0\.0"),
    (register.loss("mine", "1"), edges, "The weight of loss 'mine' is '1'"),
    (register.loss("mine", 1.0), white, r"a loss takes \(made, batch\)"),
    (register.dataset("samples"), list, "There is a data set 'samples' already"),
    (register.dataset("HMDB51"), list, "There is a data set 'HMDB51' already"),
    (register.dataset("mine"), edges, r"a data set takes \(\)"),
    (register.view("frame_strip"), white, "There is a view 'frame_strip' already"),
    (register.view("depth"), white, "There is a view 'depth' already, vae4d's own"),
    (register.view("mine"), edges, r"a view takes \(made, first, second\)"),
])
def test_wrong_names_and_signatures(add, what, said):
    with pytest.raises(ConfigError, match=said) as caught:
        add(what)
    assert str(caught.value).count(". ") <= 1 and "mine" not in {name for _, name in register._makers}


def test_another_function_does_not_take_a_registered_name():
    register.loss("mine", 1.0)(edges)
    with pytest.raises(ConfigError, match=r"a loss 'mine' already, registered by .*edges: choose another name, or forget\('mine'\) first"):
        register.loss("mine", 1.0)(lambda made, batch: batch.t)
    register.model("mine")(nearest)  # of another kind
    register.forget("mine")
    assert "mine" not in losses.WEIGHTS and "mine" not in BASELINES
    with pytest.raises(ConfigError, match="Nothing was registered as 'mine': registered are no names"):
        register.forget("mine")
