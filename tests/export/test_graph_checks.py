"""Functions of an export refuse wrong arguments and change nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    RATE,
    assert_identical,
    classification,
    dense,
    images,
    regression,
)

from maml_keras import MAML, SGD, InnerLoop, MetaSGD

pytestmark = pytest.mark.journey

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

WAYS = 3


def variables(saved):
    lists = (
        saved.trainable_variables,
        saved.non_trainable_variables,
        saved.rule_variables,
        [saved.steps_taken],
    )
    return [v.numpy() for variables in lists for v in variables]


def everything(saved):
    """All variables that a call may change, with the progress of `fine_tune`."""
    return [*variables(saved), saved.progress.numpy()]


def first(batch):
    """The first task's arguments by name."""
    return tf.nest.map_structure(lambda a: a[0], batch[0])


@pytest.fixture(scope="module")
def regressor(tmp_path_factory):
    """A regression export with a fixed rate, and arguments that it takes."""
    path = tmp_path_factory.mktemp("regressor") / "saved"
    MAML(dense(), InnerLoop("mse", SGD(RATE), steps=2)).export(path)
    return tf.saved_model.load(str(path)), first(regression())


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classification export with learned rates, and arguments that it takes."""
    path = tmp_path_factory.mktemp("classifier") / "saved"
    model = dense(outputs=WAYS)
    MAML(model, InnerLoop(CROSS_ENTROPY, MetaSGD(RATE), steps=2)).export(path)
    return tf.saved_model.load(str(path)), first(classification(ways=WAYS))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """An export of images, with convolutions, batch norm and class numbers."""
    path = tmp_path_factory.mktemp("reader") / "saved"
    model = images(keras.layers.BatchNormalization(), outputs=WAYS)
    MAML(model, InnerLoop(CROSS_ENTROPY, SGD(RATE), steps=2)).export(path)
    task = first(classification((6, 6, 1), ways=WAYS))
    return tf.saved_model.load(str(path)), task


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: {k: a[k][:0] for k in ("support_x", "support_y")},
            "`support_x` must hold at least one example",
        ),
        (
            lambda a: {"query_x": a["query_x"][:0]},
            "`query_x` must hold at least one example",
        ),
        (
            lambda a: {"support_y": a["support_y"][:1]},
            r"must hold as many examples. Received:\] \[4\] \[and\] \[1\]",
        ),
        (
            lambda a: {"support_x": a["support_x"] * np.nan},
            "`support_x` must be finite",
        ),
        (
            lambda a: {"support_y": a["support_y"] * np.inf},
            "`support_y` must be finite",
        ),
        (lambda a: {"query_x": a["query_x"] * np.nan}, "`query_x` must be finite"),
        (lambda a: {"steps": -1}, r"`steps` must be an integer, 0 or more.* \[-1\]"),
        (
            lambda a: {"learning_rate": np.nan},
            r"`learning_rate` must be a finite number, not negative. .*\[nan\]",
        ),
        (lambda a: {"learning_rate": np.inf}, "`learning_rate` must be a finite"),
        (lambda a: {"learning_rate": -1.0}, "`learning_rate` must be a finite"),
        (lambda a: {"learning_rate": 1e30, "steps": 9}, "Adaptation has diverged"),
    ],
)
def test_bad_arguments_are_refused_with_a_message(regressor, change, message):
    saved, arguments = regressor
    changed = {**arguments, **change(arguments)}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        saved.adapt_and_predict(**changed)
    # A server calls the signature, where every argument is a tensor.
    changed = {"steps": 2, "learning_rate": RATE, **changed}
    dtypes = saved.signatures["adapt_and_predict"].structured_input_signature[1]
    tensors = {k: tf.constant(v, dtypes[k].dtype) for k, v in changed.items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        saved.signatures["adapt_and_predict"](**tensors)


@pytest.mark.parametrize("label", [-1, WAYS, 2**31 - 1])
def test_a_label_without_an_output_is_refused(classifier, label):
    saved, arguments = classifier
    y = np.where(np.arange(6) == 2, label, arguments["support_y"])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="`support_y` must hold class numbers 0..2"
    ):
        saved.adapt(arguments["support_x"], y)


def test_a_class_that_the_loss_ignores_is_accepted_as_a_label(tmp_path):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    maml = MAML(dense(outputs=WAYS), InnerLoop(loss, SGD(RATE)))
    saved = tf.saved_model.load(str(maml.export(tmp_path / "saved")))
    x = first(classification(ways=WAYS))["support_x"]
    saved.adapt(x, [0, 1, 2, -1, -1, -1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="class numbers"):
        saved.adapt(x, [0, 1, 2, -2, -1, -1])


def test_a_rate_of_minus_one_means_the_learned_rates_and_nan_is_refused(classifier):
    saved, arguments = classifier
    assert_identical(
        saved.adapt_and_predict(**arguments).numpy()[None],
        saved.adapt_and_predict(**arguments, learning_rate=-1.0).numpy()[None],
    )
    other = saved.adapt_and_predict(**arguments, learning_rate=10 * RATE)
    assert np.abs(other - saved.adapt_and_predict(**arguments)).max() > 1e-3
    for rate in (np.nan, -0.5):
        with pytest.raises(tf.errors.InvalidArgumentError, match="or -1 for the learn"):
            saved.adapt_and_predict(**arguments, learning_rate=rate)


def test_weights_and_predictions_that_are_nan_are_refused(regressor):
    saved, arguments = regressor
    x = arguments["query_x"]
    weights = saved.adapt(arguments["support_x"], arguments["support_y"])
    name = next(iter(weights))
    broken = {**weights, name: weights[name] * np.nan}
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"'{name}'.* be finite"):
        saved.predict_with(broken, x)
    head = next(v for v in saved.trainable_variables if "bias" in v.name)
    head.assign(head * np.nan)
    with pytest.raises(tf.errors.InvalidArgumentError, match="predictions are NaN"):
        saved.serve(x)
    saved.reset()
    assert np.isfinite(saved.serve(x)).all()


def test_fine_tuning_that_diverges_writes_nothing(regressor):
    saved, arguments = regressor
    x, y = arguments["support_x"], arguments["support_y"]
    before = variables(saved)
    with pytest.raises(tf.errors.InvalidArgumentError, match="diverged: weight"):
        saved.fine_tune(x, y, 9, 1e30)
    # The weights may be finite while the loss is not.
    with pytest.raises(tf.errors.InvalidArgumentError, match="diverged: the loss"):
        saved.fine_tune(x, y, 1, 1e25)
    assert_identical(before, variables(saved))


def broken_array(draw, good):
    """An array or tensor unlike `good` in its shape, type or values."""
    entry = tuple(draw.integers(n) for n in good.shape)
    floating = good.dtype.kind == "f"
    wide = np.zeros([*good.shape, int(draw.integers(2, 2_000))], good.dtype)
    choices = [
        lambda: wide,
        lambda: np.zeros([len(good), *wide.shape[1:]], good.dtype),
        lambda: good.ravel()[0],
        lambda: good[:0],
        lambda: np.zeros([0] * draw.integers(1, 5), good.dtype),
        lambda: tf.constant(good, tf.float64),
        lambda: tf.constant(good, tf.int64),
        lambda: tf.cast(good, tf.bool),
        lambda: tf.cast(good, tf.complex64),
        lambda: tf.as_string(tf.constant(good)),
        lambda: np.full(good.shape, "a"),
        lambda: np.full(good.shape, None),
        lambda: [[1.0], [1.0, 2.0]],
        lambda: {"a": good},
        lambda: "text",
        lambda: None,
    ]
    values = [np.nan, np.inf, -np.inf] if floating else [-1, 2**31 - 1, -(2**31), WAYS]
    choices += [lambda v=v: np.where(mask(good, entry), v, good) for v in values]
    return choices[draw.integers(len(choices))]()


def mask(array, entry):
    chosen = np.zeros(array.shape, bool)
    chosen[entry] = True
    return chosen


def broken_number(draw, name):
    values = {
        "steps": [-1, -(2**31), "1", None, [1, 2], [], tf.constant(1.0), [[1]]],
        "learning_rate": [
            *(np.nan, np.inf, -np.inf, -0.5, -2.0, "0.1", None, [0.1, 0.2], []),
            tf.constant(1),
        ],
    }[name]
    return values[draw.integers(len(values))]


def broken_weights(draw, good):
    name = sorted(good)[draw.integers(len(good))]
    value = good[name].numpy()
    others = {k: v for k, v in good.items() if k != name}
    choices = [
        lambda: others,
        lambda: {**good, "more": value},
        lambda: {**others, "renamed": value},
        lambda: {**good, name: broken_array(draw, value)},
        dict,
        lambda: list(good.values()),
        lambda: None,
    ]
    return choices[draw.integers(len(choices))]()


def broken_call(draw, calls):
    """A function's name and its arguments, one of which is broken."""
    function = sorted(calls)[draw.integers(len(calls))]
    arguments = dict(calls[function])
    name = sorted(arguments)[draw.integers(len(arguments))]
    if draw.integers(8) == 0:
        # Steps and rate have defaults, so a bad value stands in for a missing one.
        del arguments[name]
        if name in ("steps", "learning_rate"):
            arguments[name] = broken_number(draw, name)
    elif name in ("steps", "learning_rate"):
        arguments[name] = broken_number(draw, name)
    elif name == "weights":
        arguments[name] = broken_weights(draw, arguments[name])
    elif name.endswith("x") and "y" not in arguments and draw.integers(8) == 0:
        arguments["more"] = 1
    else:
        arguments[name] = broken_array(draw, arguments[name])
    if function in ("adapt", "fine_tune") and draw.integers(8) == 0:
        y = "support_y" if function == "adapt" else "y"
        arguments[y] = calls[function][y][:-1]  # Another number of examples.
    return function, arguments


