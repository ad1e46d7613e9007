"""Every recipe trains, on a few small images, as its original did."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import torch_convae
from torch_convae.recipes import RECIPES

MASKS = [name for name, recipe in RECIPES.items() if recipe.task == "masks" and name != "unet"]


@pytest.mark.parametrize("recipe", MASKS)
def test_every_segmentation_network_trains(train: Any, mask_folder: Path, tmp_path: Path, recipe: str) -> None:
    short = ("--epochs", "1", "--batch-size", "2", "--limit", "2", "--size", "32")
    answer = train(recipe, "--data", mask_folder, *short)
    assert (answer.code, answer.err) == (0, "")
    model = torch_convae.load(tmp_path / "runs" / recipe.replace(":", "-"))
    assert model.predict(torch.zeros(1, 3, 32, 32)).shape == (1, 2, 32, 32)


def test_sequences_train_in_three_stages_out_of_the_box(train: Any, tmp_path: Path) -> None:
    answer = train("vae-gru", "--limit", "8", "--epochs", "1", "--size", "16", "--batch-size", "4")
    assert (answer.code, answer.err) == (0, "")
    summary = json.loads((tmp_path / "runs/vae-gru/summary.json").read_text())
    assert list(summary["stages"]) == ["vae", "head", "finetune"]
    assert summary["stages"]["head"]["trained_parameters"] < summary["stages"]["finetune"]["trained_parameters"]
    assert summary["test_rmse"] == pytest.approx(summary["test_loss"] ** 0.5, rel=1e-4)
    assert summary["classes"] == ["right", "down"]
    assert (tmp_path / "runs/vae-gru/values.png").exists()
    model = torch_convae.load(tmp_path / "runs/vae-gru")
    with torch.inference_mode():
        assert model(torch.zeros(3, 5, 1, 16, 16)).shape == (3, 2)


def test_an_autoencoder_of_frames_alone_trains_and_gives_mean_and_variance_of_codes(train: Any, tmp_path: Path) -> None:
    answer = train("vae-gru", "--limit", "8", "--epochs", "1,0,0", "--size", "16", "--batch-size", "4")
    assert (answer.code, answer.err) == (0, "")
    assert {path.name for path in (tmp_path / "runs/vae-gru").glob("*.png")} == {"curves.png", "reconstructions.png"}
    model = torch_convae.load(tmp_path / "runs/vae-gru")
    codes = torch_convae.features(model, torch.rand(2, 1, 16, 16), ["z_mean", "z_log_var"])
    assert {name: tuple(code.shape) for name, code in codes.items()} == {"z_mean": (2, 32), "z_log_var": (2, 32)}


def test_a_densenet_trains(train: Any, class_folder: Path, tmp_path: Path) -> None:
    command = ("densenet", "--data", class_folder, "--limit", "6", "--epochs", "1,0", "--batch-size", "3")
    answer = train(*command, "--dropout", "0.5", "--out", "run")
    assert (answer.code, answer.err) == (0, "")
    assert torch_convae.load(tmp_path / "run").predict(torch.zeros(1, 1, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("vae-gru --loss dice", "has no classes"),
        ("vae-gru --class-weights median", "has no classes"),
        ("vae-gru --data fashion-mnist-mini", "trains on sequences of images with values"),
        ("vae-gru --augment crop,flip,turn", "--augment flip,turn would move what the values of a sequence speak of"),
        ("vae-gru --size 8", "at least 16 pixels"),
        ("convae --loss dize", "no loss 'dize'"),
        ("convae --class-weights 1,2", "should hold 10 numbers"),
        ("convae --class-weights published", "are for Sky, Building"),
        ("convae --dropout 1", "--dropout 1 is not a share"),
        ("convae --weight-decay much", "--weight-decay 'much'"),
        ("unet:azavea --data x", "There is no recipe 'unet:azavea'"),
    ],
)
def test_what_a_recipe_cannot_do_is_refused(refused: Callable[..., str], arguments: str, said: str) -> None:
    assert said in refused(*arguments.split(), "--limit", "20")


def test_a_size_that_a_network_cannot_take_is_refused_before_anything_is_written(
    refused: Callable[..., str], mask_folder: Path
) -> None:
    line = refused("unet:azavea_unet", "--data", mask_folder, "--size", "30x32")
    assert "multiples of 16, not 30 x 32" in line


def test_class_weights_count_among_each_other_whatever_their_size(
    train: Any, class_folder: Path, tmp_path: Path
) -> None:
    command = ("--data", class_folder, "--epochs", "0,1,0", "--batch-size", "4", "--size", "12")
    losses = []
    for at, weights in enumerate(("none", "1,1,1", "0.01,0.01,0.01", "70,70,70")):
        assert train(*command, "--class-weights", weights, "--out", f"run{at}").code == 0
        lines = [json.loads(line) for line in (tmp_path / f"run{at}/metrics.jsonl").read_text().splitlines()]
        losses.append([lines[-1][name] for name in ("train_loss", "test_loss")])
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-4)


def test_loss_and_class_weights_change_what_is_learned(train: Any, class_folder: Path, tmp_path: Path) -> None:
    command = ("--data", class_folder, "--epochs", "0,1,0", "--batch-size", "8", "--size", "12")
    losses = {}
    for out, flags in {"plain": (), "focal": ("--loss", "focal"), "weighted": ("--class-weights", "1,5,0")}.items():
        assert train(*command, *flags, "--out", out).code == 0
        losses[out] = json.loads((tmp_path / out / "summary.json").read_text())["test_loss"]
    assert len(set(losses.values())) == 3
