"""A search: random compositions of everything keep four promises, or are refused.

A composition trains the same with every task map, its numbers are finite, it is loaded
as it was saved, and its step is traced once. A composition that does not fit is refused
with a sentence of this library.
"""

import pathlib
import tempfile
import traceback
from typing import NamedTuple

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import FAMILIES, Family, layers, precision, regression, tensors
from hypothesis import strategies
from members import (
    ESTIMATORS,
    LOOPS,
    MAPS,
    OBJECTIVES,
    POLICIES,
    RULES,
    SELECTORS,
    STARTS,
    forgotten,
)

import maml_keras as mk
from maml_keras.learner.learner import is_seed

PARTS = 10


@keras.saving.register_keras_serializable(package="tests")
class Padded(keras.layers.Layer):
    """Pads the first axis of examples with a value other than zero."""

    def call(self, inputs):
        return keras.ops.pad(inputs, [[0, 0], [1, 0], [0, 0]], constant_values=-1.0)


def sequences(*body):
    return keras.Sequential(
        [keras.Input([5, 1]), *body, layers.Flatten(), layers.Dense(2)]
    )


NETWORKS = {
    **FAMILIES,
    # Odd lengths, so that pooling pads; each layer has its own form with a task axis.
    "padded": Family(
        lambda: sequences(Padded(), layers.Conv1D(3, 2), layers.MaxPooling1D(2)),
        (5, 1),
    ),
    "odd_pooling": Family(
        lambda: sequences(
            layers.Conv1D(3, 2, padding="causal", dilation_rate=2, activation="tanh"),
            layers.MaxPooling1D(2, padding="same"),
            layers.AveragePooling1D(2, padding="same"),
        ),
        (5, 1),
    ),
    "separable": Family(
        lambda: keras.Sequential(
            [
                keras.Input([5, 5, 2]),
                layers.SeparableConv2D(4, 3, padding="same", activation="tanh"),
                layers.MaxPooling2D(2, padding="same"),
                layers.DepthwiseConv2D(2),
                layers.Flatten(),
                layers.Dense(2),
            ]
        ),
        (5, 5, 2),
    ),
    "transposed": Family(
        lambda: keras.Sequential(
            [
                keras.Input([3, 3, 2]),
                layers.ZeroPadding2D(1),
                layers.Conv2DTranspose(3, 2, strides=2, activation="tanh"),
                layers.GlobalMaxPooling2D(),
                layers.Dense(2),
            ]
        ),
        (3, 3, 2),
    ),
    # Batch norm in an inner model, and two layers with one set of weights.
    "nested_batch_norm": FAMILIES["dense"]._replace(
        build=lambda: keras.Sequential(
            [
                keras.Input([3]),
                keras.Sequential(
                    [
                        keras.Input([3]),
                        layers.Dense(4, activation="tanh"),
                        layers.BatchNormalization(),
                    ]
                ),
                layers.Dense(2),
            ]
        )
    ),
}
# The error of a step in each float type, relative to the largest change of a variable.
PRECISIONS = {
    "float32": 1e-3,
    "float64": 1e-9,
    "mixed_bfloat16": 0.15,
    "mixed_float16": 0.03,
}
LOSSES = {
    "regression": lambda: "mse",
    "classification": lambda: keras.losses.SparseCategoricalCrossentropy(
        from_logits=True
    ),
}


class Composition(NamedTuple):
    """The members of a learner, and the sizes of its tasks."""

    network: str
    loss: str
    rule: str
    selector: str
    objective: str
    estimator: str
    start: str
    policy: str
    precision: str
    task_map: str
    loop: str
    steps: int
    tasks: int
    support: int
    queries: int

    def batch(self):
        """Random tasks, in which each query class has a support example."""
        chosen = NETWORKS[self.network]
        task, query_y = regression(
            chosen.shape,
            tasks=self.tasks,
            support=self.support,
            queries=self.queries,
            integers=chosen.integers,
        )
        if self.loss == "classification":
            classes = min(2, self.support)
            task["support_y"] = np.tile(np.arange(self.support) % 2, [self.tasks, 1])
            query_y = np.tile(np.arange(self.queries) % classes, [self.tasks, 1])
        return task, query_y

    def build(self, task_map, **options):
        """The compiled learner. The outer rate is 1, so a step shows the gradient."""
        keras.utils.set_random_seed(0)
        inner = mk.InnerLoop(
            LOSSES[self.loss](),
            RULES[self.rule](),
            steps=self.steps,
            adapt=SELECTORS[self.selector](),
            proximal=1.0 if self.estimator == "implicit" else 0.0,
            start=STARTS[self.start](),
            **LOOPS[self.loop],
        )
        maml = mk.MAML(
            NETWORKS[self.network].build(),
            inner,
            meta_gradient=ESTIMATORS[self.estimator](OBJECTIVES[self.objective]()),
            batch_norm=self.policy,
            task_map=task_map,
            seed=0,
        )
        maml.compile(keras.optimizers.SGD(1.0), auto_scale_loss=False, **options)
        return maml


