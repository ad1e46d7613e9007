"""A variational autoencoder of frames, then a GRU over what its encoder says of a sequence."""

from __future__ import annotations

from torch import nn

from ..models import create
from ..models.conv_vae import VAEEncoder
from ..models.dropout import set_dropout
from ..training import Phase, Release, Stage, regression, variational
from .recipe import Built, Order, Recipe


def _build(order: Order) -> Built:
    _, channels, *size = order.data.image_shape
    shared = {"in_channels": channels, "size": tuple(size)}
    options = {"outputs": len(order.data.classes), **shared}
    autoencoder, network = create("conv_vae", **shared), create("encoder_gru", **options)
    assert isinstance(network.encoder, VAEEncoder)
    assert isinstance(autoencoder.encoder, VAEEncoder)
    network.encoder.share(autoencoder.encoder)  # one encoder, which the stages hand on
    set_dropout(network, order.dropout)
    plan = order.load(network)
    models = nn.ModuleDict({"autoencoder": autoencoder, "network": network})
    tasks = {"vae": (autoencoder, variational())}
    regress = (network, regression())
    phases = tuple(Phase(stage, *tasks.get(stage.name, regress)) for stage in order.stages if stage.epochs)
    if phases and phases[-1].model is autoencoder:  # no stage with a GRU was asked for
        return Built(phases, models, autoencoder, "conv_vae", shared, plan)
    return Built(phases, models, network, "encoder_gru", options, plan)


RECIPE = Recipe(
    about="a VAE of frames, a GRU and a Dense layer on its frozen encoder, then all of it, guarded",
    data="moving-sprites",
    task="sequences",
    stages=(
        Stage("vae", epochs=6, lr=1e-3),
        Stage("head", epochs=40, lr=3e-3, train=("gru.*", "dense.*")),
        # The encoder at a tenth of the rate, BatchNorm as it was, gradients clipped, and an optimizer that knows the
        # head already: without these the loss jumps as soon as the encoder is released.
        Stage(
            "finetune",
            epochs=8,
            lr=1e-3,
            train=("gru.*", "dense.*"),
            batch_statistics=False,
            release=(Release(("encoder.*",), 0, 0.1),),
            clip=1.0,
            keep_optimizer=True,
        ),
    ),
    batch_size=32,
    layout="contiguous",
    build=_build,
    loss="mse",
    pretraining=("vae",),
)
