"""DataCamp's convolutional autoencoder, and the classifier that is put on its encoder."""

from __future__ import annotations

from torch import nn

from ..models import Model, create
from ..models.dropout import set_dropout
from ..training import Phase, Stage, classification, reconstruction
from ..weights import Plan, load_weights
from .recipe import Built, Order, Recipe


def _build(order: Order) -> Built:
    channels, *size = order.data.image_shape
    options = {"classes": len(order.data.classes), "in_channels": channels, "size": tuple(size)}
    autoencoder, classifier = create("convae", in_channels=channels), create("convae-classifier", **options)
    classifier.encoder = autoencoder.encoder  # one encoder, which the stages hand on
    set_dropout(classifier, order.dropout)
    plan = _load(order, autoencoder, classifier) if order.weights else None
    models = nn.ModuleDict({"autoencoder": autoencoder, "classifier": classifier})
    classify = (classifier, classification(order.loss, order.class_weights))
    tasks = {"pretrain": (autoencoder, reconstruction())}
    phases = tuple(Phase(stage, *tasks.get(stage.name, classify)) for stage in order.stages if stage.epochs)
    if phases and phases[-1].model is autoencoder:  # no stage with a head was asked for
        return Built(phases, models, autoencoder, "convae", {"in_channels": channels}, plan)
    return Built(phases, models, classifier, "convae-classifier", options, plan)


def _load(order: Order, autoencoder: Model, classifier: Model) -> Plan | None:
    """A file of either network; the decoder of one and the head of the other have a place in just one."""
    if order.weights and not order.groups:
        load_weights(autoencoder, order.weights)
    return order.load(classifier)


RECIPE = Recipe(
    about="conv autoencoder: pretrain it, freeze its encoder under a classifier's head, then fine-tune all",
    data="fashion-mnist-mini",
    task="classes",
    stages=(
        Stage("pretrain", epochs=1, lr=1e-3, decay=True, optimizer="rmsprop"),
        Stage("head", epochs=6, lr=1e-3, train=("head.*",), decay=True),
        Stage("finetune", epochs=1, lr=3e-4, batch_statistics=False, decay=True),
    ),
    batch_size=32,
    layout="channels-last",
    build=_build,
    pretraining=("pretrain",),
)
