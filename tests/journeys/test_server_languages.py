"""The JavaScript and the C++ of the page on servers adapt to real characters."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk

pytestmark = [pytest.mark.journey, pytest.mark.slow]

pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/howto/server_without_python.md"
# An unpacked release of ONNX Runtime for C++: include/ and lib/.
CPP = os.environ.get("ONNXRUNTIME_HOME")
# The rates and steps are those of the page. Each program prints its tasks' logits.
JAVASCRIPT = """
(async () => {
  const tasks = JSON.parse(require("fs").readFileSync("tasks.json"));
  const found = [];
  for (const { support, labels, queries } of tasks)
    found.push(...await answer(
      Float32Array.from(support), labels, Float32Array.from(queries)));
  console.log(JSON.stringify(found));
})();
"""
# Here: 20 tasks, each of 5 support examples, their labels, and 25 queries.
MAIN_CPP = """
#include <cstdio>

int main() {
  Ort::Env env;
  Ort::Session learner(env, "learner.onnx", Ort::SessionOptions{});
  std::FILE* file = std::fopen("tasks.bin", "rb");
  const char* before = "[";
  for (int task = 0; task < 20; ++task) {
    std::vector<float> support(5 * 784), queries(25 * 784);
    std::vector<int32_t> labels(5);
    if (std::fread(support.data(), 4, support.size(), file) != support.size() ||
        std::fread(labels.data(), 4, labels.size(), file) != labels.size() ||
        std::fread(queries.data(), 4, queries.size(), file) != queries.size())
      return 1;
    for (float logit : answer(learner, support, labels, queries))
      std::printf("%s%.9g", before, logit), before = ",";
  }
  std::printf("]");
}
"""


def _code(language):
    """The one block of code in that language on the page."""
    pattern = rf"```{language}\n(.*?)```"
    (code,) = re.findall(pattern, PAGE.read_text("utf-8"), re.DOTALL)
    return code


@pytest.fixture(scope="module")
def tasks(omniglot_folder):
    """20 tasks of unseen characters, their labels, and the SavedModel's logits."""
    family = mk.experiments.get("omniglot_5w1s_alone").families(
        data_dir=omniglot_folder
    )
    many, query_y = family.test.resized(shots=1, queries=5).sample_many([0, 9], 20)
    saved = tf.saved_model.load(ROOT / "saved_models/omniglot")
    names = ("support_x", "support_y", "query_x")
    tasks = [
        tuple(np.asarray(many[name][i]) for name in names) for i in range(len(query_y))
    ]
    logits = [saved.adapt_and_predict(*task, steps=3).numpy() for task in tasks]
    return tasks, np.asarray(query_y), np.asarray(logits)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tasks):
    """A folder with the file that learns, and the tasks as JSON and as bytes."""
    folder = tmp_path_factory.mktemp("server")
    mk.convert(ROOT / "saved_models/omniglot", folder / "learner.onnx", adapt=True)
    flat = [
        {
            "support": support.ravel().tolist(),
            "labels": labels.tolist(),
            "queries": queries.ravel().tolist(),
        }
        for support, labels, queries in tasks[0]
    ]
    (folder / "tasks.json").write_text(json.dumps(flat), "utf-8")
    with (folder / "tasks.bin").open("wb") as file:
        for support, labels, queries in tasks[0]:
            file.write(support.astype("<f4").tobytes())
            file.write(labels.astype("<i4").tobytes())
            file.write(queries.astype("<f4").tobytes())
    return folder


def _check(command, folder, tasks):
    _, query_y, expected = tasks
    ended = subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    )
    found = np.reshape(json.loads(ended.stdout), expected.shape)
    # float32 in another order of operations.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    right = np.mean(found.argmax(-1) == query_y)
    print(f"20 tasks by {command[0]}: {right:.1%}")  # noqa: T201
    assert right > 0.85


@pytest.mark.skipif(shutil.which("npm") is None, reason="Node is not installed, or npm")
def test_the_javascript_of_the_page_answers_as_the_savedmodel_does(folder, tasks):
    (folder / "main.js").write_text(_code("js") + JAVASCRIPT, "utf-8")
    (folder / "package.json").write_text("{}", "utf-8")
    # Its script would fetch CUDA, which no test needs.
    install = ["npm", "install", "--silent", "--ignore-scripts", "onnxruntime-node"]
    if subprocess.run(install, cwd=folder, check=False).returncode:
        pytest.skip("npm could not install onnxruntime-node")
    _check(["node", "main.js"], folder, tasks)


@pytest.mark.skipif(
    CPP is None or shutil.which("g++") is None,
    reason="ONNXRUNTIME_HOME names no release of ONNX Runtime, or g++ is missing",
)
def test_the_cpp_of_the_page_answers_as_the_savedmodel_does(folder, tasks):
    (folder / "main.cpp").write_text(_code("cpp") + MAIN_CPP, "utf-8")
    lib = f"{CPP}/lib"
    compiler = ["g++", "-std=c++17", "-Wall", "-Werror", f"-I{CPP}/include", "main.cpp"]
    linker = [f"-L{lib}", "-lonnxruntime", f"-Wl,-rpath,{lib}", "-o", "main"]
    subprocess.run([*compiler, *linker], cwd=folder, check=True)
    _check(["./main"], folder, tasks)
