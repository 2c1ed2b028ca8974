"""ONNX and LiteRT files, run in a process without TensorFlow and maml_keras."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    attention,
    batch_normalised,
    dense,
    maml,
    multi_input,
    numpy_variables,
    regression,
    subclassed,
    words,
)
from typer.testing import CliRunner

import maml_keras as mk
from maml_keras.export import conversion, runtimes
from maml_keras_cli import app

pytestmark = [pytest.mark.journey, pytest.mark.usefixtures("tasks_in_a_loop")]

pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
pytest.importorskip("ai_edge_litert")

layers = keras.layers
FOLDER = pathlib.Path(__file__).parents[2] / "saved_models"
SUFFIXES = [".onnx", ".tflite"]

# Runs every file of a folder on the arrays of `in.npz`, which are named
# `<name>-<examples>-<input>`.
RUNNER = """
import pathlib, sys
for name in ("tensorflow", "keras", "maml_keras"):
    sys.modules[name] = None  # Importing it now fails.
import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
folder = pathlib.Path(sys.argv[1])
arrays, found = np.load(folder / "in.npz"), {}
for path in sorted(folder.glob("*.onnx")) + sorted(folder.glob("*.tflite")):
    for examples in ("6", "1"):
        start = f"{path.stem}-{examples}-"
        x = {k.removeprefix(start): arrays[k] for k in arrays if k.startswith(start)}
        if path.suffix == ".onnx":
            (y,) = onnxruntime.InferenceSession(str(path)).run(None, x)
        else:
            interpreter = Interpreter(model_path=str(path))
            (y,) = interpreter.get_signature_runner()(**x).values()
        found[f"{path.name}-{examples}"] = y
