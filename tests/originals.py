"""The originals in Keras, built from their descriptions, layer by layer and with the names they give."""

import importlib
from typing import Any

import numpy as np

Shape = tuple[int, int, int]  # height, width, channels
DEPTHS = (2, 2, 3, 3, 3)
BLOCKS = (1, 2, 3, 4, 5)
SEGNET_WIDTHS = (4, 6, 8, 10, 12)


def vgg_maps(layers: Any, x: Any, widths: tuple[int, ...]) -> list[Any]:
    """VGG16's convolutions in Keras; each block's map before its pooling."""
    maps: list[Any] = []
    for block, (depth, width) in enumerate(zip(DEPTHS, widths, strict=False), start=1):
        x = layers.MaxPooling2D(name=f"block{block - 1}_pool")(x) if maps else x
        for conv in range(1, depth + 1):
            x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"block{block}_conv{conv}")(x)
        maps.append(x)
    return maps


def unet(keras: Any, blocks: int, classes: int, size: tuple[int, int]) -> Any:
    """The U-Net on VGG16, as the original writes it, without its softmax."""
    layers = keras.layers
    inputs = layers.Input((*size, 3))
    *skips, x = vgg_maps(layers, inputs, (64, 128, 256, 512, 512)[:blocks])
    widths = (256, 128, 64, 32)[-(blocks - 1) :]
    for step, (skip, width) in enumerate(zip(reversed(skips), widths, strict=True), start=blocks + 1):
        x = layers.concatenate([layers.UpSampling2D()(x), skip])
        for stage in (1, 2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"conv_{step}_{stage}")(x)
            x = layers.BatchNormalization(name=f"batch_norm_{step}_{stage}")(x)
            x = layers.Activation("relu")(x)
    return keras.Model(inputs, layers.Conv2D(classes, 1, name=f"conv_{2 * blocks}_1")(x))


def conv_encoder(layers: Any, x: Any) -> Any:
    for width in (32, 32, 0, 64, 64, 0, 128, 128, 256, 256):
        if width:
            x = layers.BatchNormalization()(layers.Conv2D(width, 3, activation="relu", padding="same")(x))
        else:
            x = layers.MaxPooling2D((2, 2))(x)
    return x


