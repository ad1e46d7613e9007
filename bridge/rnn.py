"""Layers of Keras that torch.nn cannot compute.

The recurrent ones have torch's parameters, in names, shapes and gate order (weight_ih_l0, weight_hh_l0,
bias_ih_l0, bias_hh_l0, and `_reverse` for the second direction), so that what fits nn.LSTM fits LSTM.
One is not there: a GRU whose reset gate comes before the recurrent product (reset_after=False) has no
bias_hh_l0, as Keras has one bias for it, of (3 * units,). A second would only add to the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]
States = tuple[Tensor, ...]
Step = Callable[[Tensor, States, Tensor, Tensor | None], States]

# Two functions go by the name of hard_sigmoid: Keras 1, Keras 2 and tf_keras have the first, Keras 3 the second.
ACTIVATIONS: Mapping[str, Activation] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": lambda x: x,
    "softsign": F.softsign,
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0.0, 1.0),
    "hard_sigmoid_3": F.hardsigmoid,
}


class SimpleRNN(nn.Module):
    """Keras's SimpleRNN with any activation: (N, T, input_size) to (N, T, hidden_size) and the last state.

    `go_backwards` walks from the last step to the first and gives outputs in that order, as Keras does;
    the second direction of `bidirectional` lies beside the first, in the order of the input. States are
    (directions, N, hidden_size), as torch has them.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "tanh",
        bias: bool = True,
        bidirectional: bool = False,
        go_backwards: bool = False,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.bidirectional, self.go_backwards = bidirectional, go_backwards
        self.activation = activation
        _register(self, gates=1, recurrent_bias=bias)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (N, T, directions * hidden_size) and the last state of each direction."""
        activation = ACTIVATIONS[self.activation]

        def step(given: Tensor, states: States, weight: Tensor, bias: Tensor | None) -> States:
            return (activation(given + F.linear(states[0], weight, bias)),)

        outputs, (last,) = _run(self, x, (_start(self, x) if state is None else state,), step)
        return outputs, last


class LSTM(nn.Module):
    """Keras's LSTM with any activations: as SimpleRNN, and the state is a pair, hidden and cell."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "tanh",
        recurrent_activation: str = "hard_sigmoid",
        bias: bool = True,
        bidirectional: bool = False,
        go_backwards: bool = False,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.bidirectional, self.go_backwards = bidirectional, go_backwards
        self.activation, self.recurrent_activation = activation, recurrent_activation
        _register(self, gates=4, recurrent_bias=bias)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Outputs (N, T, directions * hidden_size) and the last hidden and cell state of each direction."""
        activation, recurrent = ACTIVATIONS[self.activation], ACTIVATIONS[self.recurrent_activation]

        def step(given: Tensor, states: States, weight: Tensor, bias: Tensor | None) -> States:
            i, f, g, o = (given + F.linear(states[0], weight, bias)).chunk(4, dim=-1)
            cell = recurrent(f) * states[1] + recurrent(i) * activation(g)
            return recurrent(o) * activation(cell), cell

        outputs, (hidden, cell) = _run(self, x, state or (_start(self, x), _start(self, x)), step)
        return outputs, (hidden, cell)


class GRU(nn.Module):
    """Keras's GRU of either kind with any activations: as SimpleRNN, gates in torch's order r, z, n.

    `reset_after=False` (a Keras bias of (3 * units,)) multiplies the state by the reset gate before the
    recurrent product, which nn.GRU cannot; then there is no bias_hh_l0. `reset_after=True` (a Keras bias
    of (2, 3 * units)) has both.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        reset_after: bool = False,
        activation: str = "tanh",
        recurrent_activation: str = "hard_sigmoid",
        bias: bool = True,
        bidirectional: bool = False,
        go_backwards: bool = False,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.bidirectional, self.go_backwards = bidirectional, go_backwards
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.reset_after = reset_after
        _register(self, gates=3, recurrent_bias=bias and reset_after)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (N, T, directions * hidden_size) and the last state of each direction."""
        activation, recurrent = ACTIVATIONS[self.activation], ACTIVATIONS[self.recurrent_activation]
        units = self.hidden_size

        def after(given: Tensor, states: States, weight: Tensor, bias: Tensor | None) -> States:
            r, z, n = given.chunk(3, dim=-1)
            past_r, past_z, past_n = F.linear(states[0], weight, bias).chunk(3, dim=-1)
            z = recurrent(z + past_z)
            return (z * states[0] + (1 - z) * activation(n + recurrent(r + past_r) * past_n),)

        def before(given: Tensor, states: States, weight: Tensor, bias: Tensor | None) -> States:
            gates, n = given[:, : 2 * units], given[:, 2 * units :]
            r, z = recurrent(gates + F.linear(states[0], weight[: 2 * units], bias)).chunk(2, dim=-1)
            return (z * states[0] + (1 - z) * activation(n + F.linear(r * states[0], weight[2 * units :])),)

        start = _start(self, x) if state is None else state
        outputs, (last,) = _run(self, x, (start,), after if self.reset_after else before)
        return outputs, last


def _register(layer: SimpleRNN | LSTM | GRU, gates: int, recurrent_bias: bool) -> None:
    """The parameters of a layer under torch's names, drawn as torch draws them."""
    for name in ("activation", "recurrent_activation"):
        if getattr(layer, name, "tanh") not in ACTIVATIONS:
            raise ValueError(f"There is no {name} {getattr(layer, name)!r}; there are {', '.join(ACTIVATIONS)}.")
    bound = layer.hidden_size**-0.5
    shapes: dict[str, tuple[int, ...]] = {
        "weight_ih_l0": (gates * layer.hidden_size, layer.input_size),
        "weight_hh_l0": (gates * layer.hidden_size, layer.hidden_size),
    }
    shapes |= {"bias_ih_l0": (gates * layer.hidden_size,)} if layer.bias else {}
    shapes |= {"bias_hh_l0": (gates * layer.hidden_size,)} if recurrent_bias else {}
    for suffix in _suffixes(layer):
        for name, shape in shapes.items():
            layer.register_parameter(name + suffix, nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))


