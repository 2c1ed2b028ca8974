"""Which networks learn in ONNX Runtime and LiteRT, and how exactly.

    python -m benchmarks.learner_files           # writes benchmarks/results/...json
    python -m benchmarks.learner_files NAME ...  # only these networks
    python -m benchmarks.learner_files --table   # writes the table into docs/howto

Each network is exported and converted to both formats. `mk.convert` compares each file
with the SavedModel after 0, 1 and 3 steps on random tasks of two sizes, whose weights
move. A network that is refused is in the table with the operation that is missing.
"""

import json
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import keras

import maml_keras as mk

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/learner_files.json"
PAGE = ROOT / "docs/howto/formats.md"
FORMATS = {"onnx": ".onnx", "litert": ".tflite"}
layers = keras.layers

CLASSES = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def images(*middle: Any, flat: Any = layers.GlobalAveragePooling2D) -> keras.Model:
    """A classifier of images of 8x9 pixels."""
    return keras.Sequential([keras.Input([8, 9, 2]), *middle, flat(), layers.Dense(3)])


def series(*middle: Any) -> keras.Model:
    """A classifier of series of 8 steps."""
    return keras.Sequential([keras.Input([8, 3]), *middle, layers.Dense(3)])


def words(*middle: Any) -> keras.Model:
    """A classifier of 6 tokens."""
    start = [keras.Input([6], dtype="int32"), layers.Embedding(7, 4)]
    return keras.Sequential([*start, *middle, layers.Dense(3)])


def volumes(*middle: Any) -> keras.Model:
    """A classifier of volumes of 5x6x4 cells."""
    return keras.Sequential(
        [keras.Input([5, 6, 4, 2]), *middle, layers.Flatten(), layers.Dense(3)]
    )


def dense(activation: Any = "tanh", *middle: Any, outputs: int = 3) -> keras.Model:
    """A classifier of 3 numbers, or a regression."""
    hidden = layers.Dense(8, activation=activation)
    return keras.Sequential([keras.Input([3]), hidden, *middle, layers.Dense(outputs)])


