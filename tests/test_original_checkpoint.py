"""Checkpoints of the original system load, are written back as it would, and cannot do harm."""

from __future__ import annotations

import copy
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from golden_recipe import GOLDEN, golden_clip, golden_model

from vae4d import build_model, load_model
from vae4d.__main__ import main
from vae4d.checkpoint import convert, read_checkpoint, save_checkpoint
from vae4d.errors import CheckpointError, ConfigError, MissingInputError, StorageError
from vae4d.faithful.model import BASE_MODULES, FLOW_MODULES
from vae4d.faithful.original_checkpoint import read_original, write_original


def original(model: torch.nn.Module, modules=BASE_MODULES + FLOW_MODULES, prefix: str = "module.") -> dict:
    """What the original system saves: a state dict for each module, each wrapped in DataParallel."""
    return {name: {prefix + key: value for key, value in model.get_submodule(name).state_dict().items()} for name in modules}


@pytest.fixture(scope="module")
def model():
    return build_model("small", seed=3)


@pytest.fixture
def held(model):
    """A flow checkpoint of the preset `small`, to be altered."""
    return original(model)


def saved(held: object, path: Path, legacy: bool = False) -> Path:
    torch.save(held, path, _use_new_zipfile_serialization=not legacy)
    return path


def refused(path: Path, message: str, **options) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(path, **options)
    text = str(caught.value)
    assert path.name in text and ": " in text and text.endswith(".") and "\n" not in text


def equal(a: torch.nn.Module, b: torch.nn.Module, prefix: str = "") -> None:
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y) or not name.startswith(prefix), name


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("suffix", [".ckpt", ".tar", ".pt", ".pth", ".bin"])  # the content counts, not the name
def test_flow_checkpoints_load(model, tmp_path, suffix, prefix, legacy):
    path = saved(original(model, prefix=prefix), tmp_path / f"flow{suffix}", legacy)
    loaded = load_model(path, "small")
    equal(loaded, model)
    assert loaded.flow_trained and not loaded.training and loaded.config == model.config
    meta, tensors = read_checkpoint(path)
    assert meta["format"] == 1 and meta["stage"] == "flow" and meta["extra"] == {} and meta["config"] == model.config.to_dict()
    assert tensors.keys() == model.state_dict().keys()


def test_a_file_from_a_gpu_with_real_wrappers_loads(model, tmp_path):
    """DataParallel's own state dicts, ordered and with their metadata, from CUDA memory."""
    wrapped = {name: torch.nn.DataParallel(model.get_submodule(name)).state_dict() for name in BASE_MODULES + FLOW_MODULES}
    path = saved(wrapped, tmp_path / "wrapped.ckpt")
    with zipfile.ZipFile(path) as stream:
        members = {name.split("/", 1)[1]: stream.read(name) for name in stream.namelist()}
    place = b"X\x03\x00\x00\x00cpu"
    pickled = members.pop("data.pkl")
    assert place in pickled and b"_metadata" in pickled
    equal(load_model(archive(path, pickled.replace(place, b"X\x06\x00\x00\x00cuda:0"), members)), model)


def test_base_checkpoints_load_with_fresh_flow_modules(model, tmp_path):
    path = saved(original(model, BASE_MODULES), tmp_path / "base.tar")
    loaded, fresh = load_model(path), build_model("small")
    assert not loaded.flow_trained and read_checkpoint(path)[0]["stage"] == "base"
    for name in BASE_MODULES:
        equal(loaded.get_submodule(name), model.get_submodule(name))
    for name in FLOW_MODULES:
        equal(loaded.get_submodule(name), fresh.get_submodule(name))
    assert not torch.equal(fresh.flow_correction.conv3d_1.weight, model.flow_correction.conv3d_1.weight)


