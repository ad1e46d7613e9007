"""Keras's `fit`, in a process of its own: python keras_fit.py WORK.npz WEIGHTS.h5 NAME BATCH

Its answers are lines of JSON: what it is, and then for every line "STEPS" how long so many steps took, and
their mean loss. It needs Keras and a backend (KERAS_BACKEND), and nothing of this project.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

CORES = os.environ.get("BENCHMARK_CORES")
if CORES:
    os.sched_setaffinity(0, {int(core) for core in CORES.split(",")})

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = (2, 2, 3, 3, 3)


def conv(x: Any, width: int, name: str, activation: str | None = "relu") -> Any:
    """A convolution of 3 x 3 that keeps the size."""
    return layers.Conv2D(width, 3, padding="same", activation=activation, name=name)(x)


def convae(shape: tuple[int, ...]) -> Any:
    """DataCamp's convolutional autoencoder."""
    inputs = x = layers.Input(shape)
    rank = 0
    for width in (32, 32, 0, 64, 64, 0, 128, 128, 256, 256, 128, 128, 64, 64, -1, 32, 32, -1):
        if width > 0:
            after = f"_{rank}" if rank else ""
            x = layers.BatchNormalization(name=f"batch_normalization{after}")(conv(x, width, f"conv2d{after}"))
            rank += 1
        else:
            x = layers.MaxPooling2D()(x) if width == 0 else layers.UpSampling2D()(x)
    return keras.Model(inputs, conv(x, shape[-1], f"conv2d_{rank}", "sigmoid"))


def vgg16_unet(shape: tuple[int, ...], classes: int = 6) -> Any:
    """A U-Net on VGG16, to logits."""
    inputs = x = layers.Input(shape)
    maps: list[Any] = []
    for block, (depth, width) in enumerate(zip(DEPTHS, WIDTHS), start=1):  # noqa: B905 (of any Python)
        x = layers.MaxPooling2D()(x) if maps else x
        for stage in range(1, depth + 1):
            x = conv(x, width, f"block{block}_conv{stage}")
        maps.append(x)
    for step, (skip, width) in enumerate(zip(maps[-2::-1], (256, 128, 64, 32)), start=6):  # noqa: B905
        x = layers.Concatenate()([layers.UpSampling2D()(x), skip])
        for stage in (1, 2):
            x = layers.BatchNormalization(name=f"batch_norm_{step}_{stage}")(conv(x, width, f"conv_{step}_{stage}"))
            x = layers.Activation("relu")(x)
    return keras.Model(inputs, layers.Conv2D(classes, 1, name="conv_10_1")(x))


def main() -> None:
    """Train when asked to, until nobody asks any more."""
    data, weights, name, batch = np.load(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    images, goals = data["images"], data["goals"]
    model = {"convae": convae, "vgg16_unet": vgg16_unet}[name](images.shape[1:])
    model.load_weights(weights, by_name=True)
    loss = "mse" if name == "convae" else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-7), loss=loss)
    print(json.dumps({"keras": keras.__version__, "backend": keras.config.backend()}), flush=True)
    for line in sys.stdin:
        count = int(line) * batch
        wall, cpu = time.perf_counter(), time.process_time()
        history = model.fit(images[:count], goals[:count], batch_size=batch, epochs=1, shuffle=False, verbose=0)
        took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps({**took, "loss": float(history.history["loss"][-1])}), flush=True)


if __name__ == "__main__":
    main()
