"""Files that learn, in ONNX Runtime and LiteRT."""

import json
import pathlib
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from helpers import batch_normalised, dense, maml
from typer.testing import CliRunner

import maml_keras as mk
from maml_keras.export import learner_check, learner_files
from maml_keras.export.learner_formats import LEARNER_FORMATS, LiteRTLearner
from maml_keras_cli import app

pytestmark = [pytest.mark.journey, pytest.mark.usefixtures("tasks_in_a_loop")]

pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
pytest.importorskip("ai_edge_litert")

FOLDER = pathlib.Path(__file__).parents[2] / "saved_models"
SUFFIXES = [".onnx", ".tflite"]
HOW = {"steps": np.int32(3), "learning_rate": np.float32(0.01)}


@pytest.fixture(scope="module")
def learners(tmp_path_factory):
    """The committed sinusoid export as files, by their ending."""
    folder = tmp_path_factory.mktemp("learners")
    return {
        suffix: mk.convert(FOLDER / "sinusoid", folder / f"learner{suffix}", adapt=True)
        for suffix in SUFFIXES
    }


@pytest.fixture(scope="module")
def task():
    x = np.linspace(-3, 3, 5, dtype="float32")[:, None]
    query = np.linspace(-5, 5, 7, dtype="float32")[:, None]
    return {"support_x": x, "support_y": 2 * np.sin(x - 1), "query_x": query}


def opened(done):
    return LEARNER_FORMATS[done.format].open(done.paths[-1])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_adapts_as_the_savedmodel_does(learners, task, suffix):
    run, saved = opened(learners[suffix]), tf.saved_model.load(FOLDER / "sinusoid")
    expected = saved.adapt_and_predict(*task.values(), **HOW)
    found = run("adapt_and_predict", **task, **HOW)["predictions"]
    # float32 in another order of operations.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(expected - saved.serve(task["query_x"])).max() > 0.1
    weights = run("adapt", **task, **HOW)
    again = run("predict_with", x=task["query_x"], steps=HOW["steps"], **weights)
    np.testing.assert_allclose(again["predictions"], expected, rtol=0, atol=1e-5)
    assert max(learners[suffix].differences.values()) < 1e-5
    assert "differs from the SavedModel by" in str(learners[suffix])


def test_a_litert_file_keeps_what_it_learned_until_reset(learners, task):
    run, saved = opened(learners[".tflite"]), tf.saved_model.load(FOLDER / "sinusoid")
    x, y, query = task.values()
    before = run("serve", x=query)["predictions"]
    for _ in range(2):
        loss = run("fine_tune", x=x, y=y, **HOW)["loss"]
        np.testing.assert_allclose(loss, saved.fine_tune(x, y, **HOW), rtol=1e-4)
    np.testing.assert_allclose(
        run("serve", x=query)["predictions"], saved.serve(query), rtol=0, atol=1e-5
    )
    # The other functions still start from the initialisation.
    saved.reset()
    np.testing.assert_allclose(
        run("adapt_and_predict", **task, **HOW)["predictions"],
        saved.adapt_and_predict(x, y, query, **HOW),
        rtol=0,
        atol=1e-5,
    )
    assert run("reset")["done"]
    np.testing.assert_array_equal(run("serve", x=query)["predictions"], before)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "bad",
    [
        {"support_x": np.full([5, 1], np.nan, "float32")},
        {"support_y": np.full([5, 1], np.inf, "float32")},
        {"query_x": np.full([7, 1], np.nan, "float32")},
        {"steps": np.int32(-1)},
        {"learning_rate": np.float32(-0.5)},
        {"learning_rate": np.float32(np.nan)},
        # Adaptation diverges.
        {"learning_rate": np.float32(1e30)},
    ],
)
def test_bad_input_gives_nan(learners, task, suffix, bad):
    found = opened(learners[suffix])("adapt_and_predict", **{**task, **HOW, **bad})
    assert np.isnan(found["predictions"]).all()