def conv_autoencoder(keras: Any, channels: int = 1, size: tuple[int, int] = (28, 28), code: int | None = None) -> Any:
    """DataCamp's; with `code`, squeezed between two Dense layers."""
    layers = keras.layers
    inputs = layers.Input((*size, channels))
    x = conv_encoder(layers, inputs)
    if code:
        side = (size[0] // 4, size[1] // 4, 256)
        x = layers.Dense(code)(layers.Flatten()(x))
        x = layers.Reshape(side)(layers.Dense(side[0] * side[1] * 256, activation="relu")(x))
    for width in (128, 128, 64, 64, 0, 32, 32, 0):
        if width:
            x = layers.BatchNormalization()(layers.Conv2D(width, 3, activation="relu", padding="same")(x))
        else:
            x = layers.UpSampling2D((2, 2))(x)
    return keras.Model(inputs, layers.Conv2D(channels, 3, activation="sigmoid", padding="same")(x))


def conv_classifier(
    keras: Any,
    classes: int,
    size: tuple[int, int] = (28, 28),
    channels: int = 1,
    activation: str | None = None,
    code: int | None = None,
) -> Any:
    layers = keras.layers
    inputs = layers.Input((*size, channels))
    x = layers.Flatten()(conv_encoder(layers, inputs))
    x = layers.Dense(code)(x) if code else x
    x = layers.Dense(128, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(classes, activation=activation)(x))


def count_on(keras: Any, conv: int, bn: int, dense: int = 0) -> None:
    """As late in a session: Keras has numbered that many layers before."""
    keras.utils.clear_session(free_memory=False)
    for make, times in (
        (lambda: keras.layers.Conv2D(1, 1), conv),
        (keras.layers.BatchNormalization, bn),
        (lambda: keras.layers.Dense(1), dense),
    ):
        for _ in range(times):
            make()


def convolution(layers: Any, x: Any, width: int, size: int = 3, **options: Any) -> Any:
    return layers.Conv2D(width, size, padding="same", **{"activation": "relu", **options})(x)


def azavea(keras: Any, shape: Shape, classes: int, blocks: int) -> Any:
    layers = keras.layers

    def block(number: int, x: Any, width: int) -> Any:
        for stage in (1, 2):
            x = convolution(layers, x, width, name=f"conv_{number}_{stage}")
            x = layers.BatchNormalization(name=f"batch_norm_{number}_{stage}")(x)
            x = layers.Activation("relu")(x)
        return x

    inputs = x = layers.Input(shape)
    widths, maps = (32, 64, 128, 256, 512)[:blocks], []
    for number, width in enumerate(widths, start=1):
        maps.append(block(number, layers.MaxPooling2D()(maps[-1]) if maps else inputs, width))
    *skips, x = maps
    for number, width in enumerate(reversed(widths[:-1]), start=blocks + 1):
        x = block(number, layers.Concatenate()([layers.UpSampling2D()(x), skips.pop()]), width)
    return keras.Model(inputs, layers.Conv2D(classes, 1, name=f"conv_{2 * blocks}_1")(x))


def jocicmarko(keras: Any, shape: Shape, classes: int, widths: tuple[int, ...], up: str) -> Any:
    layers = keras.layers
    inputs = layers.Input(shape)
    maps: list[Any] = []
    for width in widths:
        x = layers.MaxPooling2D()(maps[-1]) if maps else inputs
        maps.append(convolution(layers, convolution(layers, x, width), width))
    *skips, x = maps
    for width in reversed(widths[:-1]):
        if up == "transpose":
            x = layers.Conv2DTranspose(width, (2, 2), strides=(2, 2), padding="same")(x)
        else:
            x = layers.UpSampling2D()(x)
        x = layers.concatenate([x, skips.pop()])
        x = convolution(layers, convolution(layers, x, width), width)
    return keras.Model(inputs, layers.Conv2D(classes, 1)(x))


def zhixuhao(keras: Any, shape: Shape, classes: int, widths: tuple[int, ...]) -> Any:
    layers = keras.layers
    inputs = layers.Input(shape)
    maps: list[Any] = []
    for level, width in enumerate(widths, start=1):
        x = layers.MaxPooling2D()(maps[-1]) if maps else inputs
        x = convolution(layers, convolution(layers, x, width), width)
        maps.append(layers.Dropout(0.5)(x) if level > len(widths) - 2 else x)
    *skips, x = maps
    for width in reversed(widths[:-1]):
        x = convolution(layers, layers.UpSampling2D()(x), width, size=2)
        x = layers.concatenate([skips.pop(), x])
        x = convolution(layers, convolution(layers, x, width), width)
    x = convolution(layers, x, max(2, classes))
    return keras.Model(inputs, layers.Conv2D(classes, 1)(x))


def shallow(
    keras: Any, shape: Shape, classes: int, widths: tuple[int, ...], features: str | None, relu_logits: bool
) -> Any:
    layers = keras.layers

    def block(x: Any, width: int, name: str | None = None) -> Any:
        x = layers.Dropout(0.2)(convolution(layers, x, width))
        return convolution(layers, x, width, name=name)

    inputs = layers.Input(shape)
    fine = block(inputs, widths[0])
    middle = block(layers.MaxPooling2D()(fine), widths[1])
    x = block(layers.MaxPooling2D()(middle), widths[2])
    x = block(layers.concatenate([layers.UpSampling2D()(x), middle]), widths[1])
    x = block(layers.concatenate([layers.UpSampling2D()(x), fine]), widths[0], features)
    return keras.Model(inputs, layers.Conv2D(classes, 1, activation="relu" if relu_logits else None)(x))


def vgg_pools(layers: Any, x: Any, widths: tuple[int, ...]) -> list[Any]:
    pools = []
    for block, (depth, width) in enumerate(zip((2, 2, 3, 3), widths, strict=True), start=1):
        for stage in range(1, depth + 1):
            x = convolution(layers, x, width, name=f"block{block}_conv{stage}")
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
        pools.append(x)
    return pools


def vgg_decoded(
    keras: Any, shape: Shape, classes: int, widths: tuple[int, ...], features: str | None, skips: bool, relu: bool
) -> Any:
    """Both of image-segmentation-keras: `vgg_unet` with skips and ReLU, `vgg_segnet` without either."""
    layers = keras.layers
    inputs = layers.Input(shape)
    *pools, x = vgg_pools(layers, inputs, widths)
    for level, width in reversed(list(enumerate(widths))):
        if level < len(widths) - 1:
            x = layers.UpSampling2D()(x)
            x = layers.concatenate([x, pools[level]]) if skips else x
        x = layers.ZeroPadding2D((1, 1))(x)
        name, activation = (features if level == 0 else None), ("relu" if relu else None)
        x = layers.Conv2D(width, 3, padding="valid", activation=activation, name=name)(x)
        x = layers.BatchNormalization()(x)
    return keras.Model(inputs, layers.Conv2D(classes, 3, padding="same")(x))


def to_about_one(model: Any, images: np.ndarray) -> Any:
    """The model with its last layer, which is linear, scaled to logits of at most one: float32 rounds larger ones off
    by more than the absolute tolerance."""
    largest = float(model(images, training=False).detach().abs().max())
    for weight in model.layers[-1].weights:
        weight.assign(weight.value / largest)
    return model


def encoder_names(block: int) -> list[str]:
    return [f"conv{block}_{stage}" for stage in range(1, DEPTHS[block - 1] + 1)]


def decoder_names(block: int) -> list[str]:
    return [f"{name}_D" for name in reversed(encoder_names(block))]


def segnet_layers(keras: Any, channels: int, classes: int, vgg_names: bool = False) -> Any:
    """All layers of SegNet in a row: a model that Keras can hold and save, though it cannot unpool."""
    layers = keras.layers
    inputs = x = layers.Input((None, None, channels))
    widths = {
        name: SEGNET_WIDTHS[block - 1] for block in BLOCKS for name in encoder_names(block) + decoder_names(block)
    }
    widths |= {f"conv{block}_1_D": SEGNET_WIDTHS[block - 2] for block in BLOCKS[1:]} | {"conv1_1_D": classes}
    order = [name for block in BLOCKS for name in encoder_names(block)]
    order += [name for block in reversed(BLOCKS) for name in decoder_names(block)]
    for name in order:
        called = f"block{name[4]}_conv{name[6]}" if vgg_names and not name.endswith("_D") else name
        x = layers.Conv2D(widths[name], 3, padding="same", name=called)(x)
        if name != "conv1_1_D":
            x = layers.BatchNormalization(epsilon=1e-5, name=f"{called}_bn")(x)
    return keras.Model(inputs, x)


def basic_layers(keras: Any, channels: int, classes: int, width: int) -> Any:
    layers = keras.layers
    inputs = x = layers.Input((None, None, channels))
    for name in [f"conv{level}" for level in (1, 2, 3, 4)] + [f"conv_decode{level}" for level in (4, 3, 2, 1)]:
        x = layers.Conv2D(width, 7, padding="same", name=name)(x)
        x = layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)
    return keras.Model(inputs, layers.Conv2D(classes, 1, name="conv_classifier")(x))


