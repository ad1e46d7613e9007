"""A run's folder back as a module."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import torch_convae
from torch_convae import ConvaeError
from torch_convae.training.archive import read_archive


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, train_in: Callable[[Path], Any], class_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("load")
    answer = train_in(folder)("--data", class_folder, "--out", "run", "--epochs", "1,2,2", "--batch-size", "8")
    assert (answer.code, answer.err) == (0, "")
    return folder / "run"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may spoil."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.fixture
def images(class_folder: Path) -> torch.Tensor:
    """All images of the data, as they are."""
    paths = sorted(class_folder.rglob("*.png"))
    return torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in paths]))[:, None]


@pytest.mark.parametrize("kind", [Path, str])
def test_the_module_is_ready_to_predict(run: Path, kind: Callable[[Path], Any], images: torch.Tensor) -> None:
    model = torch_convae.load(kind(run))
    assert not [name for name, layer in model.named_modules() if layer.training]
    assert model.classes == ("class0", "class1", "class2")
    probabilities = model.predict(images)
    assert probabilities.shape == (30, 3)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(30))


def weights_of_the_classifier(run: Path) -> dict[str, torch.Tensor]:
    """From the checkpoint, where the encoder that both networks share is once, with the autoencoder."""
    saved = read_archive(run / "checkpoint.safetensors")
    assert saved is not None
    shared = ("autoencoder.encoder.", "classifier.")
    return {
        name.removeprefix("autoencoder.").removeprefix("classifier."): tensor
        for name, tensor in saved["weights"].items()
        if name.startswith(shared)
    }


def test_every_tensor_is_what_the_training_ended_with(run: Path) -> None:
    trained = weights_of_the_classifier(run)
    loaded = torch_convae.load(run).state_dict()
    assert loaded.keys() == trained.keys()
    for name, tensor in loaded.items():
        assert torch.equal(tensor, trained[name]), name


def test_it_predicts_what_the_trained_network_predicted(run: Path, images: torch.Tensor) -> None:
    before = torch_convae.create("convae-classifier", classes=3, size=(16, 16))
    before.load_state_dict(weights_of_the_classifier(run))
    with torch.inference_mode():
        expected = before.eval()(images.float() / 255).softmax(1)
    assert torch.equal(torch_convae.load(run).predict(images), expected)


def test_an_autoencoder_comes_back_as_one(train: Any, class_folder: Path, tmp_path: Path, images: torch.Tensor) -> None:
    assert train("--data", class_folder, "--out", "run", "--epochs", "1,0,0", "--limit", "12").code == 0
    model = torch_convae.load(tmp_path / "run")
    made = model.predict(images)
    assert made.shape == images.shape
    assert 0 <= float(made.min()) <= float(made.max()) <= 1


def test_the_weights_alone_are_enough(copy: Path) -> None:
    for path in copy.iterdir():
        if path.name != "model.safetensors":
            path.unlink()
    assert torch_convae.load(copy).classes == ("class0", "class1", "class2")


def refusal(path: Path) -> str:
    with pytest.raises(ConvaeError) as caught:
        torch_convae.load(path)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", ["nowhere", "empty", "file"])
def test_what_is_no_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no run")
    line = refusal(tmp_path / name)
    assert str(tmp_path / name) in line
    assert "Name the folder of a run" in line


def test_an_unfinished_run_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    line = refusal(copy)
    assert str(copy) in line
    assert "not complete; start it again" in line


@pytest.mark.parametrize("keep", [0, 5, 200, 5000, -1])
def test_a_damaged_file_is_refused(copy: Path, keep: int) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    line = refusal(copy)
    assert str(path) in line
    assert "damaged" in line


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the header of a .safetensors file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def test_a_file_of_tensors_that_says_nothing_of_its_network_is_refused(copy: Path) -> None:
    rewrite(copy / "model.safetensors", lambda header: header.pop("__metadata__"))
    assert "does not say which network" in refusal(copy)


@pytest.mark.parametrize("options", ["[]", "{", '{"classes": 3, "depth": 9}', '{"classes": "three"}'])
def test_a_header_that_makes_no_sense_is_refused(copy: Path, options: str) -> None:
    rewrite(copy / "model.safetensors", lambda header: header["__metadata__"].update(options=options))
    assert refusal(copy)


@pytest.mark.parametrize("change", [{}, {"options": "[]"}], ids=["newer", "newer, of options that are not known here"])
def test_a_run_of_a_newer_version_is_refused_by_its_number(copy: Path, change: dict[str, str]) -> None:
    rewrite(copy / "model.safetensors", lambda header: header["__metadata__"].update(version="9.1.0", **change))
    line = refusal(copy)
    assert "torch-convae 9.1.0" in line
    assert torch_convae.__version__ in line


def test_a_run_of_an_older_version_is_taken_where_it_can_be_built(copy: Path) -> None:
    rewrite(copy / "model.safetensors", lambda header: header["__metadata__"].update(version="0.0.1"))
    assert torch_convae.load(copy).classes == ("class0", "class1", "class2")
    rewrite(copy / "model.safetensors", lambda header: header["__metadata__"].update(model="convae-lassifier"))
    assert "torch-convae 0.0.1" in refusal(copy)


def test_the_size_of_the_images_it_was_trained_on_is_known(copy: Path) -> None:
    assert torch_convae.load(copy).image_size == (16, 16)
    rewrite(copy / "model.safetensors", lambda header: header["__metadata__"].pop("image_size"))
    assert torch_convae.load(copy).image_size is None


def test_a_run_is_not_begun_from_its_own_files(refused: Callable[..., str], copy: Path, class_folder: Path) -> None:
    held = {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file()}
    for weights in (copy, copy / "model.safetensors"):
        for flags in (("--fresh",), ()):
            line = refused("--data", class_folder, "--weights", weights, "--out", copy, *flags)
            assert "is of the run in" in line
            assert "Name another --out" in line
    assert {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file()} == held


def test_a_run_inside_its_data_is_refused_by_that_name(
    refused: Callable[..., str], drawn_classes: Callable[..., Path], tmp_path: Path
) -> None:
    folder = drawn_classes(tmp_path / "inside")
    assert "lies inside the data" in refused("--data", folder, "--out", folder / "runs" / "convae")
    assert not (folder / "runs").exists()


def test_dropout_is_what_it_was_trained_with(train: Any, mask_folder: Path, tmp_path: Path) -> None:
    command = ("segnet:bayesian_segnet", "--data", mask_folder, "--epochs", "1", "--limit", "2", "--dropout", "0.1")
    assert train(*command, "--out", "run").code == 0
    model = torch_convae.load(tmp_path / "run")
    assert {layer.p for layer in model.modules() if isinstance(layer, torch.nn.Dropout)} == {0.1}


def test_a_network_that_lacks_a_tensor_is_refused_rather_than_filled_at_random(copy: Path) -> None:
    def rename(header: dict[str, Any]) -> None:
        header["head.dense_9.bias"] = header.pop("head.dense_1.bias")

    rewrite(copy / "model.safetensors", rename)
    assert "dense_1" in refusal(copy) or "dense_9" in refusal(copy)
