"""A small network around every layer that Keras exports, in each of its modes.

Each network has a smooth, adapted layer before the layer in question, where gradients
pass through it, and curves behind it, so that its second derivative counts.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

L = keras.layers


class Case(NamedTuple):
    """A layer in one of its modes.

    Attributes:
        layer: the name that Keras exports.
        mode: what is particular, or "".
        build: makes the model.
        inputs: "floats", "pixels" in [0, 1], "integers" below 5 or "words".
    """

    layer: str
    mode: str
    build: Callable[[], keras.Model]
    inputs: str = "floats"


SHAPES = {0: [4], 1: [5, 3], 2: [6, 6, 3], 3: [4, 4, 4, 3]}
# What no model can hold by itself, and why.
NO_LAYER = {
    "Equalization": "Keras cannot put it into a model: its output is its input.",
    "FlaxLayer": "It wraps a module of Flax, and needs the package `flax`.",
    "InputSpec": "A description of inputs; it computes nothing.",
    "JaxLayer": "It wraps a function of JAX, and needs the package `jax`.",
    "Layer": "The base class of all layers; a subclass is as exact as what it calls.",
    "TorchModuleWrapper": "It wraps a module of PyTorch, and needs that backend.",
    "Wrapper": "The base class of wrappers; it computes nothing.",
}


@keras.saving.register_keras_serializable(package="maml_keras_scripts")
def x_sin_x(x: Any) -> Any:
    """What a `Lambda` computes."""
    return x * keras.ops.sin(x)


def inside(layer: Any, shape: list[int]) -> keras.Model:
    """Gradients pass through the layer."""
    return keras.Sequential(
        [
            keras.Input(shape),
            L.Dense(shape[-1], activation="tanh"),
            layer,
            L.Activation("tanh"),
            L.Flatten(),
            L.Dense(2),
        ]
    )


def first(layer: Any, shape: list[int], dtype: str = "float32") -> keras.Model:
    """The layer takes the inputs: no gradient passes through it."""
    return keras.Sequential(
        [
            keras.Input(shape, dtype=dtype),
            layer,
            L.Dense(3, activation="tanh"),
            L.Flatten(),
            L.Dense(2),
        ]
    )


def merged(layer: Any, shape: list[int]) -> keras.Model:
    """The layer takes two tensors."""
    x = keras.Input(shape)
    pair = [L.Dense(shape[-1], activation="tanh")(x) for _ in range(2)]
    y = L.Activation("tanh")(layer(pair))
    return keras.Model(x, L.Dense(2)(L.Flatten()(y)))


def attended(layer: Any) -> keras.Model:
    """Queries, values and keys as arguments."""
    x = keras.Input([5, 4])
    query, value = (L.Dense(4, activation="tanh")(x) for _ in range(2))
    return keras.Model(x, L.Dense(2)(L.Flatten()(layer(query, value))))


def embedded(*middle: Any) -> keras.Model:
    """Token numbers and what takes their vectors."""
    return keras.Sequential(
        [keras.Input([5], dtype="int32"), *middle, L.Flatten(), L.Dense(2)]
    )


def cases() -> Iterator[Case]:
    """Every case."""
    yield from _plain()
    yield from _parametrised()
    yield from _pooling()
    yield from _convolutions()
    yield from _recurrent()
    yield from _attention_and_merging()
    yield from _resizing()
    yield from _images()
    yield from _words_and_numbers()


def _case(layer: str, mode: str, rank: int, **settings: Any) -> Case:
    """A layer inside a network on examples of `rank` axes before the channels."""

    def build() -> keras.Model:
        return inside(getattr(L, layer)(**settings), SHAPES[rank])

    return Case(layer, mode, build)


def _plain() -> Iterator[Case]:
    names = [
        name
        for name in sorted(dir(keras.activations))
        if callable(getattr(keras.activations, name))
        # GLU halves an axis, which `Activation` does not declare; a threshold has none.
        and name not in ("deserialize", "get", "glu", "serialize", "threshold")
    ]
    for name in names:
        yield _case("Activation", name, 0, activation=name)
    yield _case("ActivityRegularization", "", 0, l1=0.0, l2=0.1)
    for name in ("AlphaDropout", "Dropout", "GaussianDropout"):
        yield _case(name, "", 0, rate=0.3)
    yield _case("GaussianNoise", "", 0, stddev=0.3)
    for rank in (1, 2, 3):
        yield _case(f"SpatialDropout{rank}D", "", rank, rate=0.3)
        yield _case(f"Cropping{rank}D", "", rank, cropping=1)
        yield _case(f"ZeroPadding{rank}D", "", rank, padding=1)
    for name in ("Dense", "PReLU", "ELU", "LeakyReLU", "ReLU", "Softmax", "Identity"):
        yield _case(name, "", 0, **({"units": 3} if name == "Dense" else {}))
    yield _case("ReLU", "max_value", 0, max_value=0.5, negative_slope=0.1)
    yield _case("Flatten", "", 2)
    yield _case("Permute", "", 2, dims=[2, 1, 3])
    yield _case("Reshape", "", 2, target_shape=[9, 12])
    yield _case("RepeatVector", "", 0, n=3)
    yield _case("Rescaling", "", 0, scale=0.5, offset=0.1)
    yield _case("Masking", "", 1, mask_value=0.0)
    yield Case("Lambda", "", lambda: inside(L.Lambda(x_sin_x), [4]))
    yield Case("InputLayer", "", lambda: first(L.Identity(), [4]))
    yield _case("EinsumDense", "", 0, equation="ab,bc->ac", output_shape=3)
    yield Case(
        "Normalization",
        "",
        lambda: inside(L.Normalization(mean=[0.1] * 4, variance=[2.0] * 4), [4]),
    )
    yield Case("TFSMLayer", "trainable", _saved)


def _saved() -> keras.Model:
    """A SavedModel as a layer."""
    folder = tempfile.mkdtemp()
    model = keras.Sequential([keras.Input([4]), L.Dense(3, activation="tanh")])
    model.export(os.path.join(folder, "model"), verbose=False)
    return inside(L.TFSMLayer(os.path.join(folder, "model"), "serve"), [4])


def _parametrised() -> Iterator[Case]:
    yield _case("BatchNormalization", "", 2)
    yield _case("BatchNormalization", "renorm", 2, renorm=True)
    for axis in (-1, (1, 2)):
        yield _case("LayerNormalization", f"axis={axis}", 2, axis=axis)
    yield _case("GroupNormalization", "groups=3", 2, groups=3)
    yield _case("GroupNormalization", "instance", 2, groups=-1)
    yield _case("RMSNormalization", "", 0)
    yield _case("UnitNormalization", "", 0)
    yield Case(
        "SpectralNormalization",
        "",
        lambda: inside(L.SpectralNormalization(L.Dense(3)), [4]),
    )
    yield Case("Embedding", "", lambda: embedded(L.Embedding(5, 3)), "integers")
    yield Case(
        "ReversibleEmbedding",
        "",
        lambda: embedded(L.ReversibleEmbedding(5, 3)),
        "integers",
    )
    yield Case(
        "TimeDistributed",
        "",
        lambda: inside(L.TimeDistributed(L.Dense(3, activation="tanh")), [5, 3]),
    )
    # Keras takes named windows from SciPy.
    frames = {"frame_length": 8, "frame_step": 4, "fft_length": 8, "window": None}
    yield Case(
        "STFTSpectrogram",
        "magnitude",
        lambda: _sound(L.STFTSpectrogram(**frames), [32, 1]),
    )
    for mode in ("log", "psd", "real", "imag", "angle"):
        yield Case(
            "STFTSpectrogram",
            mode,
            lambda mode=mode: _sound(
                L.STFTSpectrogram(mode, **frames),
                [32, 1],
            ),
        )
    yield Case(
        "MelSpectrogram",
        "",
        lambda: _sound(
            L.MelSpectrogram(
                fft_length=16,
                sequence_stride=8,
                sampling_rate=64,
                num_mel_bins=4,
                min_freq=1.0,
            ),
            [32],
        ),
    )


def _sound(layer: Any, shape: list[int]) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input([6]),
            L.Dense(32, activation="tanh"),
            L.Reshape(shape),
            layer,
            L.Flatten(),
            L.Dense(2),
        ]
    )


def _pooling() -> Iterator[Case]:
    for rank, kind in itertools.product((1, 2, 3), ("Average", "Max")):
        for padding in ("valid", "same"):
            settings = {"pool_size": 2, "padding": padding}
            yield _case(f"{kind}Pooling{rank}D", padding, rank, **settings)
        yield _case(f"Global{kind}Pooling{rank}D", "", rank)
        yield _case(f"Adaptive{kind}Pooling{rank}D", "", rank, output_size=2)
    yield _case("MaxPooling2D", "overlapping", 2, pool_size=3, strides=1)


def _convolutions() -> Iterator[Case]:
    for rank in (1, 2, 3):
        settings = {"filters": 2, "kernel_size": 2}
        yield _case(f"Conv{rank}D", "", rank, **settings)
        yield _case(f"Conv{rank}D", "dilated", rank, dilation_rate=2, **settings)
        yield _case(f"Conv{rank}D", "strided", rank, strides=2, **settings)
        yield _case(f"Conv{rank}DTranspose", "", rank, strides=2, **settings)
        shape = [3, *[4] * rank, 2]
        yield Case(
            f"ConvLSTM{rank}D",
            "",
            lambda rank=rank, shape=shape: inside(
                getattr(L, f"ConvLSTM{rank}D")(2, 2), shape
            ),
        )
        if rank < 3:
            yield _case(f"DepthwiseConv{rank}D", "", rank, kernel_size=2)
            yield _case(f"SeparableConv{rank}D", "", rank, **settings)
    yield _case("Conv2D", "grouped", 2, filters=3, kernel_size=2, groups=3)
    yield _case("Conv1D", "causal", 1, filters=2, kernel_size=2, padding="causal")


def _recurrent() -> Iterator[Case]:
    for name in ("SimpleRNN", "LSTM", "GRU"):
        yield _case(name, "", 1, units=3)
        yield _case(name, "sequences", 1, units=3, return_sequences=True)
        yield Case(
            f"{name}Cell",
            "",
            lambda name=name: inside(L.RNN(getattr(L, f"{name}Cell")(3)), [5, 3]),
        )
    yield Case("RNN", "", lambda: inside(L.RNN(L.GRUCell(3)), [5, 3]))
    yield Case(
        "StackedRNNCells",
        "",
        lambda: inside(L.RNN(L.StackedRNNCells([L.GRUCell(3), L.LSTMCell(2)])), [5, 3]),
    )
    yield Case("Bidirectional", "", lambda: inside(L.Bidirectional(L.GRU(2)), [5, 3]))
    yield Case("LSTM", "longer than 64 steps", lambda: inside(L.LSTM(2), [70, 2]))


def _attention_and_merging() -> Iterator[Case]:
    for mode in ("dot", "concat"):
        yield Case(
            "Attention",
            mode,
            lambda mode=mode: merged(
                L.Attention(use_scale=True, score_mode=mode), [5, 4]
            ),
        )
    yield Case("AdditiveAttention", "", lambda: merged(L.AdditiveAttention(), [5, 4]))
    yield Case("MultiHeadAttention", "", lambda: attended(L.MultiHeadAttention(2, 2)))
    yield Case(
        "GroupQueryAttention",
        "",
        lambda: attended(L.GroupQueryAttention(2, 4, 2)),
    )
    for name in (
        "Add",
        "Average",
        "Concatenate",
        "Maximum",
        "Minimum",
        "Multiply",
        "Subtract",
    ):
        yield Case(name, "", lambda name=name: merged(getattr(L, name)(), [4]))
    yield Case("Dot", "", lambda: merged(L.Dot(axes=-1), [5, 4]))
    yield Case("Dot", "normalize", lambda: merged(L.Dot(-1, normalize=True), [5, 4]))


def _resizing() -> Iterator[Case]:
    yield _case("UpSampling1D", "", 1, size=2)
    yield _case("UpSampling3D", "", 3, size=2)
    for method in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"):
        yield _case("UpSampling2D", method, 2, interpolation=method)
    for method in ("nearest", "bilinear", "bicubic", "area", "lanczos3", "lanczos5"):
        for antialias in (False, True):
            yield _case(
                "Resizing",
                f"{method}{', antialias' if antialias else ''}",
                2,
                height=4,
                width=9,
                interpolation=method,
                antialias=antialias,
            )
    yield _case("CenterCrop", "smaller", 2, height=4, width=3)
    yield _case("CenterCrop", "larger", 2, height=8, width=9)


RANGE = {"value_range": (0.0, 1.0)}
IMAGES: dict[str, dict[str, Any]] = {
    "AugMix": RANGE,
    "AutoContrast": RANGE,
    "ContrastLimitedAdaptiveHistogramEqualization": RANGE,
    "CutMix": {},
    "MixUp": {},
    "RandAugment": RANGE,
    "RandomBrightness": {"factor": 0.3, **RANGE},
    "RandomColorDegeneration": {"factor": 0.5, **RANGE},
    "RandomColorJitter": {"brightness_factor": 0.3, "contrast_factor": 0.3, **RANGE},
    "RandomContrast": {"factor": 0.3, **RANGE},
    "RandomCrop": {"height": 4, "width": 5},
    "RandomElasticTransform": RANGE,
    "RandomErasing": RANGE,
    "RandomFlip": {},
    "RandomGaussianBlur": RANGE,
    "RandomGrayscale": {},
    "RandomHue": {"factor": 0.3, **RANGE},
    "RandomInvert": RANGE,
    "RandomPerspective": {},
    "RandomPosterization": {"factor": 3, **RANGE},
    "RandomRotation": {"factor": 0.2},
    "RandomSaturation": {"factor": 0.3, **RANGE},
    "RandomSharpness": {"factor": 0.5, **RANGE},
    "RandomShear": {"x_factor": (0.0, 0.2), "y_factor": (0.0, 0.2)},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
    "RandomZoom": {"height_factor": 0.2},
    "Solarization": RANGE,
}


def _images() -> Iterator[Case]:
    for name, settings in IMAGES.items():

        def layer(name: str = name, settings: dict[str, Any] = settings) -> Any:
            return getattr(L, name)(**settings)

        yield Case(
            name, "on inputs", lambda layer=layer: first(layer(), SHAPES[2]), "pixels"
        )
        yield Case(
            name,
            "behind weights",
            lambda layer=layer: inside(layer(), SHAPES[2]),
            "pixels",
        )
    yield Case(
        "Pipeline",
        "on inputs",
        lambda: first(L.Pipeline([L.RandomFlip(), L.RandomContrast(0.3)]), SHAPES[2]),
        "pixels",
    )
    yield Case(
        "MaxNumBoundingBoxes",
        "",
        lambda: first(L.MaxNumBoundingBoxes(3), SHAPES[2]),
        "pixels",
    )


def _words_and_numbers() -> Iterator[Case]:
    for mode in ("one_hot", "multi_hot", "count"):
        shape = [1] if mode == "one_hot" else [5]
        yield Case(
            "CategoryEncoding",
            mode,
            lambda mode=mode, shape=shape: first(
                L.CategoryEncoding(5, output_mode=mode), shape, "int32"
            ),
            "integers",
        )
    yield Case(
        "Discretization",
        "",
        lambda: keras.Sequential(
            [
                keras.Input([4]),
                L.Discretization(bin_boundaries=[-1.0, 0.0, 1.0]),
                L.Embedding(4, 3),
                L.Flatten(),
                L.Dense(2),
            ]
        ),
    )
    yield Case(
        "Hashing",
        "",
        lambda: embedded(L.Hashing(num_bins=5), L.Embedding(5, 3)),
        "integers",
    )
    yield Case("HashedCrossing", "", _crossed, "integers")
    yield Case("IntegerLookup", "", lambda: _looked_up(L.IntegerLookup), "integers")
    yield Case("StringLookup", "", lambda: _looked_up(L.StringLookup), "words")
    yield Case("TextVectorization", "", _texts, "words")


def _crossed() -> keras.Model:
    x = keras.Input([2], dtype="int32")
    crossed = L.HashedCrossing(num_bins=5)((x[:, :1], x[:, 1:]))
    return keras.Model(x, L.Dense(2)(L.Flatten()(L.Embedding(5, 3)(crossed))))


def _looked_up(kind: Any) -> keras.Model:
    words = kind is L.StringLookup
    vocabulary = ["a", "b", "c"] if words else [0, 1, 2]
    return keras.Sequential(
        [
            keras.Input([5], dtype="string" if words else "int32"),
            kind(vocabulary=vocabulary),
            L.Embedding(5, 3),
            L.Flatten(),
            L.Dense(2),
        ]
    )


def _texts() -> keras.Model:
    layer = L.TextVectorization(output_sequence_length=3, vocabulary=["a", "b"])
    return keras.Sequential(
        [
            keras.Input([], dtype="string"),
            layer,
            L.Embedding(5, 3),
            L.Flatten(),
            L.Dense(2),
        ]
    )


def batch(
    model: keras.Model, inputs: str, tasks: int = 1
) -> tuple[dict[str, Any], Any]:
    """Tasks for the model, drawn from seed 0."""
    generator = np.random.default_rng(0)

    def draw(count: int) -> Any:
        shape = [tasks, count, *model.input_shape[1:]]
        if inputs == "integers":
            return generator.integers(0, 5, shape).astype("int32")
        if inputs == "words":
            return tf.constant(generator.choice(["a", "b", "c"], shape).tolist())
        if inputs == "pixels":
            return generator.uniform(size=shape).astype("float32")
        return generator.normal(size=shape).astype("float32")

    task = {
        "support_x": draw(3),
        "support_y": generator.normal(size=[tasks, 3, 2]).astype("float32"),
        "query_x": draw(2),
    }
    return task, generator.normal(size=[tasks, 2, 2]).astype("float32")
