"""What frozen means, layer by layer."""

import pytest
import torch
from torch import nn

from torch_convae import ConvaeError
from torch_convae.training import Stage, freeze_all_but, frozen_hash, train_mode
from torch_convae.training.freezing import keep_up


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
    ("steps", "momentum"), [(1, 0.1), (100, 0.1), (400, 0.025), (1000, 0.01), (10**6, 0.01), (0, 0.1)]
)
def test_running_statistics_keep_up_between_the_momenta_of_keras_and_pytorch(steps: int, momentum: float) -> None:
    net = network()
    keep_up(net, steps)
    assert [layer.momentum for layer in net.modules() if isinstance(layer, nn.BatchNorm1d)] == [momentum] * 2


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
