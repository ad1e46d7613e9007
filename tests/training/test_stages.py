"""What frozen means, layer by layer."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from torch_convae import ConvaeError
from torch_convae.training import Stage, freeze_all_but, frozen_hash, train_mode
from torch_convae.training.freezing import keeping_up
from torch_convae.training.optimisation import OPTIMIZERS, optimizer_for


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module("encoder", nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)))
    net.add_module("head", nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)))
    return net


def test_exactly_the_matching_parameters_are_released_and_returned() -> None:
    net = network()
    released = freeze_all_but(net, ("head.0.*", "*.bias"))
    expected = {"encoder.0.bias", "encoder.1.bias", "head.0.weight", "head.0.bias", "head.1.bias", "head.3.bias"}
    assert {name for name, parameter in net.named_parameters() if parameter.requires_grad} == expected
    assert {id(parameter) for parameter in released} == {id(net.get_parameter(name)) for name in expected}
    assert len(released) == len(expected), "a parameter that two patterns match comes once"


def test_what_was_frozen_is_released_again() -> None:
    net = network()
    freeze_all_but(net, ("head.*",))
    assert len(freeze_all_but(net, ("*",))) == len(list(net.parameters()))
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("patterns", [("haed.0.weight",), ("head.*", "haed.0.weight")])
def test_a_pattern_that_matches_nothing_is_refused_with_near_names(patterns: tuple[str, ...]) -> None:
    net = network()
    with pytest.raises(ConvaeError, match=r"'haed\.0\.weight' matches no parameter.*head\.0\.weight"):
        freeze_all_but(net, patterns)
    assert all(parameter.requires_grad for parameter in net.parameters()), "a refusal changes nothing"


def test_a_leftover_gradient_does_not_move_a_frozen_weight() -> None:
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    net(torch.randn(8, 3)).square().sum().backward()
    before = {name: tensor.clone() for name, tensor in net.named_parameters()}
    assert all(parameter.grad is not None for parameter in net.parameters())
    freeze_all_but(net, ("head.*",))
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == [
        name for name in before if name.startswith("encoder.")
    ]
    optimizer.step()  # one that still holds them all
    moved = {name for name, tensor in net.named_parameters() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("head.") for name in moved)


def test_a_weight_that_two_layers_share_is_frozen_in_both_and_released_in_both() -> None:
    net = nn.Sequential()
    net.add_module("embed", nn.Linear(4, 4))
    net.add_module("out", nn.Linear(4, 4))
    net.out.weight = net.embed.weight
    released = freeze_all_but(net, ("out.bias",))
    assert [each is net.out.bias for each in released] == [True]
    assert not net.out.weight.requires_grad
    assert [each is net.embed.weight for each in freeze_all_but(net, ("embed.weight",))] == [True]
    assert net.out.weight.requires_grad, "it has one name, that of the layer that comes first"
    with pytest.raises(ConvaeError, match=r"'out.weight' matches no parameter"):
        freeze_all_but(net, ("out.weight",))


def test_a_module_that_stands_in_two_places_of_a_network_is_in_one_mode() -> None:
    net = nn.Sequential()
    pool = nn.MaxPool2d(2)
    net.add_module("encoder", nn.Sequential(nn.Conv2d(1, 2, 1), pool))
    net.add_module("head", nn.Sequential(nn.Conv2d(2, 2, 1), pool))
    freeze_all_but(net, ("head.*",))
    train_mode(net)
    assert not net.encoder[0].training
    assert net.head[0].training
    assert net(torch.ones(1, 1, 4, 4)).shape == (1, 2, 1, 1)


def modes(net: nn.Module) -> dict[str, bool]:
    return {name: layer.training for name, layer in net.named_modules()}


def test_frozen_batch_norm_and_dropout_are_in_evaluation_mode_and_released_ones_in_training_mode() -> None:
    net = network().eval()
    freeze_all_but(net, ("head.*",))
    train_mode(net)
    found = modes(net)
    assert found[""] is True
    assert [found[f"encoder{part}"] for part in ("", ".0", ".1", ".2")] == [False] * 4
    assert [found[f"head{part}"] for part in ("", ".0", ".1", ".2", ".3")] == [True] * 5


def test_a_frozen_batch_norm_within_a_released_part_stays_in_evaluation_mode() -> None:
    net = network()
    freeze_all_but(net, ("head.0.*", "head.3.*"))
    train_mode(net)
    assert modes(net)["head.1"] is False
    assert modes(net)["head.2"] is True


def test_frozen_layers_compute_the_same_whatever_the_batch() -> None:
    net = network()
    freeze_all_but(net, ("head.*",))
    train_mode(net)
    batch = torch.randn(8, 3)
    alone = torch.cat([net.get_submodule("encoder")(one) for one in batch.split(1)])
    torch.testing.assert_close(net.get_submodule("encoder")(batch), alone)


def test_without_batch_statistics_a_released_batch_norm_trains_its_weights_only() -> None:
    net = network()
    optimizer = torch.optim.Adam(freeze_all_but(net, ("*",)), lr=0.1)
    train_mode(net, batch_statistics=False)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net(torch.randn(8, 3) * 5 + 2).square().sum().backward()
    optimizer.step()
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"encoder.1.weight", "encoder.1.bias", "head.1.weight", "head.1.bias"} <= moved
    assert not [name for name in moved if "running" in name or "num_batches" in name]
    assert modes(net)["encoder.1"] is False
    assert modes(net)["encoder.2"] is True, "Dropout is no BatchNorm"


def test_with_batch_statistics_a_released_batch_norm_follows_the_batches() -> None:
    net = network()
    freeze_all_but(net, ("*",))
    train_mode(net)
    before = net.get_buffer("encoder.1.running_mean").clone()
    net(torch.randn(8, 3) + 2)
    assert not torch.equal(net.get_buffer("encoder.1.running_mean"), before)


@pytest.mark.parametrize(
    ("own", "steps", "momentum"),
    [(0.01, steps, share) for steps, share in ((1, 0.1), (100, 0.1), (400, 0.025), (1000, 0.01), (10**6, 0.01))]
    + [(0.01, 0, 0.1), (0.1, 10**6, 0.1), (0.3, 1, 0.3), (None, 1, None)],
)
def test_running_statistics_keep_up_with_short_stages_and_never_follow_more_slowly_than_by_themselves(
    own: float | None, steps: int, momentum: float | None
) -> None:
    net = network()
    layers = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d)]
    for layer in layers:
        layer.momentum = own
    with keeping_up(net, steps):
        assert [layer.momentum for layer in layers] == [momentum] * 2
    assert [layer.momentum for layer in layers] == [own] * 2


def test_the_hash_sees_a_change_of_any_frozen_tensor_and_of_no_other() -> None:
    net = network()
    freeze_all_but(net, ("head.*",))
    train_mode(net)
    whole = frozen_hash(net)
    with torch.no_grad():
        for name, tensor in net.state_dict(keep_vars=True).items():
            kept = tensor.detach().clone()
            tensor.add_(1)
            assert (frozen_hash(net) != whole) == name.startswith("encoder."), name
            tensor.copy_(kept)
            assert frozen_hash(net) == whole


def test_the_hash_does_not_depend_on_how_tensors_lie_in_memory() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval().requires_grad_(False)
    plain = frozen_hash(net)
    net.to(memory_format=torch.channels_last)
    assert not net.get_parameter("0.weight").is_contiguous()
    assert frozen_hash(net) == plain


def test_where_everything_trains_the_hash_says_nothing() -> None:
    net = network()
    freeze_all_but(net, ("*",))
    train_mode(net)
    assert frozen_hash(net) == "nothing"


def test_a_rate_with_decay_falls_in_a_straight_line_to_zero() -> None:
    plain, falling = Stage("a", 1, 0.5), Stage("b", 1, 0.5, decay=True)
    assert [plain.rate(done) for done in (0.0, 0.5, 1.0)] == [0.5, 0.5, 0.5]
    assert [falling.rate(done) for done in (0.0, 0.5, 1.0)] == [0.5, 0.25, 0.0]


def test_a_rate_falls_to_a_tenth_where_the_stage_says() -> None:
    deep_nets_for_eo = Stage("all", 50, 0.01, drops=(0.48, 0.68, 0.88))
    rates = [deep_nets_for_eo.rate(epoch / 50) for epoch in range(50)]
    assert rates == pytest.approx([1e-2] * 24 + [1e-3] * 10 + [1e-4] * 10 + [1e-5] * 6)
    assert Stage("all", 4, 1.0, decay=True, drops=(0.5,)).rate(0.5) == pytest.approx(0.05)


def test_weight_decay_pulls_biases_and_the_weights_of_batch_norm_too_and_never_what_is_frozen() -> None:
    net = network()
    before = {name: tensor.clone() for name, tensor in net.named_parameters()}
    stage = Stage("train", 1, 1e-2, optimizer="sgd", weight_decay=0.5, train=("head.*",))
    optimizer = optimizer_for(stage, freeze_all_but(net, stage.train))
    for parameter in net.head.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, tensor in net.named_parameters():
        shrunk = before[name] * (1 - 1e-2 * 0.5) if name.startswith("head.") else before[name]
        torch.testing.assert_close(tensor, shrunk, rtol=1e-6, atol=0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras
def test_a_rate_falls_on_the_plateaus_on_which_that_of_keras_does() -> None:
    keras = pytest.importorskip("keras")
    losses = [1.0, 0.5, 0.4995, 0.52, 0.4992, 0.49, 0.49, 0.491, 0.3, 0.31, 0.2999, 0.2995, 0.3, 0.3, 0.3]
    callback = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=3, min_delta=1e-3)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0))
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"val_loss": loss})
        rate = Stage("train", 100, 1.0, plateau=3).on_plateaus(losses[: epoch + 1])
        assert rate == pytest.approx(float(model.optimizer.learning_rate), rel=1e-6), epoch
    assert rate == pytest.approx(1e-3), "three plateaus"
    assert Stage("train", 100, 1.0).on_plateaus(losses) == 1.0


def test_a_plateau_lowers_the_rate_of_the_steps_after_it(tiny: Callable[..., Any]) -> None:
    built = tiny(stages=(Stage("finetune", epochs=5, lr=1e-12, plateau=2),))
    rates: list[float] = []
    built.trainer.logged = lambda _: rates.append(built.trainer.active.optimizer.param_groups[0]["lr"])
    built.train()
    assert rates == pytest.approx([1e-12] * 3 + [1e-13] * 2)


@pytest.mark.parametrize(("name", "kind"), [("rmsprop", "RMSprop"), ("adadelta", "Adadelta"), ("sgd", "SGD")])
def test_an_optimizer_moves_weights_as_that_of_keras_does(name: str, kind: str) -> None:
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    options = {"sgd": {"momentum": 0.9}}.get(name, {})
    theirs = getattr(keras.optimizers, kind)(learning_rate=0.1, **options)
    variable = keras.Variable([1.0, -2.0, 3.0])
    parameter = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    ours = optimizer_for(Stage("all", 1, 0.1, optimizer=name), [parameter])
    for step in range(5):
        gradient = torch.tensor([0.3, -0.1 * step, 2.0])
        parameter.grad = gradient.clone()
        ours.step()
        theirs.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    torch.testing.assert_close(
        parameter.detach(), keras.ops.convert_to_tensor(variable).detach().cpu(), rtol=2e-3, atol=1e-5
    )


def test_weight_decay_pulls_what_trains_to_zero_under_every_optimizer() -> None:
    for name in OPTIMIZERS:
        parameter = nn.Parameter(torch.ones(3))
        optimizer = optimizer_for(Stage("all", 1, 0.1, optimizer=name, weight_decay=0.5), [parameter])
        parameter.grad = torch.zeros(3)
        optimizer.step()
        assert (parameter < 1).all(), name
