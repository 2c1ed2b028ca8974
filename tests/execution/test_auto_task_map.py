"""`auto` vectorises where that is exact, and falls back to the loop elsewhere."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    FAMILIES,
    batch_normalised,
    dense,
    images,
    maml,
    regression,
    tensors,
    with_dropout,
)

from maml_keras import MAML, SGD, InnerLoop, UpdateRule, with_low_rank_adapters
from maml_keras.execution import auto_task_map, task_maps

layers = keras.layers


# Layers listed as vectorising --------------------------------------------------------


def merged(layer):
    x = keras.Input([3])
    return keras.Model(x, layer([layers.Dense(4)(x), layers.Dense(4)(x)]))


def after_dense(layer):
    return keras.Sequential([keras.Input([3]), layers.Dense(4), layer, layers.Dense(2)])


def on_sequence(*middle):
    return keras.Sequential(
        [keras.Input([4, 3]), layers.Dense(4, activation="tanh"), *middle]
    )


def on_grid(*middle):
    return keras.Sequential(
        [keras.Input([2, 2, 3]), layers.Dense(4, activation="tanh"), *middle]
    )


def entry_by_entry():
    """Layers that take each number, or each row, by itself; together for one trace."""
    return keras.Sequential(
        [
            keras.Input([3]),
            layers.Dense(4),
            layers.Normalization(mean=[0.1] * 4, variance=[2.0] * 4),
            layers.ELU(),
            layers.Rescaling(0.5),
            layers.LeakyReLU(),
            layers.Dropout(0.0),
            layers.Reshape([2, 2]),
            layers.Permute([2, 1]),
            layers.Flatten(),
            layers.Dense(4),
            layers.PReLU(),
            layers.Activation("tanh"),
            layers.Dense(4),
            layers.ReLU(),
            layers.Softmax(),
            layers.Dense(2),
        ]
    )


def all_merged():
    x = keras.Input([3])
    a, b = layers.Dense(4)(x), layers.Dense(4)(x)
    kinds = (layers.Add, layers.Average, layers.Multiply, layers.Subtract)
    return keras.Model(x, layers.Concatenate()([kind()([a, b]) for kind in kinds]))


def short_recurrent(layer):
    """Three words: the recurrence is unrolled, which makes a long trace."""
    words = keras.Input([3], dtype="int32")
    h = layer(layers.Embedding(5, 3)(words))
    return keras.Model(words, layers.Dense(2)(h))


# Layers that share a network are traced together. If one of them does not vectorise,
# the reason that `auto` gives names that layer.
NETWORKS = {
    ("Dense", "InputLayer", "Sequential"): dense,
    (
        "Activation",
        "Dropout",
        "ELU",
        "Flatten",
        "LeakyReLU",
        "Normalization",
        "PReLU",
        "Permute",
        "ReLU",
        "Rescaling",
        "Reshape",
        "Softmax",
    ): entry_by_entry,
    ("Add", "Average", "Concatenate", "Multiply", "Subtract"): all_merged,
    ("Functional",): FAMILIES["shared"].build,
    ("EinsumDense",): lambda: after_dense(layers.EinsumDense("ab,bc->ac", [3])),
    ("Embedding",): FAMILIES["embedding"].build,
    ("GRU", "GRUCell"): lambda: short_recurrent(layers.GRU(3)),
    ("LSTM", "LSTMCell"): lambda: short_recurrent(layers.LSTM(3)),
    ("SimpleRNN", "SimpleRNNCell"): lambda: on_sequence(layers.SimpleRNN(3)),
    ("GlobalAveragePooling1D",): lambda: on_sequence(layers.GlobalAveragePooling1D()),
    ("GlobalAveragePooling2D",): lambda: on_grid(layers.GlobalAveragePooling2D()),
    ("BatchNormalization",): lambda: after_dense(layers.BatchNormalization()),
    ("GroupNormalization",): lambda: after_dense(layers.GroupNormalization(2)),
    ("LayerNormalization",): lambda: after_dense(layers.LayerNormalization()),
    ("RMSNormalization",): lambda: after_dense(layers.RMSNormalization()),
    ("MultiHeadAttention",): FAMILIES["attention"].build,
}
VECTORIZING = {name for names in NETWORKS for name in names}


def check_vectorised(model, batch, **order):
    """`auto` vectorises, and gives the gradients of the sequential map."""
    sequential = maml(model, task_map="sequential", **order)
    loss, expected = sequential.compute_meta_gradients(batch)
    wrapped = maml(model, task_map="auto", **order)
    assert isinstance(
        wrapped.task_map.fitted(wrapped.learner, batch[0]), task_maps.Vectorized
    )
    got_loss, got = wrapped.compute_meta_gradients(batch)
    assert str(wrapped.task_map).startswith("auto (vectorized")
    np.testing.assert_allclose(got_loss, loss, rtol=1e-5)  # float32
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_every_layer_that_auto_vectorises_is_tested():
    assert set(auto_task_map._VECTORIZING) == VECTORIZING


# One layer of each kind for every change of the code, all layers in slow tests.
USUAL = {"Dense", "BatchNormalization", "Embedding", "GRU", "MultiHeadAttention"}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(n, marks=[] if n[0] in USUAL else pytest.mark.slow, id=n[0])
        for n in NETWORKS
    ],
)
@pytest.mark.parametrize(
    "second_order", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_layer_vectorises_and_matches_sequential(names, second_order):
    model = NETWORKS[names]()
    present = {type(layer).__name__ for layer in model._flatten_layers()}
    assert set(names) <= present
    shape = tuple(model.input_shape[1:])
    outputs = tuple(model.output_shape[1:])
    integers = 5 if "Embedding" in present else None
    task, _ = regression(shape, integers=integers)
    generator = np.random.default_rng(1)
    task["support_y"] = generator.normal(size=[2, 4, *outputs]).astype("float32")
    batch = tensors((task, generator.normal(size=[2, 3, *outputs]).astype("float32")))
    check_vectorised(model, batch, second_order=second_order)


# Layers that vectorise on a GPU ------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """Lets TensorFlow list a GPU, on which nothing can run."""
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [f"{kind}:0"])


SPACES = {1: [8], 2: [8, 6], 3: [6, 6, 4]}


def in_space(rank, *middle):
    return keras.Sequential(
        [
            keras.Input([*SPACES[rank], 2]),
            layers.Dense(4, activation="tanh"),
            *middle,
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def smooth(kind, rank, **settings):
    """A layer of weights, and behind it a curve."""
    layer = getattr(layers, f"{kind}{rank}D")
    return [layer(kernel_size=2, **settings), layers.Activation("tanh")]


def spatial(rank):
    """Networks on `rank` axes, and the layers that each of them tests."""
    convolutions = [
        *smooth("Conv", rank, filters=4, strides=2, padding="same"),
        *smooth("Conv", rank, filters=2, dilation_rate=2),
    ]
    pools = [
        getattr(layers, f"ZeroPadding{rank}D")(1),
        getattr(layers, f"MaxPooling{rank}D")(2),
        getattr(layers, f"AveragePooling{rank}D")(2, strides=1, padding="same"),
        getattr(layers, f"Cropping{rank}D")(1),
    ]
    found = {
        ("Conv",): convolutions[:2] if rank == 3 else convolutions,
        ("ZeroPadding", "MaxPooling", "AveragePooling", "Cropping"): pools,
        ("ConvTranspose",): [
            getattr(layers, f"Conv{rank}DTranspose")(3, 2, strides=2),
            layers.Activation("tanh"),
        ],
        ("GlobalMaxPooling",): [getattr(layers, f"GlobalMaxPooling{rank}D")()],
    }
    if rank < 3:
        for kind, settings in (
            ("DepthwiseConv", {"depth_multiplier": 2}),
            ("SeparableConv", {"filters": 3}),
        ):
            found[(kind,)] = smooth(kind, rank, **settings)
    else:
        found[("GlobalAveragePooling",)] = [layers.GlobalAveragePooling3D()]
    return found


def title(kind, rank):
    if kind == "ConvTranspose":
        return f"Conv{rank}DTranspose"
    return f"{kind}{rank}D"


ON_GPU = {
    tuple(title(kind, rank) for kind in kinds): (rank, middle)
    for rank in SPACES
    for kinds, middle in spatial(rank).items()
}


def test_every_layer_that_auto_vectorises_on_a_gpu_is_tested():
    named = {name for names in ON_GPU for name in names}
    assert set(auto_task_map._VECTORIZING_ON_GPU) == named


@pytest.mark.slow
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("names", ON_GPU, ids="-".join)
def test_layer_vectorises_on_a_gpu_and_matches_sequential(names):
    rank, middle = ON_GPU[names]
    shape = (*SPACES[rank], 2)
    check_vectorised(in_space(rank, *middle), tensors(regression(shape)))


@pytest.mark.usefixtures("gpu")
def test_auto_vectorises_convolutions_on_a_gpu_only():
    model = images(layers.MaxPooling2D(2))
    check_vectorised(model, tensors(regression((6, 6, 1))))
    chosen, mapping, compiles = fitted(model)
    assert isinstance(chosen, task_maps.Vectorized)
    assert compiles
    assert str(mapping) == (
        "auto (vectorized: every layer vectorises over tasks, and a GPU computes)"
    )


@pytest.mark.usefixtures("gpu")
def test_auto_vectorises_large_products_on_a_gpu():
    chosen, _, compiles = fitted(wide(512), 10)
    assert isinstance(chosen, task_maps.Vectorized)
    assert compiles


@pytest.mark.usefixtures("gpu")
def test_auto_loops_over_unknown_layers_on_a_gpu():
    assert isinstance(fitted(FAMILIES["own_norm"].build())[0], task_maps.Loop)


@pytest.mark.parametrize("name", ["dense", "attention"])
def test_adapters_vectorise_and_match_sequential(name):
    model = with_low_rank_adapters(FAMILIES[name].build(), 2)
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:  # Non-zero, so that both factors count.
        variable.assign(generator.normal(size=variable.shape))
    shape = tuple(model.input_shape[1:])
    check_vectorised(model, tensors(regression(shape)))


# Auto ------------------------------------------------------------------------------


def fitted(model, examples=5, **options):
    wrapped = maml(model, **{"task_map": "auto", **options})
    shape = getattr(model, "input_shape", [None, 3])[1:]
    task = {"support_x": tf.TensorSpec([2, examples, *shape], "float32")}
    chosen = wrapped.task_map.fitted(wrapped.learner, task)
    return chosen, wrapped.task_map, wrapped.task_map.compiles(wrapped.learner, task)


def wide(units):
    return keras.Sequential(
        [keras.Input([units]), layers.Dense(units, "relu"), layers.Dense(1)]
    )


def test_auto_says_that_everything_vectorises():
    chosen, mapping, compiles = fitted(batch_normalised())
    assert isinstance(chosen, task_maps.Vectorized)
    assert compiles
    assert str(mapping).startswith("auto (vectorized: every layer vectorises over")


@pytest.mark.parametrize(("units", "examples"), [(512, 10), (128, 100)])
def test_auto_does_not_vectorise_large_products(units, examples):
    # Measured: 512 units and 10 examples take 1.6 times as long if vectorised.
    chosen, mapping, compiles = fitted(wide(units), examples)
    assert isinstance(chosen, task_maps.Loop)
    assert not compiles
    assert f"{2 * units * units * examples / 1e6:.1f} million" in str(mapping)


def test_auto_does_not_use_xla_where_xla_is_slower_or_fails():
    assert fitted(wide(40), 10, task_map="vectorized")[2]
    # Measured: 512 units take 1.5 times as long under XLA.
    assert not fitted(wide(512), 10, task_map="vectorized")[2]
    assert not fitted(merged(layers.Concatenate()), task_map="vectorized")[2]
    assert not fitted(wide(40), 10, task_map="parallel")[2]


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (images, "parallel: Conv2D: faster task by task on a processor"),
        (with_dropout, "parallel: Stateless.*Random.* does not vectorise"),
        (FAMILIES["subclassed"].build, "Subclassed"),
        (FAMILIES["own_norm"].build, "OwnNormalization"),
    ],
)
def test_auto_names_the_layer_or_operation_that_does_not_vectorise(build, reason):
    chosen, mapping, compiles = fitted(build())
    assert isinstance(chosen, task_maps.Loop)
    assert not compiles
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(mapping)


def test_auto_vectorises_short_sequences_and_not_long_ones():
    def recurrent(length):
        return keras.Sequential(
            [keras.Input([length, 2]), layers.LSTM(3), layers.Dense(1)]
        )

    chosen, _, compiles = fitted(recurrent(20))
    assert isinstance(chosen, task_maps.Vectorized)
    assert not compiles  # XLA takes minutes over an unrolled recurrence.
    chosen, mapping, _ = fitted(recurrent(65))
    assert isinstance(chosen, task_maps.Loop)
    assert "While" in str(mapping)


def test_a_task_map_object_is_used_unchanged():
    mapping = task_maps.sequential()
    assert auto_task_map.get(mapping) is mapping


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"auto.*parallel.*task_map='chunky'"):
        auto_task_map.get("chunky")


# Losses, activations and rules of a user's own ----------------------------------------


def masked(y_true, y_pred):
    """Mean squared error; a target of -9 is missing."""
    there = y_true > -9.0
    error = tf.boolean_mask(y_pred, there) - tf.boolean_mask(y_true, there)
    return tf.reduce_mean(tf.square(error))


def trimmed(y_true, y_pred):
    """Mean squared error without the worst example."""
    return tf.reduce_mean(tf.sort(tf.reduce_mean((y_true - y_pred) ** 2, -1))[:-1])


def example_by_example(y_true, y_pred):
    return tf.map_fn(
        lambda pair: tf.reduce_mean((pair[0] - pair[1]) ** 2),
        (y_true, y_pred),
        fn_output_signature=tf.float32,
    )


def through(function):
    x = keras.Input([3])
    h = layers.Dense(4, activation="tanh")(x)
    return keras.Model(x, layers.Dense(2)(function(h)))


class Largest(UpdateRule):
    """A step along the largest entries of each gradient."""

    def update(self, weights, gradients, state, *, step, learning_rate=None):
        def kept(g):
            flat = tf.reshape(g, [-1])
            top = tf.math.top_k(tf.abs(flat), k=2).indices
            sparse = tf.scatter_nd(top[:, None], tf.gather(flat, top), tf.shape(flat))
            return tf.reshape(sparse, g.shape)

        return [w - 0.1 * kept(g) for w, g in zip(weights, gradients)], state


OWN = {
    "missing targets": lambda: (dense(), masked, SGD(0.1)),
    "sorted errors": lambda: (dense(), trimmed, SGD(0.1)),
    "a loop in the loss": lambda: (dense(), example_by_example, SGD(0.1)),
    "keras.ops": lambda: (through(keras.ops.sort), "mse", SGD(0.1)),
    "activation": lambda: (
        through(layers.Dense(4, activation="sparsemax")),
        "mse",
        SGD(0.1),
    ),
    "rule": lambda: (dense(), "mse", Largest()),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[] if name in ("keras.ops", "rule") else pytest.mark.slow
        )
        for name in OWN
    ],
)
def test_auto_works_with_any_operation_and_says_why_it_loops(name):
    model, loss, rule = OWN[name]()
    task, query_y = regression()
    task["support_y"][:, 0, 0] = query_y[:, 1, 1] = -9.0
    batch = tensors((task, query_y))
    inner = InnerLoop(loss, rule, steps=1)
    loop = MAML(model, inner, task_map="sequential")
    expected_loss, expected = loop.compute_meta_gradients(batch)
    wrapped = MAML(model, inner)
    for _ in range(2):  # The second time the loop is taken at once.
        got_loss, got = tf.function(wrapped.compute_meta_gradients)(batch)
        np.testing.assert_allclose(got_loss, expected_loss, rtol=1e-5)
        for a, b in zip(got, expected):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert str(wrapped.task_map).startswith("auto (parallel: ")
    assert "no form with a task axis" in str(wrapped.task_map)
    assert not wrapped.task_map.compiles(wrapped.learner, batch[0])


def test_another_loss_is_tried_anew():
    wrapped = maml(dense(), loss="mse", task_map="auto")
    wrapped.compile("sgd", loss=masked)
    wrapped.compute_meta_gradients(tensors(regression()))
    assert "the operation Where" in str(wrapped.task_map)
    wrapped.compile("sgd", loss="mse")
    wrapped.compute_meta_gradients(tensors(regression()))
    assert str(wrapped.task_map).startswith("auto (vectorized")


def test_a_refused_operation_is_not_logged_as_an_error(caplog):
    wrapped = maml(dense(), loss=masked, task_map="auto")
    wrapped.compute_meta_gradients(tensors(regression()))
    assert not [r for r in caplog.records if r.levelname == "ERROR"]