def test_the_original_preset_gives_the_same_numbers(tmp_path):
    model = golden_model()
    path = saved(original(model), tmp_path / "original.ckpt")
    loaded = load_model(path, "original", scale_rotate=1.0, scale_translate=1.0)
    assert loaded.flow_trained and loaded.config.scale_rotate == 1
    frames = golden_clip()[:2, None]
    with torch.inference_mode():
        torch.testing.assert_close(loaded.pose(*frames), 100 * model.pose(*frames))
        torch.testing.assert_close(loaded.encode(frames[0]).code, model.encode(frames[0]).code, rtol=0, atol=0)
    assert write_original(tmp_path / "back.ckpt", loaded) == 359
    expected = {name: shapes for name, shapes in json.loads((GOLDEN / "state_dict_keys.json").read_text()).items() if name != "netd"}
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)
    assert {name: {key: list(value.shape) for key, value in state.items()} for name, state in back.items()} == expected
    assert abs((tmp_path / "back.ckpt").stat().st_size / path.stat().st_size - 1) < 0.001


@pytest.mark.parametrize("modules", [BASE_MODULES, BASE_MODULES + FLOW_MODULES])
def test_round_trips_are_equal_to_the_bit(model, tmp_path, modules, capsys):
    held = original(model, modules)
    held["encoder_3d"]["module.feature_extraction.1.num_batches_tracked"] = torch.tensor(77)
    path = saved(held, tmp_path / "a.ckpt")
    assert main(["convert", str(path), str(tmp_path / "b.safetensors")]) == 0
    assert main(["convert", str(tmp_path / "b.safetensors"), str(tmp_path / "sub" / "c.tar")]) == 0
    back = torch.load(tmp_path / "sub" / "c.tar", weights_only=True)
    assert list(back) == list(modules)
    for name, state in held.items():
        assert list(back[name]) == list(state)
        for key, value in state.items():
            assert back[name][key].dtype == value.dtype and torch.equal(back[name][key], value), key
    lines = capsys.readouterr().out.splitlines()
    stage, count = ("flow", sum(map(len, held.values()))) if len(modules) == 7 else ("base", sum(map(len, held.values())))
    assert len(lines) == 2 and f"c.tar: preset small, {stage} stage, {count} tensors, from " in lines[1]


def test_written_tensors_are_plain(model, tmp_path):
    """Float32 on their own storage in row-major order, whatever the model in memory is."""
    half = build_model("small", seed=3).to(dtype=torch.bfloat16)
    half.decoder.to(memory_format=torch.channels_last)
    half.flow_trained = True
    write_original(tmp_path / "half.pth", half)
    for state in torch.load(tmp_path / "half.pth", weights_only=True).values():
        for key, value in state.items():
            assert value.dtype == (torch.int64 if key.endswith("tracked") else torch.float32) and value.is_contiguous()
    equal(load_model(tmp_path / "half.pth"), half.float())


def test_a_full_disk_keeps_the_old_file(model, tmp_path, small_disk):
    path = tmp_path / "model.ckpt"
    write_original(path, model)
    before = path.read_bytes()
    with small_disk(20_000), pytest.raises(StorageError, match=r"Cannot write .*model\.ckpt"):
        write_original(path, build_model("small", seed=9))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model.ckpt"]


def test_convert_refuses_what_it_cannot_write(model, tmp_path, capsys):
    path = save_checkpoint(tmp_path / "a.safetensors", model, "flow", {"data": ["x"]})
    with pytest.raises(ConfigError, match=r"b\.onnx ends on none of \.safetensors, \.ckpt"):
        convert(path, tmp_path / "b.onnx")
    with pytest.raises(ConfigError, match="is the checkpoint to read: give another name"):
        convert(path, tmp_path / "sub" / ".." / "a.safetensors")
    with pytest.raises(MissingInputError):
        convert(tmp_path / "none.ckpt", tmp_path / "b.safetensors")
    assert main(["convert", str(path), str(tmp_path / "b.onnx")]) == 2 and "b.onnx ends on none" in capsys.readouterr().err
    convert(path, tmp_path / "b.safetensors")
    assert read_checkpoint(tmp_path / "b.safetensors")[0]["extra"] == {"data": ["x"]}
    convert("small", tmp_path / "shipped.ckpt")
    equal(load_model(tmp_path / "shipped.ckpt"), load_model("small"))


