"""The JavaScript of the page on servers adapts to real characters in Node."""

import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk

pytestmark = [
    pytest.mark.journey,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("npm") is None, reason="Node is not installed, or npm"
    ),
]

pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/howto/server_without_python.md"
# The rate and steps are those of the page. Prints the logits of each task.
MAIN = """
(async () => {
  const tasks = JSON.parse(require("fs").readFileSync("tasks.json"));
  const found = [];
  for (const { support, labels, queries } of tasks)
    found.push(Array.from(
      await answer(Float32Array.from(support), labels, Float32Array.from(queries))));
  console.log(JSON.stringify(found));
})();
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the page's code, its package from npm, and the file that learns."""
    folder = tmp_path_factory.mktemp("node")
    (code,) = re.findall(r"```js\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (folder / "main.js").write_text(code + MAIN, "utf-8")
    (folder / "package.json").write_text("{}", "utf-8")
    # Its script would fetch CUDA, which no test needs.
    install = ["npm", "install", "--silent", "--ignore-scripts", "onnxruntime-node"]
    if subprocess.run(install, cwd=folder, check=False).returncode:
        pytest.skip("npm could not install onnxruntime-node")
    mk.convert(ROOT / "saved_models/omniglot", folder / "learner.onnx", adapt=True)
    return folder


def test_the_code_of_the_page_answers_as_the_savedmodel_does(folder, omniglot_folder):
    family = mk.experiments.get("omniglot_5w1s_alone").families(
        data_dir=omniglot_folder
    )
    task, query_y = family.test.resized(shots=1, queries=5).sample_many([0, 9], 20)
    saved = tf.saved_model.load(ROOT / "saved_models/omniglot")
    given, expected = [], []
    for i in range(len(query_y)):
        x, y, query = (
            np.asarray(task[key][i]) for key in ("support_x", "support_y", "query_x")
        )
        expected.append(saved.adapt_and_predict(x, y, query, steps=3).numpy())
        given.append(
            {
                "support": x.ravel().tolist(),
                "labels": y.tolist(),
                "queries": query.ravel().tolist(),
            }
        )
    (folder / "tasks.json").write_text(json.dumps(given), "utf-8")
    ended = subprocess.run(
        ["node", "main.js"], cwd=folder, check=True, capture_output=True, text=True
    )
    found = np.reshape(json.loads(ended.stdout), np.shape(expected))
    # float32 in another order of operations.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    right = found.argmax(-1) == np.asarray(query_y)
    print(f"20 tasks in Node: {right.mean():.1%}")  # noqa: T201
    assert right.mean() > 0.85
