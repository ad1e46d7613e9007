"""The variational autoencoder, and the GRU over what its encoder says of frames."""

from typing import Any

import numpy as np
import originals
import pytest
import torch
from small_models import VAE, small
from torch.nn import functional as F

import bridge
from torch_convae.errors import ConvaeError
from torch_convae.models import create


@pytest.mark.parametrize("side", [4, 5, 16, 17, 63, 64])
def test_a_stride_of_two_pads_as_kerass_same_does(side: int, keras: Any, images: Any) -> None:
    """At an even side at the bottom and right alone; padding all around gives other numbers there."""
    layer = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")
    x = images(1, side, side + 1, 2)
    expected = layer(x).detach().numpy().transpose(0, 3, 1, 2)
    encoder = create("conv_vae", in_channels=2, size=(side, side + 1), widths=(4,)).encoder.eval()
    seen: list[torch.Tensor] = []
    encoder.batch_normalization.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    encoder.conv2d.load_state_dict(
        {
            "weight": torch.tensor(layer.kernel.value.detach().numpy().transpose(3, 2, 0, 1).copy()),
            "bias": layer.bias.value.detach(),
        }
    )
    ours = torch.from_numpy(x.transpose(0, 3, 1, 2))
    with torch.inference_mode():
        encoder(ours)
        around = F.relu(F.conv2d(ours, encoder.conv2d.weight, encoder.conv2d.bias, stride=2, padding=1))
    np.testing.assert_allclose(seen[0].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert around.shape == seen[0].shape
    assert (around - seen[0]).abs().max() > 0.1


def test_the_reconstruction_is_from_the_mean_and_in_training_from_a_sample() -> None:
    model, x = small("conv_vae")
    assert torch.equal(model(x), model(x))
    reconstruction, mean, log_var = model.outputs(x)
    assert torch.equal(reconstruction, model(x))
    assert torch.equal(mean, model.encode(x))
    assert mean.shape == log_var.shape == (2, VAE["code"])
    model.train()
    torch.manual_seed(3)
    first = model(x)
    assert not torch.equal(first, model(x))
    torch.manual_seed(3)
    assert torch.equal(first, model.outputs(x).reconstruction), "a seed does not repeat the sample"


def test_samples_have_the_mean_and_the_variance_that_the_encoder_gives() -> None:
    model, x = small("conv_vae")
    model.encoder.train()
    for layer in model.encoder.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()
    with torch.inference_mode():
        mean, log_var = model.encoder.distribution(x)
        draws = torch.stack([model.encode(x) for _ in range(2000)])
    torch.testing.assert_close(draws.mean(0), mean, rtol=0, atol=0.2)
    torch.testing.assert_close(draws.var(0), log_var.exp(), rtol=0.2, atol=0.01)


def test_a_frozen_encoder_gives_its_mean_while_the_decoder_trains() -> None:
    model, x = small("conv_vae")
    model.train()
    model.encoder.eval()
    assert torch.equal(model.encode(x), model.encode(x))


def test_sequences_of_any_length_are_taken_one_code_a_frame_and_no_sample() -> None:
    model, x = small("encoder_gru")
    codes = model.encode(x)
    assert codes.shape == (2, 4, VAE["code"])
    torch.testing.assert_close(codes[:, 1], model.encoder(x[:, 1]))
    for length in (1, 2, 9):
        assert model(x[:, :1].repeat(1, length, 1, 1, 1)).shape == (2, 3)
    assert not torch.equal(model(x), model(x.flip(1))), "the order of the frames plays no part"
    model.train()
    assert torch.equal(model(x), model(x))
    with pytest.raises(ConvaeError, match=r"takes images \(N, T, 3, H, W\), not \(2, 3, 13, 22\)"):
        model(x[:, 0])


def test_the_gru_goes_on_from_a_trained_encoder_as_it_is() -> None:
    vae, _ = small("conv_vae")
    model, x = small("encoder_gru")
    model.encoder.share(vae.encoder)
    torch.testing.assert_close(model.encode(x)[:, 0], vae.encode(x[:, 0]))
    assert model.encoder.conv2d is vae.encoder.conv2d
    assert not any("log_var" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("nested", [False, True], ids=["one after the other", "models in a model"])
def test_the_encoder_of_the_gru_takes_a_file_of_the_whole_vae(
    nested: bool, keras: Any, randomised: Any, saved: Any
) -> None:
    path = saved(randomised(originals.conv_vae(keras, (13, 22, 3), **VAE, nested=nested)))
    vae, (model, _) = small("conv_vae")[0], small("encoder_gru")
    bridge.load(vae, path, strict=True)
    plan = bridge.load(model.encoder, path, prefix="") if not nested else bridge.load(model, path)
    assert {key.split("/")[-2] for key in plan.skipped} >= {"z_log_var", "conv2d_3" if not nested else "z_log_var"}
    own = model.encoder.state_dict()
    assert all(torch.equal(vae.encoder.state_dict()[name], tensor) for name, tensor in own.items())


def test_a_gru_of_keras_2_as_it_came_is_refused_in_one_line(keras: Any, randomised: Any, saved: Any) -> None:
    inputs = keras.layers.Input((13, 22, 3))
    mean = originals.vae_encoder(keras.layers, inputs, VAE["widths"], VAE["hidden"], VAE["code"])[0]
    frames = keras.layers.Input((None, 13, 22, 3))
    x = keras.layers.TimeDistributed(keras.Model(inputs, mean, name="encoder"))(frames)
    x = keras.layers.GRU(7, reset_after=False)(x)
    path = saved(randomised(keras.Model(frames, keras.layers.Dense(3)(x))))
    model, _ = small("encoder_gru")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(bridge.BridgeError, match="reset_after") as caught:
        bridge.load(model, path)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_images_of_another_size_are_refused_in_one_line() -> None:
    model, _ = small("conv_vae")
    with pytest.raises(ConvaeError, match=r"maps of 3 x 3 in front of a Dense layer for 2 x 3\. Resize the images"):
        model(torch.zeros(1, 3, 22, 22))


@pytest.mark.parametrize("option", ["code", "hidden", "units", "outputs"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True])
def test_counts_that_are_none_are_refused_in_one_line(option: str, value: Any) -> None:
    with pytest.raises(ConvaeError, match=f"encoder_gru takes a whole number of at least 1 for {option}, not"):
        create("encoder_gru", **{option: value})
