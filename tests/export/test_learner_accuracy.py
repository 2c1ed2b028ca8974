"""Files adapt to real characters as well as the SavedModel does."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.experiments import fixed_tasks, registry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "TFDS_DATA_DIR" not in os.environ, reason="TFDS_DATA_DIR holds no Omniglot"
    ),
]

pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
pytest.importorskip("ai_edge_litert")

FOLDER = pathlib.Path(__file__).parents[2] / "saved_models"
TASKS = 200

# Adapts to each task with one runtime and NumPy alone; prints the accuracies.
ALONE = """
import json, sys
runtime, path, tasks = sys.argv[1:]
others = {"onnxruntime": "ai_edge_litert", "ai_edge_litert": "onnxruntime"}
for name in ("tensorflow", "keras", "maml_keras", others[runtime]):
    sys.modules[name] = None  # Importing it now fails.
import numpy as np
if runtime == "onnxruntime":
    import onnxruntime
    session = onnxruntime.InferenceSession(path)
    run = lambda task: session.run(["predictions"], task)[0]
else:
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=path)
    signature = interpreter.get_signature_runner("adapt_and_predict")
    run = lambda task: signature(**task)["predictions"]
arrays, found = np.load(tasks), []
how = {"steps": np.array(3, "int32"), "learning_rate": np.array(0.4, "float32")}
for i in range(len(arrays["support_x"])):
    task = {k: arrays[k][i] for k in ("support_x", "support_y", "query_x")}
    right = run({**task, **how}).argmax(-1) == arrays["query_y"][i]
    found.append(float(right.mean()))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    family = registry.get("omniglot_small_alone").families().test
    episodes = mk.data.episodes(
        family, batch_size=50, seed=fixed_tasks.TEST_SEED, num_episodes=TASKS
    )
    batches = [({k: v.numpy() for k, v in x.items()}, y.numpy()) for x, y in episodes]
    arrays = {k: np.concatenate([x[k] for x, _ in batches]) for k in batches[0][0]}
    arrays["query_y"] = np.concatenate([y for _, y in batches])
    arrays["support_y"] = arrays["support_y"].astype("int32")
    path = tmp_path_factory.mktemp("tasks") / "tasks.npz"
    np.savez(path, **arrays)
    saved, right = tf.saved_model.load(FOLDER / "omniglot"), []
    for i in range(TASKS):
        three = (arrays[k][i] for k in ("support_x", "support_y", "query_x"))
        predictions = saved.adapt_and_predict(*three, steps=3, learning_rate=0.4)
        found = predictions.numpy().argmax(-1) == arrays["query_y"][i]
        right.append(float(found.mean()))
    return path, np.array(right)


@pytest.mark.parametrize(
    ("runtime", "suffix"), [("onnxruntime", ".onnx"), ("ai_edge_litert", ".tflite")]
)
def test_accuracies_equal_those_of_tensorflow(
    tasks, runtime, suffix, tmp_path, record_property
):
    path, expected = tasks
    done = mk.convert(FOLDER / "omniglot", tmp_path / f"l{suffix}", adapt=True)
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, runtime, str(done.paths[-1]), str(path)],
        check=True,
        capture_output=True,
        text=True,
    )
    found = np.array(json.loads(ended.stdout))
    sys.stdout.write(
        f"{runtime} {found.mean():.4f}, TensorFlow {expected.mean():.4f}\n"
    )
    assert expected.mean() > 0.85
    # Rounding may tip a query between two equal logits, but hardly one of 5,000.
    assert np.abs(found - expected).mean() < 2e-4
