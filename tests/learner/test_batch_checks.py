"""Every batch is looked at, whatever compiles the step that follows."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import classification, dense, maml, regression

from maml_keras.data.pipeline_options import untuned
from maml_keras.learner import batch_checks
from maml_keras.learner.batch_checks import BatchChecks
from maml_keras.learner.losses import PureLoss
from maml_keras.learner.vocabularies import vocabularies

layers = keras.layers
SCCE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
WORDS, BATCHES, BAD = 5, 4, 2
WAYS_TO_RUN = {
    "fused": {"jit_compile": True, "steps_per_execution": BATCHES},
    "xla": {"jit_compile": True, "steps_per_execution": 1},
    "graph": {"jit_compile": False},
    "several steps a call": {"jit_compile": False, "steps_per_execution": 3},
    "eager": {"run_eagerly": True},
}


def reader():
    """Sorts three words into three classes."""
    words = keras.Input([3], dtype="int32")
    h = layers.Flatten()(layers.Embedding(WORDS, 4, name="words")(words))
    return keras.Model(words, layers.Dense(3)(h))


def texts(seed):
    (task, query_y), g = classification(seed=seed), np.random.default_rng(seed)
    for name in ("support_x", "query_x"):
        task[name] = g.integers(0, WORDS, task[name].shape).astype("int32")
    return task, query_y


def put(name, value):
    def spoil(task, query_y):
        {**task, "query_y": query_y}[name][1, 0] = value

    return spoil


FAULTS = {
    "support label": (
        put("support_y", 9),
        r"`support_y` must hold labels 0\.\.2\. Received: labels 0\.\.9",
    ),
    "query label": (
        put("query_y", -1),
        r"`query_y` must hold labels 0\.\.2\. Received: labels -1\.\.2",
    ),
    "support word": (
        put("support_x", WORDS),
        r"`support_x` must hold numbers 0\.\.4, the vocabulary of layer 'words'\. "
        r"Received: numbers 0\.\.5\.",
    ),
    "query word": (
        put("query_x", -1),
        r"`query_x` must hold numbers 0\.\.4, .* Received: numbers -1\.\.4\.",
    ),
}


def batches(spoil, at=BAD, count=BATCHES):
    made = [texts(seed) for seed in range(count)]
    spoil(*made[at])
    return made


def dataset(made):
    # TensorFlow's tuner would delay the end of an iterator that is given up.
    return untuned(
        tf.data.Dataset.from_tensor_slices(
            tf.nest.map_structure(lambda *arrays: np.stack(arrays), *made)
        )
    )


NETWORKS = {"reader": (reader, SCCE), "dense": (dense, "mse")}


@functools.cache
def built(how, network):
    """A model to share, whose trace is the most costly part, and its first numbers."""
    keras.utils.set_random_seed(0)
    options, (make, loss) = WAYS_TO_RUN[how], NETWORKS[network]
    # XLA compiles a vectorised step faster than a loop.
    task_map = "vectorized" if options.get("jit_compile") else "parallel"
    model = maml(make(), loss=loss, steps=0, task_map=task_map)
    model.compile("sgd", **options)
    model.optimizer.build(model.trainable_variables)
    variables = [*model.weights, *model.optimizer.variables]
    return model, variables, [np.array(v) for v in variables]


def untrained(how="graph", network="reader"):
    """The shared model as it was before its first step."""
    model, variables, start = built(how, network)
    for variable, value in zip(variables, start):
        variable.assign(value)
    return model


def assert_steps(model, steps):
    assert int(model.meta_steps) == int(model.optimizer.iterations) == steps
    assert int(model.episodes_seen) == 2 * steps


# All faults in one way to run, and one fault in every way: the check of a batch does
# not know how its step runs.
@pytest.mark.parametrize(
    ("how", "fault"),
    [
        *(("graph", fault) for fault in FAULTS),
        *((how, next(iter(FAULTS))) for how in WAYS_TO_RUN if how != "graph"),
    ],
)
def test_training_stops_before_a_batch_that_does_not_fit(how, fault):
    spoil, message = FAULTS[fault]
    model = untrained(how)
    with pytest.raises(ValueError, match=message):
        model.fit(dataset(batches(spoil)), verbose=0)
    assert_steps(model, BAD)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_training_on_a_generator_stops_before_the_batch():
    spoil, message = next(iter(FAULTS.values()))
    model = untrained("xla")
    with pytest.raises(ValueError, match=message):
        model.fit(iter_of(batches(spoil)), verbose=0)
    assert_steps(model, BAD)


@pytest.mark.parametrize("fault", FAULTS)
def test_single_batches_and_evaluation_are_refused_alike(fault):
    spoil, message = FAULTS[fault]
    model, made = untrained(), batches(spoil)
    with pytest.raises(ValueError, match=message):
        model.train_on_batch(*made[BAD])
    with pytest.raises(ValueError, match=message):
        model.evaluate(dataset(made), verbose=0)
    if "query label" not in fault:
        with pytest.raises(ValueError, match=message):
            model.predict(dataset([task for task, _ in made]), verbose=0)
    assert_steps(model, 0)


def iter_of(made):
    yield from made


def test_a_generator_is_looked_at_as_a_dataset_is():
    made = batches(put("support_y", 0), at=0)
    made[0][0]["support_y"] = made[0][0]["support_y"] + 0.5
    with pytest.raises(ValueError, match="`support_y` must hold class numbers"):
        untrained().fit(iter_of(made), verbose=0)


SIZES = {
    "no task": ({"tasks": 0}, "A batch must hold at least one task"),
    "no support": ({"support": 0}, "`support_x` must hold at least one example"),
    "no query": ({"queries": 0}, "`query_x` must hold at least one example"),
}
OPEN = (
    {k: tf.TensorSpec([None, None, 3]) for k in ("support_x", "query_x")}
    | {"support_y": tf.TensorSpec([None, None, 2])},
    tf.TensorSpec([None, None, 2]),
)


@pytest.mark.parametrize(
    ("how", "size", "source"),
    [
        *(("graph", size, "dataset") for size in SIZES),
        *(
            (how, "no support", "dataset")
            for how in ("xla", "several steps a call", "eager")
        ),
        ("graph", "no query", "generator"),
    ],
)
def test_an_empty_set_in_any_batch_says_so(how, size, source):
    sizes, message = SIZES[size]

    def stream():
        for index in range(BATCHES):
            yield regression(**(sizes if index == BAD else {}))

    model = untrained(how, "dense")
    made = stream()
    if source == "dataset":
        made = untuned(tf.data.Dataset.from_generator(stream, output_signature=OPEN))
    with pytest.raises(ValueError, match=message):
        model.fit(made, steps_per_epoch=BATCHES, verbose=0)
    assert_steps(model, BAD)


class Nothing(keras.utils.PyDataset):
    def __len__(self):
        return 0


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_an_empty_dataset_says_so():
    model = maml(dense())
    model.compile("sgd")
    empty = untuned(
        tf.data.Dataset.from_generator(lambda: iter(()), output_signature=OPEN)
    )
    message = "at least one batch of episodes. Received: an empty dataset"
    for data in (empty, dataset([regression()]).take(0), Nothing()):
        with pytest.raises(ValueError, match=message):
            model.fit(data, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.evaluate(empty, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.predict(empty.map(lambda task, query_y: task), verbose=0)
    arrays = regression(tasks=0)
    with pytest.raises(ValueError, match="A batch must hold at least one task"):
        model.fit(*arrays, verbose=0)


# What is looked at ------------------------------------------------------------------


def nested():
    words = keras.Input([3], dtype="int32")
    return keras.Model(words, reader()(words))


def sequential():
    head = [layers.Flatten(), layers.Dense(3)]
    return keras.Sequential(
        [keras.Input([3], dtype="int32"), layers.Embedding(WORDS, 4), *head]
    )


@pytest.mark.parametrize("make", [reader, nested, sequential])
def test_the_vocabulary_of_a_model(make):
    model = make()
    assert vocabularies(model)[id(model.inputs[0])].input_dim == WORDS


def test_two_embeddings_of_one_input_take_what_both_know():
    words = keras.Input([3], dtype="int32")
    both = [layers.Embedding(n, 2)(words) for n in (7, WORDS)]
    model = keras.Model(words, layers.Add()(both))
    assert vocabularies(model)[id(model.inputs[0])].input_dim == WORDS


@pytest.mark.parametrize("sizes", [(9, WORDS, 7), (WORDS, 7, 9), (7, 9, WORDS)])
def test_the_smallest_vocabulary_counts_in_any_order(sizes):
    words = keras.Input([3], dtype="int32")
    each = [layers.Embedding(n, 2)(words) for n in sizes]
    model = keras.Model(words, layers.Add()(each))
    assert vocabularies(model)[id(model.inputs[0])].input_dim == WORDS


def test_inputs_that_are_no_words_have_no_vocabulary():
    assert not vocabularies(dense())
    other, words = keras.Input([2]), keras.Input([3], dtype="int32")
    h = layers.Flatten()(layers.Embedding(WORDS, 2)(words))
    model = keras.Model([other, words], layers.Concatenate()([other, h]))
    assert set(vocabularies(model)) == {id(model.inputs[1])}


def test_ignored_classes_and_several_outputs():
    x = keras.Input([3])
    outputs = {"a": layers.Dense(2, name="a")(x), "b": layers.Dense(4, name="b")(x)}
    loss = {
        "a": keras.losses.SparseCategoricalCrossentropy(ignore_class=-1),
        "b": keras.losses.SparseCategoricalCrossentropy(),
    }
    model = maml(keras.Model(x, outputs), loss=loss)
    check = BatchChecks(model.learner, PureLoss(loss), PureLoss(loss))
    inputs = np.zeros([2, 3, 3], "float32")
    y = {"a": np.array([[0, 1, -1]] * 2), "b": np.array([[0, 3, 1]] * 2)}
    task = {"support_x": inputs, "support_y": y, "query_x": inputs}
    check((task, y))
    with pytest.raises(ValueError, match=r"`query_y` must hold labels 0\.\.3"):
        check((task, {**y, "b": y["b"] + 1}))
    with pytest.raises(ValueError, match=r"`query_y` must hold labels 0\.\.1"):
        check((task, {**y, "a": y["a"] + 1}))


@pytest.mark.parametrize(
    ("numbers", "fit"),
    [([], True), ([0, 3], True), ([1, 2], True), ([-1, 2], False), ([1, 4], False)],
)
def test_numbers_fit_from_zero_to_the_largest(numbers, fit):
    assert batch_checks._fit(np.array(numbers), 3) == fit