def _suffixes(layer: SimpleRNN | LSTM | GRU) -> tuple[str, ...]:
    return ("", "_reverse") if layer.bidirectional else ("",)


def _start(layer: SimpleRNN | LSTM | GRU, x: Tensor) -> Tensor:
    return x.new_zeros(len(_suffixes(layer)), x.shape[0], layer.hidden_size)


def _run(layer: SimpleRNN | LSTM | GRU, x: Tensor, starts: States, step: Step) -> tuple[Tensor, States]:
    """The outputs of all directions side by side, and their last states one after the other."""
    outputs: list[Tensor] = []
    lasts: list[States] = []
    parameters = dict(layer.named_parameters())
    for direction, suffix in enumerate(_suffixes(layer)):
        weight, bias = parameters["weight_hh_l0" + suffix], parameters.get("bias_hh_l0" + suffix)
        # The inputs' part of every step at once: only the state's part has to wait for the step before.
        given = F.linear(x, parameters["weight_ih_l0" + suffix], parameters.get("bias_ih_l0" + suffix)).unbind(1)
        backwards = layer.go_backwards != (direction == 1)
        states = tuple(start[direction] for start in starts)
        steps: list[Tensor] = []
        for gates in reversed(given) if backwards else given:
            states = step(gates, states, weight, bias)
            steps.append(states[0])
        outputs.append(torch.stack(steps[::-1] if direction == 1 else steps, dim=1))
        lasts.append(states)
    return torch.cat(outputs, dim=-1), tuple(torch.stack(each) for each in zip(*lasts, strict=True))


class PReLU(nn.Module):
    """Keras's PReLU: x where it is positive, else x times a slope of its own place.

    `shape` is that of one sample, (channels, height, width), with 1 where a slope is shared along an
    axis (Keras's shared_axes); takes (N, C, H, W). Slopes shared over all places are nn.PReLU(channels).
    """

    def __init__(self, shape: tuple[int, ...], init: float = 0.25) -> None:
        super().__init__()
        self.shape, self.init = tuple(shape), init
        self.weight = nn.Parameter(torch.full(self.shape, init))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as `x`."""
        return torch.where(x > 0, x, self.weight * x)

    def extra_repr(self) -> str:
        """The shape, as print shows it."""
        return str(self.shape)