def called(saved, name):
    of, _, signature = name.partition(" ")
    return saved.signatures[signature] if signature else getattr(saved, of)


@pytest.mark.parametrize("kind", ["regressor", "classifier", "reader"])
def test_malformed_calls_raise_and_change_nothing(kind, request):
    saved, good = request.getfixturevalue(kind)
    x, y, query = good["support_x"], good["support_y"], good["query_x"]
    how = {"steps": 2, "learning_rate": RATE}
    calls = {
        "serve": {"x": query},
        "adapt": {"support_x": x, "support_y": y, **how},
        "predict_with": {"weights": saved.adapt(x, y), "x": query, "steps": 2},
        "adapt_and_predict": {**good, **how},
        "fine_tune": {"x": x, "y": y, **how},
        # Signatures, as a server calls them.
        "signature serving_default": {"x": query},
        "signature adapt_and_predict": {**good, **how},
    }
    before, served = everything(saved), saved.serve(query).numpy()
    draw = np.random.default_rng(0)
    errors = TypeError, ValueError, tf.errors.InvalidArgumentError
    for _ in range(250):
        function, arguments = broken_call(draw, calls)
        with pytest.raises(errors):  # noqa: PT012 - the failure shows the call.
            called(saved, function)(**arguments)
            pytest.fail(f"{function} took {arguments}")
        assert_identical(before, everything(saved))
    assert_identical([served], [saved.serve(query).numpy()])


