"""Files, an export and runs written before the modules moved into wings still work."""

import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

import maml_keras as mk
from maml_keras_cli import app

pytestmark = [pytest.mark.journey, pytest.mark.optimized]

BEFORE = pathlib.Path(__file__).parents[1] / "fixtures" / "before_wings"
RUNNER = CliRunner()


@pytest.fixture(scope="module")
def expected():
    return np.load(BEFORE / "expected.npz")


@pytest.mark.usefixtures("without_graphs", "tasks_in_a_loop")
def test_a_model_loads_predicts_as_before_and_can_be_trained(expected):
    maml = keras.saving.load_model(BEFORE / "maml.keras")
    x, y = expected["x"], expected["y"]
    task = {"support_x": x, "support_y": y, "query_x": x[:, :3]}
    np.testing.assert_allclose(
        maml.predict_on_batch(task), expected["prediction"], rtol=1e-5, atol=1e-6
    )
    assert isinstance(maml.meta_gradient, mk.Phases)
    assert int(maml.optimizer.iterations) == 5
    maml.train_on_batch(task, y[:, :3])
    assert int(maml.optimizer.iterations) == 6


def test_an_export_adapts_without_and_with_this_library(expected):
    saved = tf.saved_model.load(str(BEFORE / "export"))
    x, y = (tf.constant(expected[key][0]) for key in ("x", "y"))
    got = saved.adapt_and_predict(x, tf.cast(y, tf.int32), x[:3], steps=2)
    np.testing.assert_allclose(got, expected["prediction"][0], rtol=1e-5, atol=1e-5)
    card = mk.model_card(BEFORE / "export", latency=False)
    assert card.adapting == 2 * 6 + 6 + 6 * 3 + 3  # all but batch norm
    network = mk.to_keras(BEFORE / "export")
    assert network(x).shape == (6, 3)


@pytest.mark.journey
def test_a_finished_run_evaluates_as_before(tmp_path):
    folder = shutil.copytree(BEFORE / "finished_run", tmp_path / "run")
    before = json.loads((folder / "evaluation.json").read_text())
    result = RUNNER.invoke(app, ["evaluate", str(folder), "--quiet"])
    assert result.exit_code == 0, result.output
    after = json.loads((folder / "evaluation-2.json").read_text())
    np.testing.assert_allclose(after["mean"], before["mean"], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.journey
def test_an_interrupted_run_resumes(tmp_path):
    folder = shutil.copytree(BEFORE / "interrupted_run", tmp_path / "run")
    arguments = ["train", "--config", str(folder / "config.toml"), "--quiet"]
    arguments += ["--out", str(folder), "--resume", "--tasks", "20"]
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    maml, _, _ = mk.experiments.load(folder)
    assert int(maml.optimizer.iterations) == 2000
    assert len((folder / "history.jsonl").read_text().splitlines()) == 2
