"""Data sets by name: embedded, put by hand, downloaded, and what is said when that fails."""

import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision.datasets

from torch_convae.data import NAMES, Request, load_data
from torch_convae.data.idx_set import IDX_FILES
from torch_convae.data.make_fashion_mnist_mini import PACKAGED, main, make
from torch_convae.errors import ConvaeError

Write = Callable[..., Path]

RAW = Path(__file__).parents[2].parent / "shared" / "data" / "fashion-mnist"
needs_raw = pytest.mark.skipif(not RAW.is_dir(), reason="the raw Fashion-MNIST is not beside the repository")


def test_the_embedded_sample_is_there_without_a_download() -> None:
    data = load_data(Request("fashion-mnist-mini"))
    assert (data.name, data.task) == ("fashion-mnist-mini", "classes")
    assert data.classes[0] == "T-shirt/top"
    assert data.classes[9] == "Ankle boot"
    assert data.splits["train"].images.shape == (5000, 1, 28, 28)
    assert data.splits["test"].images.shape == (1000, 1, 28, 28)
    assert data.splits["train"].targets.bincount().tolist() == [500] * 10
    assert data.splits["test"].targets.bincount().tolist() == [100] * 10


def test_the_embedded_sample_shows_clothes() -> None:
    train = load_data(Request("fashion-mnist-mini")).splits["train"]
    mean = torch.stack([train.images[train.targets == index].float().mean() for index in range(10)])
    assert mean.argmax() == 4  # coats cover most of their picture, sandals least
    assert mean.argmin() == 5


@needs_raw
def test_the_embedded_sample_can_be_built_again(tmp_path: Path) -> None:
    for path in make(RAW, tmp_path):
        assert gzip.decompress(path.read_bytes()) == gzip.decompress((PACKAGED / path.name).read_bytes())
        assert path.read_bytes()[3:8] == bytes(5)  # flags and time: no file name, no date
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.gz" for name in IDX_FILES)


@needs_raw
def test_the_whole_set_loads_from_its_root() -> None:
    data = load_data(Request("fashion-mnist", root=RAW, limit=100))
    assert data.splits["train"].targets.bincount().tolist() == [10] * 10


def test_the_sample_is_not_built_from_too_little(tmp_path: Path, idx_set: Write) -> None:
    with pytest.raises(ConvaeError, match=r"fewer than 500 images .*; give the raw files"):
        make(idx_set(tmp_path / "raw", classes=10), tmp_path / "out")


@needs_raw
def test_a_sample_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(ConvaeError, match=r"out cannot be written \(.*\); give another folder"):
        make(RAW, tmp_path / "out")


def test_the_command_that_builds_the_sample_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["make", str(tmp_path)])
    assert main() == 2
    said = capsys.readouterr().err
    assert said == f"{tmp_path} holds no IDX files; give the folder of the raw files of Fashion-MNIST.\n"


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
@pytest.mark.parametrize("place", [".", "raw", "{kind}/raw"])
def test_files_put_by_hand_need_no_download(tmp_path: Path, idx_set: Write, name: str, kind: str, place: str) -> None:
    idx_set(tmp_path / place.format(kind=kind))
    data = load_data(Request(name, root=tmp_path))
    assert data.name == name
    assert len(data.classes) == 10


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_a_download_is_made_once_and_leaves_the_packed_files(
    tmp_path: Path, idx_set: Write, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kind = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name]

    def fetch(root: str, download: bool) -> None:
        assert download
        raw = idx_set(Path(root) / kind / "raw")
        for path in list(raw.iterdir()):
            Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        monkeypatch.setattr(torchvision.datasets, kind, None)  # a second call would fail

    monkeypatch.setattr(torchvision.datasets, kind, fetch)
    for _ in range(2):
        assert len(load_data(Request(name, root=tmp_path / "root")).splits["train"]) == 20
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == sorted(f"root/{kind}/raw/{file}.gz" for file in IDX_FILES)


@pytest.mark.parametrize("there_before", [True, False])
def test_a_failed_download_says_where_to_put_the_files_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_before: bool
) -> None:
    root = tmp_path / "root"
    if there_before:
        root.mkdir()

    def fail(root: str, download: bool) -> None:
        assert download
        (Path(root) / "MNIST" / "raw").mkdir(parents=True)
        (Path(root) / "MNIST" / "raw" / f"{IDX_FILES[0]}.gz").write_bytes(b"half")
        raise RuntimeError("Error downloading:\nTried a mirror\n")

    monkeypatch.setattr(torchvision.datasets, "MNIST", fail)
    with pytest.raises(ConvaeError, match=r"^mnist could not be downloaded") as caught:
        load_data(Request("mnist", root=root))
    assert f"{IDX_FILES[3]}.gz into {root / 'MNIST' / 'raw'} by hand" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.rglob("*")) == ([root] if there_before else [])


@pytest.mark.parametrize(("data", "near"), [("fashion-mnst", "fashion-mnist"), ("MNIST", "mnist")])
def test_a_misspelt_name_gets_the_nearest_and_all_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, near: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConvaeError, match=rf"'{data}'.*; did you mean {near}\?$") as caught:
        load_data(Request(data))
    assert ", ".join(NAMES) in str(caught.value)


def test_an_empty_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConvaeError, match=r"holds no data: put train/images .*, or use one of fashion-mnist-mini"):
        load_data(Request(str(tmp_path)))
    (tmp_path / "file").touch()
    with pytest.raises(ConvaeError, match="file' is a file, not a folder nor one of"):
        load_data(Request(str(tmp_path / "file")))


WRONG = {
    "a name too long": (Request("x" * 5000), "cannot be read .*; check path and permissions"),
    "no such home": (Request("~nobody-of-this-name/x"), "begins with a home that is not known; give"),
    "size": (Request("fashion-mnist-mini", size=(0, 3)), r"size \(0, 3\) .*; give"),
    "limit": (Request("fashion-mnist-mini", limit=0), "limit 0 .*; give"),
    "void": (Request("fashion-mnist-mini", void=256), "void 256 .*; give"),
    "void without masks": (Request("fashion-mnist-mini", void=3), "no masks; leave --void 3 out"),
    "name": (Request(" "), "has no name; give"),
}


@pytest.mark.parametrize(("request_", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_request_no_data_can_meet_is_refused(request_: Request, message: str) -> None:
    with pytest.raises(ConvaeError, match=message):
        load_data(request_)
