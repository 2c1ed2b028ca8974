"""The committed exports load, adapt, and match their cards and the pages."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.experiments import fixed_tasks, registry

pytestmark = [pytest.mark.journey, pytest.mark.optimized]

FOLDER = pathlib.Path(__file__).parents[2] / "saved_models"
NAMES = ["sinusoid", "omniglot"]


def card(name):
    return json.loads((FOLDER / name / "card.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_card_has_all_entries(name):
    content = card(name)
    assert content["command"].startswith("maml-keras train ")
    assert content["evaluation"]["tasks"] == 600
    assert len(content["evaluation"]["mean"]) == len(content["evaluation"]["steps"])
    for key in ("title", "protocol", "published", "seed", "iterations", "versions"):
        assert key in content
    assert content["evaluation"]["batch_norm"] == content["batch_norm"]


@pytest.mark.parametrize("name", NAMES)
def test_the_keras_file_holds_the_same_weights(name):
    saved = tf.saved_model.load(str(FOLDER / name))
    model = keras.saving.load_model(FOLDER / name / "learner.keras")
    assert len(saved.trainable_variables) == len(model.trainable_variables)
    for a, b in zip(saved.trainable_variables, model.trainable_variables):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_the_sinusoid_export_reaches_the_figure_of_its_card():
    saved = tf.saved_model.load(str(FOLDER / "sinusoid"))
    episodes = mk.data.episodes(
        mk.data.Sinusoid(), batch_size=600, seed=fixed_tasks.TEST_SEED, num_episodes=600
    )
    (task, query_y), *_ = list(episodes)
    errors = [
        np.mean(np.square(saved.adapt_and_predict(sx, sy, qx, steps=1) - qy))
        for sx, sy, qx, qy in zip(
            task["support_x"], task["support_y"], task["query_x"], query_y
        )
    ]
    # The tasks are the same 600, so only the order of float32 operations differs.
    assert np.mean(errors) == pytest.approx(
        card("sinusoid")["evaluation"]["mean"][1], rel=1e-3
    )
    assert np.mean(errors) <= 0.45


@pytest.fixture(scope="module")
def new_characters(omniglot_folder):
    """Tasks of characters that the training of the Omniglot export did not have."""
    return registry.get("omniglot_5w1s_alone").families(data_dir=omniglot_folder).test


def test_the_omniglot_export_reaches_the_figure_of_its_card(new_characters):
    saved = tf.saved_model.load(str(FOLDER / "omniglot"))
    episodes = mk.data.episodes(
        new_characters, batch_size=20, seed=fixed_tasks.TEST_SEED, num_episodes=100
    )
    before, after = [], []
    for task, query_y in episodes:
        for sx, sy, qx, qy in zip(
            task["support_x"], task["support_y"], task["query_x"], query_y
        ):
            logits = saved.adapt_and_predict(sx, sy, qx, steps=3)
            after.append(np.mean(np.argmax(logits, -1) == qy))
            before.append(np.mean(np.argmax(saved.serve(qx), -1) == qy))
    published = card("omniglot")["evaluation"]["mean"][3]
    # These are 100 of the card's 600 tasks: allow three standard errors.
    noise = 3 * np.std(after) / np.sqrt(len(after))
    assert np.mean(after) == pytest.approx(published, abs=noise)
    assert np.mean(before) == pytest.approx(0.2, abs=3 * np.std(before) / 10)


def test_the_card_has_the_figures_on_other_sources_that_the_page_has():
    page = (FOLDER.parent / "docs/comparisons.md").read_text("utf-8")
    transfer = card("omniglot")["transfer"]
    assert len(transfer) == 2
    for found in transfer.values():
        assert (found["tasks"], found["queries"]) == (600, "alone")
        figures = found["mean"][-1], found["half_width_95"][-1]
        assert "{:.1f} ± {:.1f}%".format(*(100 * figure for figure in figures)) in page


def test_the_benchmark_of_exports_writes_the_figures_into_the_card(tmp_path):
    shutil.copytree(FOLDER / "omniglot", tmp_path / "export")
    images = np.random.default_rng(0).integers(0, 255, (3, 5, 28, 28, 1), "uint8")
    labels = np.tile(np.arange(5, dtype="int32"), (3, 1))
    np.savez(
        tmp_path / "tasks.npz",
        support_x=images,
        support_y=labels,
        query_x=images,
        query_y=labels,
    )
    script = FOLDER.parent / "benchmarks" / "exported.py"
    words = ["measure", "export", "tasks.npz", "--alone", "--source", "noise"]
    ended = subprocess.run(
        [sys.executable, script, *words],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    shown = mk.model_card(tmp_path / "export", latency=False)
    found = shown.card["transfer"]["noise"]
    # The queries are the support images, so a few steps name them all.
    assert (found["tasks"], found["mean"][-1]) == (3, 1.0)
    assert "3 steps: 100.00% ± 0.00% over 3 tasks" in ended.stdout
    assert found["support_per_task"] == found["queries_per_task"] == 5
    assert "noise" in dict(shown.facts["On other sources"])


def test_the_omniglot_export_answers_one_query_as_it_answers_many(new_characters):
    assert card("omniglot")["queries"] == "alone or together"
    saved = tf.saved_model.load(str(FOLDER / "omniglot"))
    task, _ = new_characters.sample_many([0, fixed_tasks.TEST_SEED], 1)
    sx, sy, qx = (task[name][0] for name in ("support_x", "support_y", "query_x"))
    weights = saved.adapt(sx, sy, steps=3)
    together = saved.predict_with(weights, qx, steps=3)
    alone = [saved.predict_with(weights, x[None], steps=3)[0] for x in qx]
    assert len(alone) == 75
    # float32, and kernels that add up in another order for another number of rows.
    np.testing.assert_allclose(alone, together, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_saved_model_cli_prints_the_output_on_the_page_on_serving():
    page = (FOLDER.parent / "docs" / "howto" / "serving.md").read_text("utf-8")
    blocks = re.findall(r"```console\n\$ saved_model_cli (.*?)```", page, re.DOTALL)
    assert len(blocks) == 2  # `show` and `run`.
    for block in blocks:
        typed, said = re.match(r"((?:[^\n]*\\\n)*[^\n]*)\n(.*)", block, re.S).groups()
        words = shlex.split(typed.replace("\\\n", ""))
        tool = "from tensorflow.python.tools.saved_model_cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", tool, *words],
            cwd=FOLDER.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        number = re.compile(r"-?\d+\.\d+")
        assert number.sub("", said).split() == number.sub("", done.stdout).split()
        np.testing.assert_allclose(
            [float(n) for n in number.findall(done.stdout)],
            [float(n) for n in number.findall(said)],
            rtol=1e-3,
        )


def outputs(page, command):
    """Command lines on a page that begin with `command`, with their outputs."""
    text = (FOLDER.parent / page).read_text(encoding="utf-8")
    text = text.replace("\\\n", "")
    blocks = re.findall(r"```console\n\$ (.*?)\n(.*?)```", text, re.DOTALL)
    return [(line, shown) for line, shown in blocks if line.startswith(command)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_the_program_prints_the_output_on_the_page_on_shipping(number, tmp_path):
    line, shown = outputs("docs/howto/ship.md", "maml-keras adapt ")[number]
    page = (FOLDER.parent / "docs/howto/ship.md").read_text(encoding="utf-8")
    made = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    [code] = [block for block in made if ("save_img", "my_task")[number] in block]
    if number == 0 and not os.environ.get("TFDS_DATA_DIR"):
        pytest.skip("TFDS_DATA_DIR is not set: no Omniglot")
    (tmp_path / "saved_models").symlink_to(FOLDER)
    head = "import numpy as np\n" + code
    for words in ([sys.executable, "-c", head], [sys.executable, "-c", PROGRAM]):
        arguments = shlex.split(line)[1:] if words[-1] == PROGRAM else []
        ended = subprocess.run(
            [*words, *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
    found, expected = (
        [re.split(r" {2,}", text.strip()) for text in lines.strip().splitlines()]
        for lines in (ended.stdout, shown)
    )
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        for a, b in zip(ours, theirs, strict=True):
            assert a == b or float(a) == pytest.approx(float(b), rel=0.02)


PROGRAM = "from maml_keras_cli import app; app()"
