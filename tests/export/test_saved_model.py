"""The SavedModel, loaded in a process that cannot import maml_keras."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    RATE,
    assert_identical,
    batch_normalised,
    dense,
    maml,
    multi_input,
    numpy_variables,
    regression,
    subclassed,
)

from maml_keras import MAML, SGD, InnerLoop, fine_tune, last_layer

pytestmark = [pytest.mark.journey, pytest.mark.usefixtures("tasks_in_a_loop")]

LOADER = """
import sys
sys.modules["maml_keras"] = None  # Importing it now fails.
import numpy as np, tensorflow as tf
path, data = sys.argv[1:]
arrays = dict(np.load(data))
m = tf.saved_model.load(path)
sx, sy, qx = arrays["sx"], arrays["sy"], arrays["qx"]
how = tf.constant(3), tf.constant(0.2)
found = {
    "predictions": m.adapt_and_predict(sx, sy, qx),
    "three": m.adapt_and_predict(sx, sy, qx, *how),
    "fewer": m.adapt_and_predict(sx[:2], sy[:2], qx[:1], *how),
    "in_parts": m.predict_with(m.adapt(sx, sy, *how), qx),
    "served": m.serve(qx),
    "signature": list(m.signatures["adapt_and_predict"](
        support_x=sx, support_y=sy, query_x=qx, steps=how[0], learning_rate=how[1]
    ).values())[0],
}
start = [v.numpy() for v in m.trainable_variables]
losses = [float(m.fine_tune(sx, sy, *how)) for _ in range(4)]
found["losses"] = losses
found["tuned"] = m.serve(qx)
m.reset()
same = [np.array_equal(a, v.numpy()) for a, v in zip(start, m.trainable_variables)]
found["reset_after_tuning"] = all(same)
with tf.GradientTape() as tape:
    loss = tf.reduce_mean((m.serve(qx) - 1.0) ** 2)
for v, g in zip(m.trainable_variables, tape.gradient(loss, m.trainable_variables)):
    v.assign_sub(0.01 * g)