np.savez(folder / "out.npz", **found)
assert not {"tensorflow", "keras", "maml_keras"} & {
    name for name, module in sys.modules.items() if module is not None
}
"""


def networks(names):
    """Adapted networks by name, each with inputs for six examples."""
    generator = np.random.default_rng(0)
    task, _ = regression(support=6)
    x, y = task["support_x"][0], task["support_y"][0]
    several, _ = regression({"a": (3,), "b": (2,)}, support=6)
    several = {k: v[0] for k, v in several["support_x"].items()}
    images = generator.uniform(size=[6, 28, 28, 1]).astype("float32")
    labels = np.array([0, 1, 2, 0, 1, 2])
    tokens = generator.integers(0, 5, [6, 4]).astype("int32")
    sequences = generator.normal(size=[6, 4, 3]).astype("float32")
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    every = {
        "dense": (dense, x, y, "mse"),
        "batch_norm": (batch_normalised, x, y, "mse"),
        "conv4": (
            lambda: mk.models.conv4(ways=3, filters=8),
            images,
            labels,
            cross_entropy,
        ),
        "lstm": (lambda: words(layers.LSTM(3), layers.Dense(2)), tokens, y, "mse"),
        "attention": (attention, sequences, y, "mse"),
        "several": (multi_input, several, y, "mse"),
    }
    for name in names:
        build, x, y, loss = every[name]
        yield name, maml(build(), loss=loss, steps=3).adapt(x, y), x


def compared(names, folder):
    """The conversions, Keras's predictions, and the files' in another process."""
    keras.utils.set_random_seed(3)
    arrays, expected, written = {}, {}, {}
    for name, network, x in networks(names):
        several = isinstance(x, dict)
        named = {f"x_{k}": v for k, v in x.items()} if several else {"x": x}
        for suffix in SUFFIXES:
            written[name + suffix] = mk.convert(network, folder / f"{name}{suffix}")
        for examples in (6, 1):
            for key, array in named.items():
                arrays[f"{name}-{examples}-{key}"] = array[:examples]
            some = keras.tree.map_structure(lambda a, n=examples: a[:n], x)
            expected[f"{name}-{examples}"] = network.predict(some, verbose=0)
    np.savez(folder / "in.npz", **arrays)
    subprocess.run([sys.executable, "-c", RUNNER, str(folder)], check=True)
    return written, expected, dict(np.load(folder / "out.npz"))


def assert_same_answers(written, expected, answers):
    for file, done in written.items():
        assert done.difference <= 2e-5
        for examples in (6, 1):
            y = expected[f"{pathlib.Path(file).stem}-{examples}"]
            # float32 in another order of operations.
            atol = 2e-5 * np.abs(y).max()
            np.testing.assert_allclose(
                answers[f"{file}-{examples}"], y, rtol=0, atol=atol
            )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return compared(["batch_norm", "conv4"], tmp_path_factory.mktemp("formats"))


def test_other_runtimes_predict_as_keras_does(found):
    assert len(found[0]) == 4
    assert_same_answers(*found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "lstm", "attention", "several"])
def test_other_runtimes_predict_as_keras_does_for_other_layers(name, tmp_path):
    assert_same_answers(*compared([name], tmp_path))


def test_a_conversion_states_how_it_was_compared(found):
    written, *_ = found
    text = str(written["conv4.tflite"])
    assert "conv4.tflite: " in text
    assert "ai-edge-litert" in text
    assert "on 8 examples and on one (at most 1e-04)" in text


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_initialisation_normalises_by_its_policy(tmp_path, suffix):
    model = maml(batch_normalised())
    before = numpy_variables(model)
    task, _ = regression()
    x = task["query_x"][0]
    path = tmp_path / f"init{suffix}"
    done = mk.convert(model, path, examples=x)
    (y,) = runtimes.FORMATS[done.format].run(path, {"x": x}, [""])
    served = maml(model.model, steps=0).predict(task, verbose=0)[0]
    np.testing.assert_allclose(y, served, rtol=1e-4, atol=1e-5)
    # An ordinary network would predict something else.
    assert np.abs(y - model.model(x)).max() > 1e-3
    for a, b in zip(before, numpy_variables(model)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("sinusoid", [5, 1]),
        pytest.param("omniglot", [5, 28, 28, 1], marks=pytest.mark.slow),
    ],
)
def test_committed_exports_convert_and_serve_the_same(name, shape, tmp_path):
    done = conversion.convert_file(FOLDER / name, tmp_path / "init.onnx")
    x = np.random.default_rng(0).uniform(size=shape).astype("float32")
    (y,) = runtimes.FORMATS["onnx"].run(done.path, {"x": x}, [""])
    # The variable keeps the export alive; a loaded function does not.
    saved = tf.saved_model.load(str(FOLDER / name))
    served = saved.serve(x).numpy()
    np.testing.assert_allclose(y, served, rtol=0, atol=2e-5 * np.abs(served).max())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_predicts_otherwise_is_refused_and_not_written(
    tmp_path, monkeypatch, suffix
):
    kind = {f.suffix: f for f in runtimes.FORMATS.values()}[suffix]
    run = type(kind).run
    monkeypatch.setattr(type(kind), "run", lambda *a: [1.001 * y for y in run(*a)])
    with pytest.raises(ValueError, match=r"within 1e-04 .*Received: a difference of 1"):
        mk.convert(dense(), tmp_path / f"wrong{suffix}")
    assert not list(tmp_path.iterdir())
    done = mk.convert(dense(), tmp_path / f"loose{suffix}", tolerance=1e-2)
    assert 5e-4 < done.difference < 2e-3


def test_several_outputs_keep_their_order(tmp_path):
    x = keras.Input([3])
    answers = {"b": layers.Dense(2)(x), "a": layers.Dense(1)(x)}
    for suffix in SUFFIXES:
        assert mk.convert(keras.Model(x, answers), tmp_path / f"named{suffix}")
        listed = keras.Model(x, list(answers.values()))
        assert mk.convert(listed, tmp_path / f"listed{suffix}").difference < 1e-5


def test_a_model_without_shapes_needs_examples(tmp_path):
    model = subclassed()
    with pytest.raises(ValueError, match="does not tell the shape.*`examples`"):
        mk.convert(model, tmp_path / "m.onnx")
    done = mk.convert(model, tmp_path / "m.onnx", examples=np.ones([4, 3]))
    assert done.examples == 4
    any_length = keras.Sequential([keras.Input([None, 3]), layers.LSTM(2)])
    with pytest.raises(ValueError, match="any size along an axis.*`examples`"):
        mk.convert(any_length, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"shape \(None, 3\) for the input 'x'"):
        mk.convert(dense(), tmp_path / "m.onnx", examples=np.ones([4, 2]))


def test_a_network_that_litert_cannot_hold_is_refused(tmp_path):
    masked = keras.Sequential(
        [
            keras.Input([4], dtype="int32"),
            layers.Embedding(5, 3, mask_zero=True),
            layers.LSTM(3),
        ]
    )
    with pytest.raises(ValueError, match="'litert'.*without a mask.*'.onnx'"):
        mk.convert(masked, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("m.h5", {}, "must end in .onnx or .tflite"),
        ("m.onnx", {"format": "litert"}, "must end in .tflite"),
        ("m.onnx", {"format": "savedmodel"}, "maml.export"),
    ],
)
def test_wrong_paths_and_formats_are_refused(tmp_path, path, options, message):
    with pytest.raises(ValueError, match=message):
        mk.convert(dense(), tmp_path / path, **options)


def test_a_path_instead_of_a_network_is_refused(tmp_path):
    with pytest.raises(TypeError, match="must be a keras.Model.*convert_file"):
        mk.convert(str(tmp_path), tmp_path / "m.onnx")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_runtime_names_the_extra(tmp_path, monkeypatch, suffix):
    kind = {f.suffix: f for f in runtimes.FORMATS.values()}[suffix]
    monkeypatch.setitem(sys.modules, kind.modules[1], None)
    with pytest.raises(ImportError, match=rf"pip install 'maml_keras\[{kind.extra}\]'"):
        mk.convert(dense(), tmp_path / f"m{suffix}")
    done = mk.convert(dense(), tmp_path / f"m{suffix}", tolerance=None)
    assert "not compared with any runtime" in str(done)
    assert np.isnan(done.difference)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("approximate", [False, True])
def test_both_kinds_of_gelu_are_converted(suffix, approximate, tmp_path):
    def gelu(x):
        return keras.activations.gelu(x, approximate=approximate)

    model = keras.Sequential(
        [keras.Input([4]), layers.Dense(8), layers.Activation(gelu)]
    )
    done = mk.convert(model, tmp_path / f"m{suffix}")
    assert done.difference < 1e-6
    # After a conversion TensorFlow has its own function again.
    assert tf.nn.gelu.__module__.startswith("tensorflow.")


def test_a_file_that_its_runtime_cannot_run_is_refused(tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no such operation\nand more")

    monkeypatch.setattr(runtimes.Onnx, "run", fail)
    with pytest.raises(
        ValueError, match=r"must be able to run the file.*no such operation\)"
    ):
        mk.convert(dense(), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_program_converts_an_adapted_network(tmp_path):
    x = np.linspace(-3, 3, 10)[:, None]
    np.savez(tmp_path / "task.npz", x=x, y=np.sin(x))
    network = tmp_path / "adapted.keras"
    ended = run(
        *("adapt", FOLDER / "sinusoid", "--data", tmp_path / "task.npz"),
        *("--steps", 5, "--out", network),
    )
    assert ended.exit_code == 0, ended.output
    for number in ("", "-2"):
        ended = run("export", network, "--format", "onnx")
        assert ended.exit_code == 0, ended.output
        written = tmp_path / f"adapted{number}.onnx"
        assert f"{written}: " in ended.output
        (y,) = runtimes.FORMATS["onnx"].run(written, {"x": x.astype("float32")}, [""])
        expected = keras.saving.load_model(network).predict(x, verbose=0)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    ended = run("export", network, "--format", "onnx", "--out", written)
    assert ended.exit_code == 1
    assert "must be a new path" in ended.output


def test_the_program_refuses_what_it_cannot_export(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = run("export", "nowhere", "--format", "litert")
    assert ended.exit_code == 1
    assert "must be a .keras file" in ended.output
    ended = run("export", FOLDER / "sinusoid")
    assert ended.exit_code == 1
    assert "a SavedModel already. Copy the folder" in ended.output
    ended = run("export", FOLDER / "sinusoid" / "learner.keras")
    assert ended.exit_code == 1
    assert "keras.saving.load_model(path).export(folder)" in ended.output