@pytest.mark.parametrize("size", [1e20, 3e38])
def test_huge_numbers_give_numbers_or_an_error(regressor, size):
    # The numbers are finite, but their squares and products are not.
    saved, good = regressor
    x, y, query = good["support_x"], good["support_y"], good["query_x"]
    huge_x, huge_y = np.full_like(x, size), np.full_like(y, size)
    functions = saved.adapt, saved.adapt_and_predict, saved.fine_tune
    before, messages = variables(saved), []
    for support in ((huge_x, y), (x, huge_y), (huge_x, huge_y)):
        for function in functions:
            more = (query,) if function is saved.adapt_and_predict else ()
            try:
                answer = function(*support, *more, steps=2, learning_rate=RATE)
            except tf.errors.InvalidArgumentError as error:
                messages.append(str(error))
                assert_identical(before, variables(saved))
            else:  # Saturated units have no gradient, so huge inputs do no harm.
                assert all(np.isfinite(a).all() for a in tf.nest.flatten(answer))
                saved.reset()
    assert all("diverged" in message for message in messages)
    assert len(messages) == (2 if size < 1e30 else 6)


@pytest.mark.parametrize("form", [dict, list])
def test_labels_of_several_outputs_are_checked_by_output(form, tmp_path):
    x = keras.Input([3])
    heads = {n: keras.layers.Dense(n, name=f"of_{n}")(x) for n in (2, 4)}
    values = keras.layers.Dense(1, name="value")(x)
    outputs = {"two": heads[2], "four": heads[4], "value": values}
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    loss = {"two": sparse, "four": sparse, "value": "mse"}
    good = {"two": [0, 1], "four": [3, 0], "value": [[5.0], [9.0]]}
    if form is list:
        outputs, loss, good = (list(it.values()) for it in (outputs, loss, good))
    maml = MAML(keras.Model(x, outputs), InnerLoop(loss, SGD(RATE)))
    saved = tf.saved_model.load(str(maml.export(tmp_path / "saved", verbose=0)))
    support_x, before = np.zeros([2, 3], "float32"), variables(saved)
    saved.adapt(support_x, good)
    for key, number, message in (("two", 2, r"0\.\.1"), ("four", -1, r"0\.\.3")):
        bad = dict(good) if form is dict else list(good)
        bad[key if form is dict else ["two", "four"].index(key)] = [number, 0]
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            saved.fine_tune(support_x, bad)
        assert_identical(before, variables(saved))
