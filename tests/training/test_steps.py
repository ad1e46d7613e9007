"""A step's gradients are those of the whole batch's loss, whatever parts it is computed in."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_convae.data import VOID, Split
from torch_convae.errors import ConvaeError
from torch_convae.training import Mean, Phase, Ranks, Run, Stage, Task, class_loss, evaluate, segmentation
from torch_convae.training.step import gradients
from torch_convae.training.tasks import Objective

CPU = torch.device("cpu")
LOSSES = ("cross-entropy", "focal", "dice", "jaccard", "cross-entropy+dice")
WEIGHTS = torch.tensor([0.2, 1.0, 3.0])


class Pixels(nn.Module):
    """A network of masks that draws random numbers and takes the statistics of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing = nn.Identity()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(6, 3, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def network() -> Pixels:
    torch.manual_seed(0)
    return Pixels().train()


def parts(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    """Images and masks; the second class is in the first part alone, and a tenth is void."""
    numbers = torch.Generator().manual_seed(1)
    found = []
    for index, size in enumerate(sizes):
        masks = torch.randint(0, 3, (size, 6, 6), generator=numbers, dtype=torch.uint8)
        masks[torch.rand(masks.shape, generator=numbers) < 0.1] = VOID
        found.append((torch.rand(size, 1, 8, 8, generator=numbers), masks if index == 0 else masks.clamp(min=2)))
    return found


def step(model: nn.Module, loss: str, batch: list[tuple[Tensor, Tensor]]) -> Tensor:
    phase = Phase(Stage("all", 1, 1e-2), model, segmentation(VOID, loss, WEIGHTS))
    torch.manual_seed(2)
    return gradients(Run(CPU), phase, Objective(model, phase.task), batch, Run(CPU).scaler())


@pytest.mark.parametrize("sizes", [(6,), (3, 2, 1)], ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradients_of_parts_are_those_of_the_loss_of_all(loss: str, sizes: tuple[int, ...]) -> None:
    ours, theirs, batch = network(), network(), parts(*sizes)
    value = step(ours, loss, batch)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    logits = torch.cat([theirs(images) for images, _ in batch])  # each part by its own statistics, as ours are
    expected = class_loss(loss, WEIGHTS, VOID)(logits, torch.cat([masks for _, masks in batch]))
    expected.backward()
    assert torch.equal(state, torch.get_rng_state()), "the next step draws what it would have drawn"
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-5)
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text)
    for name, buffer in theirs.named_buffers():
        assert torch.equal(ours.get_buffer(name), buffer), f"{name} moves once for each part"


def test_the_mean_of_the_parts_own_dice_is_something_else() -> None:
    batch, model = parts(3, 2, 1), network().eval()
    loss = class_loss("dice", WEIGHTS, VOID)
    each = [float(loss(model(images), masks).detach()) for images, masks in batch]
    whole = float(loss(torch.cat([model(images) for images, _ in batch]), torch.cat([m for _, m in batch])).detach())
    assert sum(each) / 3 != pytest.approx(whole, rel=1e-2)
    assert float(step(model, "dice", batch)) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_without_parts_computes_the_network_once(loss: str) -> None:
    model, calls = network(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    step(model, loss, parts(6))
    assert len(calls) == 1
    step(model, loss, parts(3, 3))
    assert len(calls) == 1 + (2 if loss in ("cross-entropy", "focal") else 4)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_a_split_is_the_same_whatever_its_batches(loss: str) -> None:
    images, masks = (torch.cat(each) for each in zip(*parts(4, 3), strict=True))
    model = network()
    phase = Phase(Stage("all", 1, 1e-2), model, segmentation(VOID, loss, WEIGHTS))
    found = [evaluate(phase, Split(images, masks), Run(CPU), size)[0]["loss"] for size in (1, 3, 7)]
    whole = class_loss(loss, WEIGHTS, VOID)(model.eval()(images), masks)
    assert found == pytest.approx([float(whole.detach())] * 3, rel=1e-5)


def test_a_run_by_dice_in_parts_is_the_run_of_whole_batches(tiny: Callable[..., Any]) -> None:
    stages = (Stage("pretrain", 0, 1e-2), Stage("head", 0, 1e-2), Stage("finetune", 3, 1e-2, batch_statistics=False))
    found = []
    for name, accumulate in (("whole", 1), ("parts", 3)):
        built = tiny(name, stages, run=Run(CPU, accumulate=accumulate))
        for layer in built.models.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0  # it draws for each part anew
        task = replace(built.phases[2].task, loss=class_loss("dice"))
        built.phases = [replace(phase, task=task) for phase in built.phases[2:]]
        built.train()
        found.append([line["train_loss"] for line in built.trainer.progress.history])
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[0][-1] < found[0][0]


@pytest.mark.parametrize("kind", [torch.int64, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sizes", [(3,), (1, 1, 1)], ids=str)
def test_a_mean_of_the_users_own_weighs_in_numbers_of_any_kind(kind: torch.dtype, sizes: tuple[int, ...]) -> None:
    model, batch = network().eval(), parts(*sizes)
    batch[-1][1][-1] = VOID  # the last image, and with it the last part, has nothing that counts
    compute = lambda output, _, masks: nn.functional.cross_entropy(output, masks.long(), ignore_index=VOID)  # noqa: E731
    task = Task(Mean(compute, lambda masks: (masks != VOID).sum().to(kind)))
    phase = Phase(Stage("all", 1, 1e-2), model, task)
    value = gradients(Run(CPU), phase, Objective(model, task), batch, Run(CPU).scaler())
    found = [parameter.grad for parameter in model.parameters()]
    images, masks = (torch.cat(each) for each in zip(*batch, strict=True))
    expected = compute(model(images), images, masks)
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-5)
    for one, other in zip(found, torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_batch_without_a_share_for_each_process_is_refused() -> None:
    with pytest.raises(ConvaeError, match="A batch of 1 has no share for each of 2 processes"):
        Run(CPU, ranks=Ranks(0, 2)).parts(torch.arange(1))