def test_bad_input_changes_no_weight(learners, task):
    run = opened(learners[".tflite"])
    x, y, query = task.values()
    run("fine_tune", x=x, y=y, **HOW)
    before = run("serve", x=query)["predictions"]
    assert np.isnan(run("fine_tune", x=x * np.float32(np.nan), y=y, **HOW)["loss"])
    np.testing.assert_array_equal(run("serve", x=query)["predictions"], before)


def test_the_card_is_in_the_files(learners):
    import onnxruntime

    expected = json.loads((FOLDER / "sinusoid" / "card.json").read_text("utf-8"))
    functions = dict(zip(learners[".onnx"].paths, ("adapt", "predict")))
    cards = []
    for path in learners[".onnx"].paths:
        session = onnxruntime.InferenceSession(path)
        metadata = session.get_modelmeta().custom_metadata_map
        assert metadata["function"].startswith(functions.get(path, "adapt_and_predict"))
        cards.append(json.loads(metadata["card"]))
    with zipfile.ZipFile(learners[".tflite"].paths[0]) as archive:
        cards.append(json.loads(archive.read("card.json")))
    for card in cards:
        assert card.pop("file")["bad_input"].startswith("NaN for empty sets")
        assert card == expected


def test_sizes_can_be_fixed(task, tmp_path):
    done = mk.convert(
        FOLDER / "sinusoid", tmp_path / "fixed.tflite", adapt=True, support=5, query=7
    )
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(done.paths[0])).get_signature_runner("adapt_and_predict")
    shapes = {k: v["shape"].tolist() for k, v in runner.get_input_details().items()}
    assert shapes["support_x"] == [5, 1]
    assert shapes["query_x"] == [7, 1]
    found = runner(**task, **HOW)["predictions"]
    saved = tf.saved_model.load(FOLDER / "sinusoid")
    expected = saved.adapt_and_predict(*task.values(), **HOW)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_model_in_memory_becomes_a_file(tmp_path):
    model = maml(batch_normalised(), steps=2)
    done = mk.convert(model, tmp_path / "learner.onnx", adapt=True)
    names = ["learner.adapt.onnx", "learner.onnx", "learner.predict_with.onnx"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert max(done.differences.values()) < 1e-5


def test_a_file_that_answers_otherwise_is_refused_and_not_written(
    tmp_path, monkeypatch
):
    run_of = LiteRTLearner.open

    def wrong(self, path):
        run = run_of(self, path)
        return lambda name, **arrays: {
            k: v * np.float32(1.001) for k, v in run(name, **arrays).items()
        }

    monkeypatch.setattr(LiteRTLearner, "open", wrong)
    with pytest.raises(ValueError, match=r"within 1e-04 .*a difference of .* 0 steps"):
        mk.convert(FOLDER / "sinusoid", tmp_path / "learner.tflite", adapt=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"support": 0}, "`support` must be None or an integer, 1 or more"),
        ({"examples": [1.0]}, "`examples` are the inputs on which a predictor"),
        ({"adapt": False, "query": 1}, "are sizes of a file that adapts"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        mk.convert(
            FOLDER / "sinusoid", tmp_path / "l.onnx", **{"adapt": True, **options}
        )


def test_a_mask_hides_no_difference():
    expected = {"logits": np.array([1.0, -2.0, -1e9], "float32")}
    found = {"logits": np.array([1.5, -2.0, -1e9], "float32")}
    assert learner_check._relative(found, expected) == pytest.approx(0.25)
    found = {"logits": np.array([1.0, -2.0, -1.1e9], "float32")}
    assert learner_check._relative(found, expected) == pytest.approx(0.1, rel=1e-4)


def test_learned_rates_of_each_step_are_in_a_file(tmp_path):
    # The rate -1 stands for them. Inside the loop, a NaN stands for -1.
    inner = mk.InnerLoop("mse", mk.PerStepSGD(0.1), steps=2)
    source = mk.MAML(batch_normalised(), inner)
    done = mk.convert(source, tmp_path / "learner.onnx", adapt=True)
    assert done.learning_rate == -1
    assert max(done.differences.values()) < 1e-5


def test_what_cannot_learn_is_refused(tmp_path):
    with pytest.raises(TypeError, match="must be a MAML, or the folder.*Sequential"):
        mk.convert(batch_normalised(), tmp_path / "l.onnx", adapt=True)
    with pytest.raises(FileNotFoundError, match="must be a MAML, or the folder"):
        mk.convert(tmp_path / "nothing", tmp_path / "l.onnx", adapt=True)
    ridge = mk.recipes.ridge(dense(), "mse")
    with pytest.raises(ValueError, match="solves a system of linear equations"):
        mk.convert(ridge, tmp_path / "l.onnx", adapt=True)
    assert not list(tmp_path.iterdir())


def test_the_program_writes_a_file_that_learns(tmp_path, task):
    def run(*arguments):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    out = tmp_path / "learner.tflite"
    ended = run(
        *("export", FOLDER / "sinusoid", "--format", "litert", "--adapt"),
        *("--out", out, "--support", 5, "--query", 7),
    )
    assert ended.exit_code == 0, ended.output
    assert "differs from the SavedModel" in ended.output
    with zipfile.ZipFile(out) as archive:
        about = json.loads(archive.read("card.json"))["file"]
    assert (about["support"], about["query"]) == (5, 7)
    found = LEARNER_FORMATS["litert"].open(out)("adapt_and_predict", **task, **HOW)
    assert np.isfinite(found["predictions"]).all()
    ended = run("export", tmp_path, "--adapt")
    assert ended.exit_code == 1
    assert "a SavedModel always adapts" in ended.output
    ended = run("export", FOLDER / "sinusoid", "--format", "onnx", "--query", 1)
    assert ended.exit_code == 1
    assert "are sizes of a file that learns" in ended.output


# Adapts the sinusoid with one runtime and NumPy alone.
ALONE = """
import sys
runtime, path = sys.argv[1:]
others = {"onnxruntime": "ai_edge_litert", "ai_edge_litert": "onnxruntime"}
for name in ("tensorflow", "keras", "maml_keras", others[runtime]):
    sys.modules[name] = None  # Importing it now fails.
import numpy as np
x = np.linspace(-3, 3, 5, dtype="float32")[:, None]
inputs = {
    "support_x": x,
    "support_y": 2 * np.sin(x - 1),
    "query_x": x,
    "steps": np.array(10, "int32"),
    "learning_rate": np.array(0.01, "float32"),
}
if runtime == "onnxruntime":
    import onnxruntime
    (y,) = onnxruntime.InferenceSession(path).run(None, inputs)
else:
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=path)
    (y,) = interpreter.get_signature_runner("adapt_and_predict")(**inputs).values()
assert np.abs(y - inputs["support_y"]).mean() < 0.3, y
"""


@pytest.mark.parametrize(
    ("runtime", "suffix"), [("onnxruntime", ".onnx"), ("ai_edge_litert", ".tflite")]
)
def test_a_process_with_one_runtime_alone_adapts(learners, runtime, suffix):
    path = learners[suffix].paths[-1]
    subprocess.run([sys.executable, "-c", ALONE, runtime, str(path)], check=True)


def test_what_fails_at_run_time_is_named_with_its_layers():
    @tf.function(input_signature=[tf.TensorSpec([2])], autograph=False)
    def adapt(x):
        with tf.name_scope("enlarge"):
            return tf.reduce_sum(x)

    saved = types.SimpleNamespace(
        adapt_and_predict=types.SimpleNamespace(
            concrete_functions=[adapt.get_concrete_function()]
        )
    )
    error = RuntimeError("failed to delegate SUM node #50")
    assert learner_files._missing(saved, error) == (
        "Operation Sum, which 'enlarge' needs, fails there. "
    )