COMPOSITIONS = strategies.builds(
    Composition,
    network=strategies.sampled_from(sorted(NETWORKS)),
    loss=strategies.sampled_from(sorted(LOSSES)),
    rule=strategies.sampled_from(sorted(RULES)),
    selector=strategies.sampled_from(sorted(SELECTORS)),
    objective=strategies.sampled_from(sorted(OBJECTIVES)),
    estimator=strategies.sampled_from(sorted(ESTIMATORS)),
    start=strategies.sampled_from(sorted(STARTS)),
    policy=strategies.sampled_from(POLICIES),
    precision=strategies.sampled_from(sorted(PRECISIONS)),
    task_map=strategies.sampled_from(sorted(MAPS)),
    loop=strategies.sampled_from(sorted(LOOPS)),
    steps=strategies.integers(0, 3),
    tasks=strategies.integers(1, 3),
    support=strategies.integers(1, 5),
    queries=strategies.integers(1, 4),
)


def may_be_refused(c):
    """Whether the documentation says that a composition does not fit together."""
    return (
        (c.start != "initialisation" and (c.estimator == "implicit"))
        or (c.loop == "parts" and c.estimator == "implicit")
        or (c.start == "prototypes" and c.loss == "regression")
        # The inputs of the last layer are unknown.
        or (c.start != "initialisation" and c.network == "subclassed")
        or (c.estimator in ("reptile", "implicit") and c.objective != "final")
        or (c.loss == "classification" and c.support < 2)
        or (c.task_map in ("vectorized", "chunked"))
        # The selector finds no weight that is not frozen.
        or (c.network == "frozen" and c.selector == "all_but_last_layer")
    )


def is_a_sentence(error):
    """Whether this library raised an error itself, with its own words."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    ours = pathlib.Path(mk.__file__).parent in pathlib.Path(frame.filename).parents
    return ours and "Received: " in str(error)


def trained(c, data):
    """The learner before and after one step, or None with the error of a refusal."""
    try:
        maml = c.build(MAPS[c.task_map]())
        before = [v.numpy() for v in maml.variables]
        history = maml.fit(data, steps_per_epoch=1, verbose=0).history
    except (TypeError, ValueError) as error:
        return None, error
    return (maml, before, history["loss"]), None


def check(c):
    batch = c.batch()
    data = tf.data.Dataset.from_tensors(tensors(batch)).repeat()
    found, refusal = trained(c, data)
    hypothesis.event("refused" if refusal else "trained")
    if refusal:
        assert is_a_sentence(refusal), f"no sentence of ours: {refusal!r}"
        assert may_be_refused(c), f"not documented: {refusal}"
        return
    maml, before, loss = found
    assert np.isfinite(loss).all()
    assert all(np.isfinite(v.numpy()).all() for v in maml.variables)

    # An eager loop over the tasks makes the same step.
    eager = c.build("sequential", run_eagerly=True)
    expected_loss = eager.train_on_batch(*batch)
    tolerance = PRECISIONS[c.precision]
    np.testing.assert_allclose(loss, expected_loss, rtol=tolerance)
    scale = max(
        1e-2,
        *(
            float(np.abs(v.numpy() - value).max())
            for v, value in zip(eager.variables, before)
            if v.trainable
        ),
    )
    for got, expected in zip(maml.variables, eager.variables):
        np.testing.assert_allclose(
            got.numpy().astype("float64"),
            expected.numpy().astype("float64"),
            rtol=tolerance,
            atol=tolerance * scale,
            err_msg=got.path,
        )

    # The second step is not traced again.
    step, traces = maml.train_step, []
    maml.train_step = lambda data: (traces.append(1), step(data))[1]
    maml.fit(data, steps_per_epoch=1, verbose=0)
    assert not traces
    del maml.train_step
    assert all(np.isfinite(v.numpy()).all() for v in maml.variables)

    # The file holds every number.
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model.keras")
        maml.save(path)
        loaded = keras.saving.load_model(path)
    assert len(loaded.variables) == len(maml.variables)
    for saved, kept in zip(loaded.variables, maml.variables):
        if is_seed(kept):
            continue  # `MAML` draws seeds from its counter, and Keras saves none.
        np.testing.assert_array_equal(saved.numpy(), kept.numpy(), err_msg=kept.path)
    answers, kept = (np.asarray(m(batch[0]), "float64") for m in (loaded, maml))
    np.testing.assert_allclose(answers, kept, rtol=1e-5, atol=1e-6)
    if c.precision == "mixed_float16":
        # Two steps of rate 1 can lead to gradients above 65,504, where float16 ends.
        for variable, value in zip(maml.variables, before):
            variable.assign(value)
        kept = np.asarray(maml(batch[0]), "float64")
    assert np.isfinite(kept).all()


def keeps_its_promises(composition):
    names = composition.precision
    hypothesis.note(str(composition))
    floats = "float32" if names.startswith("mixed") else names
    with forgotten(), precision(floats):
        keras.config.set_dtype_policy(names)
        check(composition)


@pytest.fixture
def _whole_tracebacks():
    """Errors show the frame that raised them; Keras would cut its own frames off."""
    filtering = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    yield
    if filtering:
        keras.config.enable_traceback_filtering()


@pytest.mark.slow
@pytest.mark.usefixtures("_whole_tracebacks")
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore:These trainable variables do not influence")
@pytest.mark.parametrize("part", range(PARTS))
def test_random_compositions_keep_their_promises(part, pytestconfig):
    count = pytestconfig.getoption("--compositions")
    search = hypothesis.given(COMPOSITIONS)(keeps_its_promises)
    search = hypothesis.settings(
        max_examples=-(-count // PARTS),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        # One run can take a minute, so a failure is reported as found.
        phases=[hypothesis.Phase.generate],
    )(search)
    hypothesis.seed(part)(search)()