found["trained_loss"] = tf.reduce_mean((m.serve(qx) - 1.0) ** 2) - loss
m.reset()
same = [np.array_equal(a, v.numpy()) for a, v in zip(start, m.trainable_variables)]
found["reset_after_training"] = all(same)
np.savez(data + ".out", **{k: np.asarray(v) for k, v in found.items()})
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model, its export, a task, and the results of another process."""
    keras.utils.set_random_seed(3)
    folder = tmp_path_factory.mktemp("export")
    model = maml(batch_normalised(), steps=2)
    before = numpy_variables(model)
    path = model.export(folder / "saved", card={"data": "random"})
    assert_identical(before, numpy_variables(model))
    task, _ = regression(support=5)
    np.savez(
        folder / "in.npz",
        sx=task["support_x"][0],
        sy=task["support_y"][0],
        qx=task["query_x"][0],
    )
    subprocess.run(
        [sys.executable, "-c", LOADER, str(path), str(folder / "in.npz")],
        check=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return model, path, task, dict(np.load(folder / "in.npz.out.npz"))


def test_adapt_and_predict_equals_predict(exported):
    model, _, task, found = exported
    expected = model.predict(task, verbose=0)[0]
    np.testing.assert_allclose(found["predictions"], expected, rtol=1e-5, atol=1e-5)


def test_steps_rate_and_sizes_can_be_chosen_in_each_call(exported):
    model, _, task, found = exported
    other = maml(model.model, steps=3, rate=0.2)
    expected = other.predict(task, verbose=0)[0]
    np.testing.assert_allclose(found["three"], expected, rtol=1e-5, atol=1e-5)
    fewer = {k: v[:, : 1 if k == "query_x" else 2] for k, v in task.items()}
    expected = other.predict(fewer, verbose=0)[0]
    np.testing.assert_allclose(found["fewer"], expected, rtol=1e-5, atol=1e-5)
    assert np.abs(found["three"] - found["predictions"]).max() > 1e-3


def test_adapt_and_predict_with_equal_adapt_and_predict(exported):
    *_, found = exported
    np.testing.assert_allclose(found["in_parts"], found["three"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["signature"], found["three"], rtol=1e-5, atol=1e-6)


def test_serve_predicts_without_adaptation(exported):
    model, _, task, found = exported
    expected = evaluate_before_adaptation(model, task)
    np.testing.assert_allclose(found["served"], expected, rtol=1e-5, atol=1e-5)


def evaluate_before_adaptation(model, task):
    return maml(model.model, steps=0).predict(task, verbose=0)[0]


def test_fine_tuning_lowers_the_loss_and_reset_undoes_it(exported):
    *_, found = exported
    assert (np.diff(found["losses"]) < 0).all()
    assert np.abs(found["tuned"] - found["served"]).max() > 1e-3
    assert found["reset_after_tuning"]


def test_a_gradient_tape_trains_an_export_and_reset_undoes_it(exported):
    *_, found = exported
    assert found["trained_loss"] < 0
    assert found["reset_after_training"]


def test_an_export_holds_the_learner_as_a_keras_file(exported):
    model, path, task, _ = exported
    loaded = keras.models.load_model(path / "learner.keras")
    np.testing.assert_array_equal(
        loaded(task["query_x"][0]), model.model(task["query_x"][0])
    )


@pytest.mark.parametrize("policy", ["transductive", "per_step"])
def test_an_export_whose_queries_see_each_other_warns(policy, tmp_path):
    model = maml(batch_normalised(), batch_norm=policy)
    with pytest.warns(UserWarning, match=rf"batch_norm='{policy}'.*alone.*inductive"):
        model.export(tmp_path / "e")


@pytest.mark.filterwarnings("error:The export of")
@pytest.mark.parametrize("policy", ["inductive", "beside", "running"])
def test_an_export_that_predicts_each_query_by_itself_does_not(policy, tmp_path):
    card = maml(batch_normalised(), batch_norm=policy).export(tmp_path / "e")
    text = (card / "card.json").read_text(encoding="utf-8")
    assert json.loads(text)["queries"] == "alone or together"


@pytest.mark.filterwarnings("error:The export of")
def test_no_warning_where_no_layer_normalises_by_a_batch(tmp_path):
    frozen = batch_normalised()
    frozen.layers[1].trainable = False
    maml(dense()).export(tmp_path / "without")
    maml(frozen).export(tmp_path / "frozen")


def test_weights_of_the_transductive_policy_serve_one_query_at_a_time(tmp_path):
    trained = maml(batch_normalised(), steps=2)
    other = MAML(trained.model, trained.inner, batch_norm="inductive")
    saved = tf.saved_model.load(str(other.export(tmp_path / "e")))
    task, _ = regression(queries=5)
    arrays = [
        tf.constant(task[name][0], tf.float32)
        for name in ("support_x", "support_y", "query_x")
    ]
    together = saved.adapt_and_predict(*arrays)
    for i in range(5):
        alone = saved.adapt_and_predict(*arrays[:2], arrays[2][i : i + 1])
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together, other(task)[0], rtol=1e-5, atol=1e-6)
    # An adapted model, which anybody's Keras loads, answers the same.
    adapted = trained.adapt(task["support_x"][0], task["support_y"][0])
    np.testing.assert_allclose(
        adapted(task["query_x"][0]), together, rtol=1e-4, atol=1e-5
    )


def test_the_card_describes_the_export(exported):
    model, path, *_ = exported
    card = json.loads((path / "card.json").read_text(encoding="utf-8"))
    assert card["parameters"] == model.model.count_params() - 12  # Moving statistics.
    assert card["inner_loop"] == {
        "loss": "mse",
        "rule": "SGD",
        "learning_rate": RATE,
        "steps": 2,
        "adapt": "AllWeights()",
        "second_order": True,
    }
    assert card["batch_norm"] == "transductive"
    assert card["queries"] == "together"
    assert card["meta_gradient"] == "Backprop, second order"
    assert card["data"] == "random"
    assert card["versions"]["tensorflow"] == tf.__version__
    assert card["versions"]["keras"] == keras.__version__


def folder_size(path):
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def test_export_is_little_larger_than_its_weights(tmp_path):
    model = keras.Sequential(
        [keras.Input([300]), keras.layers.Dense(2000), keras.layers.Dense(1)]
    )
    path = maml(model).export(tmp_path / "saved")
    weights = 4 * model.count_params()
    learner = (path / "learner.keras").stat().st_size
    assert weights > 2e6
    # The copy for Keras is left out: it alone is as large as the weights.
    assert folder_size(path) - learner <= 1.2 * weights + 1e6


def test_several_inputs(tmp_path):
    model = maml(multi_input())
    task, _ = regression({"a": (3,), "b": (2,)})
    loaded = tf.saved_model.load(str(model.export(tmp_path / "saved")))
    one = tf.nest.map_structure(lambda a: a[0], task)
    got = loaded.adapt_and_predict(one["support_x"], one["support_y"], one["query_x"])
    np.testing.assert_allclose(
        got, model.predict(task, verbose=0)[0], rtol=1e-5, atol=1e-5
    )


def test_adapt_returns_the_chosen_weights_only(tmp_path):
    inner = InnerLoop("mse", SGD(RATE), adapt=last_layer())
    path = MAML(dense(), inner).export(tmp_path / "saved")
    task, _ = regression()
    loaded = tf.saved_model.load(str(path))
    weights = loaded.adapt(task["support_x"][0], task["support_y"][0])
    assert sorted(name.rsplit("/", 1)[-1] for name in weights) == ["bias", "kernel"]
    assert all("head" in name for name in weights)


def test_only_an_earlier_export_is_replaced(tmp_path):
    model = dense()
    exported = MAML(model, InnerLoop("mse", SGD(RATE)))
    model.export(tmp_path / "keras", verbose=False)  # Keras's own SavedModel.
    with pytest.raises(FileExistsError, match="holds something else"):
        exported.export(tmp_path / "keras")
    assert not (tmp_path / "keras" / "card.json").exists()
    (tmp_path / "empty").mkdir()
    exported.export(tmp_path / "empty")
    assert (tmp_path / "empty" / "card.json").exists()


def test_earlier_export_is_replaced(tmp_path):
    task, _ = regression()
    for _ in range(2):
        model = dense()
        path = maml(model).export(tmp_path / "saved")
        loaded = tf.saved_model.load(str(path))
        expected = model(task["query_x"][0])
        np.testing.assert_allclose(
            loaded.serve(task["query_x"][0]), expected, rtol=1e-5
        )
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]


def test_an_export_folder_with_another_file_is_refused(tmp_path):
    path = maml(dense()).export(tmp_path / "saved")
    (path / "card.html").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds something else: card\.html"):
        maml(dense()).export(path)
    assert (path / "card.html").read_text() == "mine"


def test_foreign_folder_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something else"):
        maml(dense()).export(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_model_without_shapes_asks_for_a_signature(tmp_path):
    model = maml(subclassed())
    with pytest.raises(ValueError, match="does not tell the shape.*input_signature"):
        model.export(tmp_path / "saved")
    signature = tf.TensorSpec([None, 3]), tf.TensorSpec([None, 2])
    path = model.export(tmp_path / "saved", input_signature=signature)
    task, _ = regression()
    loaded = tf.saved_model.load(str(path))
    one = tf.nest.map_structure(lambda a: a[0], task)
    got = loaded.adapt_and_predict(one["support_x"], one["support_y"], one["query_x"])
    np.testing.assert_allclose(
        got, model.predict(task, verbose=0)[0], rtol=1e-5, atol=1e-5
    )


def test_an_export_takes_as_many_steps_as_training_also_zero(tmp_path):
    learner, (task, _) = maml(dense(), steps=0), regression()
    learner.export(tmp_path / "saved")
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    one = {name: tf.constant(values[0]) for name, values in task.items()}
    np.testing.assert_allclose(
        saved.adapt_and_predict(**one), learner(task)[0], rtol=1e-5
    )
    assert not np.allclose(saved.adapt_and_predict(**one, steps=1), learner(task)[0])


def test_the_loss_that_fine_tuning_returns_leaves_padding_out(tmp_path):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input([4], dtype="int32"),
            layers.Embedding(6, 3, mask_zero=True),
            layers.Dense(2),
        ]
    )
    learner = MAML(model, InnerLoop("mse", SGD(RATE), steps=1))
    learner.export(tmp_path / "saved")
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    x = tf.constant([[1, 2, 0, 0], [3, 0, 0, 0]])
    y = tf.random.stateless_normal([2, 4, 2], [1, 2])
    loss = float(saved.fine_tune(x, y))
    errors = np.mean((saved.serve(x) - y) ** 2, axis=-1)
    assert loss == pytest.approx(float(errors[x != 0].mean()), rel=1e-5)
    assert loss != pytest.approx(float(errors.mean()), rel=1e-2)


# Targets of another width than the outputs -------------------------------------------


@keras.saving.register_keras_serializable(package="tests")
def pinball(y_true, y_pred):
    """Three quantiles of one number."""
    error = y_true - y_pred
    quantiles = tf.constant([0.1, 0.5, 0.9])
    return tf.reduce_mean(tf.maximum(quantiles * error, (quantiles - 1) * error), -1)


@keras.saving.register_keras_serializable(package="tests")
def weighted(y_true, y_pred):
    """The last column of the targets weighs the example."""
    squares = tf.reduce_mean(tf.square(y_true[:, :-1] - y_pred), -1)
    return tf.abs(y_true[:, -1]) * squares


@pytest.mark.parametrize(
    ("loss", "outputs", "width"), [(pinball, 3, 1), (weighted, 2, 3)]
)
def test_targets_may_be_narrower_or_wider_than_the_outputs(
    loss, outputs, width, tmp_path
):
    model = MAML(dense(outputs=outputs), InnerLoop(loss, SGD(0.1), steps=2))
    task, query_y = regression(outputs=width)
    model.compile("sgd")
    model.train_on_batch(task, query_y)
    model.save(tmp_path / "own.keras")
    x, y = task["support_x"][0], task["support_y"][0]
    expected = model.adapt(x, y, verbose=0).predict(x, verbose=0)
    loaded = keras.saving.load_model(tmp_path / "own.keras")
    for name, exported in (("trained", model), ("loaded", loaded)):
        exported.export(tmp_path / name, verbose=0)
        saved = tf.saved_model.load(str(tmp_path / name))
        got = saved.adapt_and_predict(x, y, x, steps=2)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        tuned = fine_tune(tmp_path / name, x, y, steps=2, verbose=0)
        np.testing.assert_allclose(
            tuned.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6
        )


def test_an_untrained_export_asks_for_the_form_of_the_targets(tmp_path):
    model = MAML(dense(outputs=2), InnerLoop(pinball, SGD(0.1)))
    with pytest.raises(ValueError, match="must tell what targets it takes.*input_sig"):
        model.export(tmp_path / "untrained", verbose=0)