def residual() -> keras.Model:
    """Two residual blocks with batch norm, the second with a stride."""
    x = inputs = keras.Input([8, 9, 2])
    for filters, stride in ((4, 1), (6, 2)):
        y = layers.Conv2D(filters, 3, strides=stride, padding="same")(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
        shortcut = layers.Conv2D(filters, 1, strides=stride)(x)
        x = layers.ReLU()(layers.Add()([y, shortcut]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def transformer() -> keras.Model:
    """A block of attention with layer norm, a residual path and an exact GELU."""
    inputs = keras.Input([6], dtype="int32")
    x = layers.Embedding(7, 8)(inputs)
    y = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    y = layers.Dense(8)(layers.Dense(16, activation="gelu")(x))
    x = layers.GlobalAveragePooling1D()(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(3)(x))


def maml(
    model: keras.Model,
    rule: Any = None,
    loss: Any = CLASSES,
    adapt: Any = None,
    start: Any = None,
    **options: Any,
) -> mk.MAML:
    """A meta-learner with three inner steps."""
    inner = mk.InnerLoop(loss, rule or mk.SGD(0.1), steps=3, adapt=adapt, start=start)
    return mk.MAML(model, inner, **options)


def convolution(*args: Any, **options: Any) -> mk.MAML:
    """A convolution of images."""
    return maml(images(layers.Conv2D(*args, activation="relu", **options)))


def normalised(policy: str) -> mk.MAML:
    """A convolution with batch norm under a policy."""
    model = images(layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU())
    return maml(model, batch_norm=policy)


NETWORKS: dict[str, Callable[[], mk.MAML]] = {
    "dense, regression": lambda: maml(dense(outputs=1), loss="mse"),
    "conv-4": lambda: maml(mk.models.conv4(filters=8), batch_norm="support"),
    "conv-4, max pooling": lambda: maml(
        mk.models.conv4(filters=4, shape=(20, 20, 3), max_pool=True)
    ),
    "residual network": lambda: maml(residual(), batch_norm="support"),
    "strided convolution": lambda: convolution(4, 3, strides=2, padding="same"),
    "dilated convolution": lambda: convolution(4, 3, dilation_rate=2),
    "grouped convolution": lambda: convolution(4, 3, groups=2),
    "separable convolution": lambda: maml(images(layers.SeparableConv2D(4, 3))),
    "depthwise convolution": lambda: maml(
        images(layers.DepthwiseConv2D(3, depth_multiplier=2))
    ),
    "transposed convolution": lambda: maml(
        images(layers.Conv2DTranspose(3, 3, strides=2))
    ),
    "1-D convolution": lambda: maml(
        series(layers.Conv1D(4, 3), layers.GlobalMaxPooling1D())
    ),
    "3-D convolution": lambda: maml(volumes(layers.Conv3D(3, 2), layers.MaxPool3D())),
    "average pooling": lambda: maml(
        images(layers.Conv2D(4, 3), layers.AveragePooling2D(2), flat=layers.Flatten)
    ),
    "resizing": lambda: maml(images(layers.Conv2D(3, 3), layers.UpSampling2D())),
    "layer norm": lambda: maml(dense("relu", layers.LayerNormalization())),
    "group norm": lambda: maml(
        images(layers.Conv2D(4, 3), layers.GroupNormalization(2))
    ),
    "unit norm": lambda: maml(dense("tanh", layers.UnitNormalization())),
    "transformer": lambda: maml(transformer()),
    "embedding": lambda: maml(words(layers.Flatten())),
    "LSTM": lambda: maml(words(layers.LSTM(4))),
    "GRU": lambda: maml(words(layers.GRU(4))),
    "bidirectional LSTM": lambda: maml(words(layers.Bidirectional(layers.LSTM(3)))),
    "low-rank adapters": lambda: maml(
        mk.models.with_low_rank_adapters(dense("relu"), rank=2)
    ),
    "context parameters": lambda: mk.recipes.cavia(
        mk.models.mlp(context=3), "mse", 0.5, steps=3
    ),
    **{
        f"activation {name}": lambda name=name: maml(dense(name))  # type: ignore[misc]
        for name in ("elu", "selu", "gelu", "softplus", "swish", "leaky_relu")
    },
    "rule MetaSGD": lambda: maml(dense(), mk.MetaSGD(0.1)),
    "rule PerStepSGD": lambda: maml(dense(), mk.PerStepSGD(0.1)),
    "rule MetaCurvature": lambda: maml(dense(), mk.MetaCurvature(0.1)),
    "rule Momentum": lambda: maml(dense(), mk.Momentum(0.1)),
    "rule Adam": lambda: maml(dense(), mk.Adam(0.01)),
    "rule ClipByNorm": lambda: maml(dense(), mk.ClipByNorm(mk.SGD(0.1), 1.0)),
    "last layer only": lambda: maml(dense(), adapt=mk.last_layer()),
    "start PrototypicalHead": lambda: maml(dense(), start=mk.PrototypicalHead()),
    **{
        f"batch norm {name}": lambda name=name: normalised(name)  # type: ignore[misc]
        for name in (
            "transductive",
            "inductive",
            "running",
            "frozen",
            "per_step",
            "per_step_running",
        )
    },
    "loss Huber, L2 penalty": lambda: maml(
        keras.Sequential(
            [
                keras.Input([3]),
                layers.Dense(8, activation="relu", kernel_regularizer="l2"),
                layers.Dense(1),
            ]
        ),
        loss="huber",
    ),
    "loss on probabilities": lambda: maml(
        keras.Sequential([dense(), layers.Softmax()]),
        loss="sparse_categorical_crossentropy",
    ),
}


def measured(name: str) -> dict[str, Any]:
    """Differences by format and steps, or why a format refuses the network."""
    keras.utils.set_random_seed(0)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        export = pathlib.Path(folder) / "export"
        NETWORKS[name]().export(export, verbose=0)
        for kind, suffix in FORMATS.items():
            path = pathlib.Path(folder) / f"learner{suffix}"
            try:
                done = mk.convert(export, path, adapt=True, verbose=0)
                found[kind] = {
                    "differences": {str(k): d for k, d in done.differences.items()},
                    "learning_rate": done.learning_rate,
                    "bytes": sum(p.stat().st_size for p in done.paths),
                }
            except ValueError as error:
                found[kind] = {"refused": str(error)}
    return found


def table() -> str:
    """The results as a table of Markdown."""
    results = json.loads(RESULTS.read_text("utf-8"))
    lines = ["| network | ONNX Runtime | LiteRT |", "|---|---|---|"]
    for name in NETWORKS:
        if name in results:
            cells = [_cell(results[name][kind]) for kind in FORMATS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(found: dict[str, Any]) -> str:
    if "refused" in found:
        named = re.findall(r"Operation (\w+)", found["refused"])
        return f"refused: {', '.join(named)}" if named else "refused"
    return f"{max(found['differences'].values()):.0e}"


def write_between(page: pathlib.Path, mark: str, text: str) -> None:
    """Puts text between two marks of a page, `<!-- mark -->` and its end."""
    start, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, _, rest = page.read_text("utf-8").partition(start)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{start}{text}\n{end}{after}", "utf-8")


def main(arguments: list[str]) -> None:
    """Measures networks, or writes the table."""
    if arguments == ["--table"]:
        write_between(PAGE, "networks", table())
        return
    for name in arguments or NETWORKS:
        results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
        results[name] = measured(name)
        ordered = {key: results[key] for key in NETWORKS if key in results}
        RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", "utf-8")
        cells = " | ".join(_cell(results[name][kind]) for kind in FORMATS)
        sys.stdout.write(f"{name}: {cells}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