@pytest.mark.parametrize("target", ["there.ckpt", "there.safetensors"])
def test_convert_does_not_write_in_the_place_of_a_folder(tmp_path, capsys, target):
    (tmp_path / target).mkdir()
    assert main(["convert", "small", str(tmp_path / target)]) == 2
    said = capsys.readouterr().err
    assert said == f"Cannot write {tmp_path / target}, which is a folder: give the name of a file.\n"
    assert [path.name for path in tmp_path.iterdir()] == [target]
    (tmp_path / "file").touch()
    assert main(["convert", "small", str(tmp_path / "file" / "sub" / "a.ckpt")]) == 2
    assert "choose a folder that you may write to." in capsys.readouterr().err


def test_what_is_not_of_the_model_is_named_and_ignored(held, model, tmp_path):
    path = saved(held | {"optimizer": {"state": {}, "lr": 0.1}, "epoch": 3, "netd": {}}, tmp_path / "more.ckpt")
    with pytest.warns(UserWarning, match=r"more\.ckpt holds more than the model, ignored: epoch, netd, optimizer"):
        equal(load_model(path), model)
    assert read_checkpoint(path)[0]["ignored"] == ["epoch", "netd", "optimizer"]
    assert convert(path, tmp_path / "b.safetensors").endswith("; ignored: epoch, netd, optimizer")


def test_batch_norm_counters_may_be_absent(held, tmp_path, model):
    for state in held.values():
        for key in [key for key in state if key.endswith("num_batches_tracked")]:
            del state[key]
    equal(load_model(saved(held, tmp_path / "old.ckpt")), model)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(held, tmp_path, kind):
    weight = held["decoder"]["module.conv3.weight"] = held["decoder"]["module.conv3.weight"].to(kind)
    loaded = load_model(saved(held, tmp_path / "half.ckpt")).decoder.conv3.weight
    assert loaded.dtype == torch.float32 and torch.equal(loaded, weight.float())


def test_a_view_into_a_larger_storage_loads(held, tmp_path):
    weight = held["decoder"]["module.conv3.weight"]
    held["decoder"]["module.conv3.weight"] = torch.stack([weight, weight])[1].transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(load_model(saved(held, tmp_path / "view.ckpt")).decoder.conv3.weight, weight)