def vgg16_with_top(keras: Any, shape: Shape, classes: int, widths: tuple[int, ...], hidden: int) -> Any:
    """keras.applications.VGG16, narrower."""
    layers = keras.layers
    inputs = layers.Input(shape)
    x = layers.MaxPooling2D(name="block5_pool")(vgg_maps(layers, inputs, widths)[-1])
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc1", "fc2"):
        x = layers.Dense(hidden, activation="relu", name=name)(x)
    return keras.Model(inputs, layers.Dense(classes, name="predictions")(x))


def vae_encoder(layers: Any, x: Any, widths: tuple[int, ...], hidden: int, code: int) -> tuple[Any, Any]:
    for width in widths:
        x = layers.Conv2D(width, 3, strides=2, padding="same", activation="relu")(x)
        x = layers.BatchNormalization()(x)
    x = layers.Dense(hidden, activation="relu")(layers.Flatten()(x))
    return layers.Dense(code, name="z_mean")(x), layers.Dense(code, name="z_log_var")(x)


def vae_decoder(layers: Any, x: Any, shape: Shape, widths: tuple[int, ...]) -> Any:
    times = 2 ** len(widths)
    side = (-(-shape[0] // times), -(-shape[1] // times), widths[-1])
    x = layers.Reshape(side)(layers.Dense(side[0] * side[1] * side[2], activation="relu")(x))
    for width in reversed(widths):
        x = layers.Conv2DTranspose(width, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(shape[2], 3, padding="same", activation="sigmoid")(x)
    cut = ((0, side[0] * times - shape[0]), (0, side[1] * times - shape[1]))
    return layers.Cropping2D(cut)(x) if cut != ((0, 0), (0, 0)) else x


def conv_vae(
    keras: Any,
    shape: Shape,
    widths: tuple[int, ...] = (32, 64, 128),
    hidden: int = 256,
    code: int = 32,
    nested: bool = False,
) -> Any:
    """From the images to the reconstruction from the mean, and the logarithm of the variance."""
    layers = keras.layers
    inputs = layers.Input(shape)
    mean, log_var = vae_encoder(layers, inputs, widths, hidden, code)
    if not nested:
        return keras.Model(inputs, [vae_decoder(layers, mean, shape, widths), mean, log_var])
    encoder = keras.Model(inputs, [mean, log_var], name="encoder")
    codes = layers.Input((code,))
    decoder = keras.Model(codes, vae_decoder(layers, codes, shape, widths), name="decoder")
    images = layers.Input(shape)
    mean, log_var = encoder(images)
    return keras.Model(images, [decoder(mean), mean, log_var])


def encoder_gru(
    keras: Any,
    shape: Shape,
    outputs: int = 1,
    widths: tuple[int, ...] = (32, 64, 128),
    hidden: int = 256,
    code: int = 32,
    units: int = 64,
    name: str | None = "encoder",
    steps: int | None = None,
) -> Any:
    """The encoder's mean of every frame, a GRU, and a Dense layer on its last state."""
    layers = keras.layers
    inputs = layers.Input(shape)
    encoder = keras.Model(inputs, vae_encoder(layers, inputs, widths, hidden, code)[0], name=name)
    frames = layers.Input((steps, *shape))
    x = layers.GRU(units)(layers.TimeDistributed(encoder)(frames))
    return keras.Model(frames, layers.Dense(outputs)(x))


def densenet(
    keras: Any,
    shape: Shape,
    classes: int | None,
    depths: tuple[int, ...] = (6, 12, 24, 16),
    head: tuple[int, ...] = (),
    pool: str = "avg",
) -> Any:
    """keras.applications.DenseNet121, with other numbers of layers; with `head`, tuned to another task."""
    layers = keras.layers
    body = importlib.import_module("keras.src.applications.densenet").DenseNet(
        list(depths), include_top=False, weights=None, input_shape=shape, name="densenet"
    )
    x = body.output
    if classes is None:
        return body
    if not head and pool == "avg":
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        return keras.Model(body.input, layers.Dense(classes, name="predictions")(x))
    x = layers.GlobalAveragePooling2D()(x) if pool == "avg" else layers.Flatten()(x)
    for width in head:
        x = layers.Dropout(0.5)(layers.Dense(width, activation="relu")(x))
    return keras.Model(body.input, layers.Dense(classes)(x))
