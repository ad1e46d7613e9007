"""A run that is killed between two epochs, segments or stages comes to the same bits, whatever its options."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_convae.training import Caching, Release, Stage, Wanted, saving

HEAD = ("head.*",)
RELEASED = (Release(("encoder.*",), 1, 0.5),)
STAGES = (
    Stage("pretrain", epochs=2, lr=1e-2),
    Stage("head", epochs=2, lr=1e-2, train=HEAD, decay=True),
    Stage("finetune", epochs=3, lr=3e-3, train=HEAD, release=RELEASED),
)
KEPT = tuple(Stage(stage.name, 3, stage.lr, stage.train, stage.release, keep_optimizer=True) for stage in STAGES)
WAYS: dict[str, dict[str, Any]] = {
    "averaged weights": {"ema": 0.9},
    "averaged weights, the best epoch": {"ema": 0.9, "wanted": Wanted("test_loss", keep=True)},
    "averaged weights, patience": {"ema": 0.9, "wanted": Wanted("train_loss", patience=1)},
    "averaged weights, kept features": {"ema": 0.5, "caching": Caching(budget=0)},
}


@pytest.mark.parametrize("stages", [STAGES, KEPT], ids=["fresh", "kept"])
@pytest.mark.parametrize("way", WAYS)
def test_a_run_goes_on_from_the_end_of_each_epoch(
    way: str,
    stages: tuple[Stage, ...],
    tiny: Callable[..., Any],
    same: Callable[[dict[str, Tensor], dict[str, Tensor]], bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(saving, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(saving, "SHARE", 1e9)

    def begin(name: str) -> Any:
        made = tiny(name, stages, apart="features" in way)
        for key, value in WAYS[way].items():
            setattr(made.trainer, key, value)
        return made

    whole = begin("whole")
    copies: list[Path] = []
    save = whole.trainer.folder.save

    def copied(checkpoint: Any, *arguments: Any) -> None:
        save(checkpoint, *arguments)
        if checkpoint["progress"]["step"] == 0:
            copies.append(Path(shutil.copytree(tmp_path / "whole", tmp_path / f"copy{len(copies)}")))

    object.__setattr__(whole.trainer.folder, "save", copied)
    results = whole.train()
    assert len(copies) > 6
    for copy in copies:
        torch.manual_seed(12345)
        again = begin(copy.name)
        found = again.train()
        assert same(whole.state, again.state), copy.name
        for stage, figures in found.items():
            assert figures["test_loss"] == results[stage]["test_loss"], (copy.name, stage)