# Wrong files: (what is done to a good one, the message).
WRONG = {
    "a base module missing": (lambda held: held.pop("rotate"), "lacks the modules rotate: "),
    "several missing": (lambda held: [held.pop(name) for name in ("rotate", "decoder")], "lacks the modules rotate, decoder: "),
    "half of the flow": (lambda held: held.pop("flow_correction"), "lacks the modules flow_correction: "),
    "a key missing": (lambda held: held["decoder"].pop("module.conv3.bias"), r"nearest is 'small', but decoder\.conv3\.bias is missing: "),
    "an unknown key": (lambda held: held["flow"].update({"module.gate": torch.ones(1)}), r"'small', but flow\.gate is unknown: "),
    "a wrong shape": (
        lambda held: held["decoder"].update({"module.conv3.bias": torch.ones(7)}),
        r"none of the presets original, small; the nearest is 'small', but decoder\.conv3\.bias is \(7,\), not \(128,\)",
    ),
    "mixed prefixes": (lambda held: held["decoder"].update({"conv3.bias": torch.ones(128)}), r"mixes keys .*'module\.' .*conv3\.bias"),
    "a module that is a list": (lambda held: held.update(decoder=[1]), "no state dict for the module decoder but a list"),
    "a value that is a text": (lambda held: held["decoder"].update({"module.conv3.bias": "x"}), r"holds a str for decoder\.conv3\.bias"),
    "NaN": (lambda held: held["decoder"]["module.conv3.bias"].__setitem__(0, float("nan")), r"not finite in decoder\.conv3\.bias"),
    "infinity": (lambda held: held["rotate"]["module.conv3d_1.bias"].__setitem__(0, float("inf")), r"finite in rotate\.conv3d_1\.bias"),
    "integers": (
        lambda held: held["decoder"].update({"module.conv3.bias": torch.ones(128, dtype=torch.int32)}),
        r"numbers of kind int32 strided for decoder\.conv3\.bias: save it as float32",
    ),
    "sparse": (
        lambda held: held["decoder"].update({"module.conv3.weight": held["decoder"]["module.conv3.weight"].flatten(1).to_sparse()}),
        r"asks for torch\._utils\._rebuild_sparse_tensor",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_contents_are_refused_by_name(held, tmp_path, what):
    change, message = WRONG[what]
    held = {name: {key: value.clone() for key, value in state.items()} for name, state in held.items()}
    change(held)
    refused(saved(held, tmp_path / "wrong.ckpt"), message)


def test_another_preset_or_no_checkpoint_at_all_is_refused(held, model, tmp_path):
    refused(saved(held, tmp_path / "small.ckpt"), "holds preset 'small', not 'original'", expected_preset="original")
    refused(saved(model.state_dict(), tmp_path / "flat.ckpt"), "lacks the modules encoder_3d, encoder_traj, rotate, decoder; it holds dec")
    refused(saved([held], tmp_path / "list.ckpt"), "holds a list, not the modules")
    with pytest.raises(ConfigError, match="depth belongs to"):
        load_model(tmp_path / "small.ckpt", depth=8)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [0, 1, 3, 100, 5_000, 0.5, 0.99])
def test_truncated_files_are_refused(held, tmp_path, legacy, kept):
    path = saved(held, tmp_path / "cut.ckpt", legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    refused(path, "copy it again")


def test_damaged_and_foreign_files_are_refused(held, tmp_path):
    path = saved(held, tmp_path / "flipped.ckpt")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(path, r"damaged \(checksum of .*copy it again")
    path = tmp_path / "misnamed.safetensors"
    refused(saved(held, path), r"written by torch\.save: rename it to misnamed\.ckpt")
    (tmp_path / "text.pth").write_text("hello " * 100)
    refused(tmp_path / "text.pth", "neither a zip archive nor a pickle")
    with zipfile.ZipFile(tmp_path / "photos.pt", "w") as archive:
        archive.writestr("photos/a.txt", "x")
    refused(tmp_path / "photos.pt", "no whole checkpoint of torch.save .*photos/data.pkl")


class Evil:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["extra", "module", "value"])
@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_pickles_are_refused_and_not_run(held, tmp_path, legacy, place):
    trace = tmp_path / "harm"
    if place == "extra":
        held["epoch"] = Evil(trace)
    elif place == "module":
        held["decoder"] = Evil(trace)
    else:
        held["decoder"]["module.conv3.bias"] = Evil(trace)
    refused(saved(held, tmp_path / "evil.ckpt", legacy), r"asks for posix\.mkdir.* was not loaded: take another")
    assert not trace.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_bare_hostile_pickles_are_refused(tmp_path, protocol):
    trace, path = tmp_path / "harm", tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps(Evil(trace), protocol))
    refused(path, "evil.ckpt")
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists(), "the file was harmless, the test shows nothing"


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [4, 5])
def test_newer_pickle_protocols_are_named(held, tmp_path, protocol, legacy):
    path = tmp_path / "new.ckpt"
    torch.save(held, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    refused(path, rf"new\.ckpt was saved with pickle protocol {protocol}, which is not read: have its owner save it again")


def archive(path: Path, pickled: bytes, members: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> Path:
    """A zip archive with torch's layout around any pickle."""
    with zipfile.ZipFile(path, "w", compression) as stream:
        for name, data in {"data.pkl": pickled, "version": b"3\n", **(members or {})}.items():
            stream.writestr(f"archive/{name}", data)
    return path


def test_pickles_that_grow_are_refused(tmp_path):
    class Grows:
        def __reduce__(self):
            return bytearray, (10**11,)

    refused(archive(tmp_path / "grows.ckpt", pickle.dumps({"epoch": Grows()}, protocol=2)), "asks for (builtins|__builtin__).bytearray")
    long = b"X" + (1 << 20).to_bytes(4, "little") + b"a" * (1 << 20) + b"0"  # a text of 1 MB, dropped
    refused(archive(tmp_path / "long.ckpt", b"\x80\x02" + long * 6 + b"}."), "more than 4 MB of pickle")


def test_zip_bombs_are_refused(tmp_path):
    """Compressed members, members that share their bytes, more members than tensors, two members of one name."""
    bomb = archive(tmp_path / "bomb.ckpt", b"", {f"data/{i}": bytes(10**7) for i in range(20)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 10**6
    refused(bomb, r"packed archive \(\d+ bytes that unpack to 2000000\d\d\)")
    dense = archive(tmp_path / "dense.ckpt", b"", {"data/0": os.urandom(1000)}, zipfile.ZIP_DEFLATED)  # hardly smaller, but packed
    refused(dense, "packed archive")
    with zipfile.ZipFile(tmp_path / "shared.ckpt", "w") as stream:
        stream.writestr("archive/data/0", bytes(10**6))
        for i in range(1, 100):
            stream.filelist.append(copy.copy(stream.filelist[0]))
            stream.filelist[-1].filename = f"archive/data/{i}"
    refused(tmp_path / "shared.ckpt", r"packed archive \(10\d{5} bytes that unpack to 100000000\)")
    many = archive(tmp_path / "many.ckpt", b"", dict.fromkeys((f"data/{i}" for i in range(10_001)), b""))
    refused(many, "archive of 10003 members")
    refused(archive(tmp_path / "twice.ckpt", b"", {"DATA.PKL": b""}), "packed archive")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("shape", [(10**6, 10**6), (128,)])
def test_tensors_larger_than_what_is_behind_them_are_refused(held, tmp_path, shape, legacy):
    """One number, expanded to any shape by a stride of 0."""
    held["decoder"]["module.conv3.bias"] = torch.ones(1).expand(shape)
    refused(saved(held, tmp_path / "expanded.ckpt", legacy), r"less than it claims for decoder\.conv3\.bias")


def test_one_storage_for_many_tensors_is_refused(held, tmp_path):
    big = torch.ones(300_000)
    held["flow"] = {f"module.{i}": big for i in range(100)}
    refused(saved(held, tmp_path / "shared.ckpt"), r"less than it claims for flow\.")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_storage_that_claims_more_than_is_there_is_refused(held, tmp_path, legacy):
    """The number of elements is in the pickle, and may be a lie: nothing beyond the file is read."""
    path = saved(held | {"epoch": torch.ones(54_321)}, tmp_path / "claim.ckpt", legacy)
    truth, lie = b"M1\xd4", b"J\xff\xff\xff\x0f"  # 54,321 as two bytes, 2**28 - 1 as four
    if legacy:
        assert truth in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(truth, lie))
    else:
        with zipfile.ZipFile(path) as stream:
            members = {name.split("/", 1)[1]: stream.read(name) for name in stream.namelist()}
        pickled = members.pop("data.pkl")
        assert truth in pickled
        archive(path, pickled.replace(truth, lie), members)
    refused(path, "no whole checkpoint")


def test_the_public_reader(model, tmp_path):
    modules, ignored = read_original(saved(original(model) | {"epoch": 1}, tmp_path / "a.ckpt"))
    assert list(modules) == list(BASE_MODULES + FLOW_MODULES) and modules["flow"] == {} and ignored == ["epoch"]
    assert modules["decoder"].keys() == model.decoder.state_dict().keys()
    with pytest.raises(CheckpointError, match=r"none\.ckpt.*No such file"):
        read_original(tmp_path / "none.ckpt")
