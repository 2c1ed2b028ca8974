"""Small models and batches, and expected results computed without maml_keras."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from maml_keras import MAML, SGD, InnerLoop, UpdateRule, data

layers = keras.layers
RATE = 0.1


@contextlib.contextmanager
def precision(name):
    """A scope in which new models and arrays have the float type `name`."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def draw(generator, shape, count, integers):
    """Random inputs `[*count, *shape]` for each shape in a nest of shapes."""
    if isinstance(shape, dict):
        return {k: draw(generator, s, count, integers) for k, s in shape.items()}
    if integers:
        return generator.integers(0, integers, [*count, *shape]).astype("int32")
    return generator.normal(size=[*count, *shape]).astype(keras.config.floatx())


def regression(
    shape=(3,), *, tasks=2, support=4, queries=3, outputs=2, integers=None, seed=0
):
    """A batch of random tasks; support and query differ in size on purpose."""
    generator = np.random.default_rng(seed)
    task = {
        "support_x": draw(generator, shape, [tasks, support], integers),
        "support_y": draw(generator, (outputs,), [tasks, support], None),
        "query_x": draw(generator, shape, [tasks, queries], integers),
    }
    return task, draw(generator, (outputs,), [tasks, queries], None)


def classification(shape=(3,), *, tasks=2, ways=3, shots=2, queries=2, seed=0):
    """A batch of random N-way tasks, labels sorted."""
    generator = np.random.default_rng(seed)
    task = {
        "support_x": draw(generator, shape, [tasks, ways * shots], None),
        "support_y": np.tile(np.repeat(np.arange(ways), shots), [tasks, 1]),
        "query_x": draw(generator, shape, [tasks, ways * queries], None),
    }
    return task, np.tile(np.repeat(np.arange(ways), queries), [tasks, 1])


def dense(inputs=3, outputs=2, units=4, activation="tanh"):
    return keras.Sequential(
        [
            keras.Input([inputs]),
            layers.Dense(units, activation=activation),
            layers.Dense(outputs, name="head"),
        ]
    )


def normalised(layer, inputs=3, outputs=2):
    # The activation matters: directly after a Dense layer, the terms that Keras's layer
    # normalisation loses would cancel.
    return keras.Sequential(
        [
            keras.Input([inputs]),
            layers.Dense(6, activation="tanh"),
            layer,
            layers.Dense(outputs, name="head"),
        ]
    )


def batch_normalised(inputs=3, outputs=2, momentum=0.9):
    return normalised(layers.BatchNormalization(momentum=momentum), inputs, outputs)


def with_dropout(inputs=3, outputs=2):
    return normalised(layers.Dropout(0.5), inputs, outputs)


def images(*middle, outputs=2):
    return keras.Sequential(
        [
            keras.Input([6, 6, 1]),
            layers.Conv2D(3, 3, strides=2, activation="tanh"),
            *middle,
            layers.Flatten(),
            layers.Dense(outputs),
        ]
    )


def words(*middle):
    return keras.Sequential(
        [keras.Input([4], dtype="int32"), layers.Embedding(5, 3), *middle]
    )


def attention():
    x = keras.Input([4, 3])
    h = layers.MultiHeadAttention(num_heads=2, key_dim=2)(x, x)
    h = layers.GlobalAveragePooling1D()(h)
    return keras.Model(x, layers.Dense(2)(h))


def shared():
    x = keras.Input([3])
    twice = layers.Dense(3, activation="tanh")
    return keras.Model(x, layers.Dense(2)(twice(twice(x))))


def frozen():
    model = dense()
    model.layers[0].trainable = False
    return model


def nested():
    body = keras.Sequential([keras.Input([3]), layers.Dense(4, activation="tanh")])
    x = keras.Input([3])
    return keras.Model(x, layers.Dense(2)(body(x)))


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """A subclassed model whose `call` takes no `training`."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden = layers.Dense(units, activation="tanh")
        self.head = layers.Dense(2)

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.head.build([None, self.units])
        self.built = True

    def call(self, x):
        return self.head(self.hidden(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def subclassed():
    model = Subclassed()
    model.build([None, 3])
    return model


def multi_input():
    a, b = keras.Input([3], name="a"), keras.Input([2], name="b")
    h = layers.Concatenate()([layers.Dense(3, activation="tanh")(a), b])
    return keras.Model({"a": a, "b": b}, layers.Dense(2)(h))


def regularised():
    return keras.Sequential(
        [
            keras.Input([3]),
            layers.Dense(4, activation="tanh", kernel_regularizer="l2"),
            layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.1)),
        ]
    )


@keras.saving.register_keras_serializable(package="tests")
class OwnNormalization(layers.Layer):
    """A user's layer that takes its moments from Keras."""

    def build(self, shape):
        self.scale = self.add_weight(
            shape=[shape[-1]], initializer="ones", name="scale"
        )

    def call(self, x):
        mean, variance = keras.ops.moments(x, axes=[0], keepdims=True)
        return self.scale * (x - mean) / keras.ops.sqrt(variance + 1e-3)


class Family(NamedTuple):
    """A kind of network and its inputs. All are smooth, so derivatives exist."""

    build: Callable[[], keras.Model]
    shape: Any = (3,)
    integers: int | None = None
    vectorizes: bool = True
    random: bool = False
    """Whether the network draws masks, so that plain Keras gives another loss."""


FAMILIES = {
    "dense": Family(dense),
    "conv": Family(images, (6, 6, 1)),
    "conv_batch_norm": Family(lambda: images(layers.BatchNormalization()), (6, 6, 1)),
    "batch_norm": Family(batch_normalised),
    "layer_norm": Family(lambda: normalised(layers.LayerNormalization())),
    "group_norm": Family(lambda: normalised(layers.GroupNormalization(2))),
    "own_norm": Family(lambda: normalised(OwnNormalization())),
    "embedding": Family(
        lambda: words(layers.Flatten(), layers.Dense(2)), (4,), integers=5
    ),
    "lstm": Family(
        lambda: words(layers.LSTM(3), layers.Dense(2)), (4,), 5, vectorizes=False
    ),
    "gru": Family(
        lambda: words(layers.GRU(3), layers.Dense(2)), (4,), 5, vectorizes=False
    ),
    "attention": Family(attention, (4, 3)),
    "dropout": Family(with_dropout, vectorizes=False, random=True),
    "shared": Family(shared),
    "frozen": Family(frozen),
    "nested": Family(nested),
    "subclassed": Family(subclassed),
    "multi_input": Family(multi_input, {"a": (3,), "b": (2,)}),
    "regularised": Family(regularised),
}


def family(name):
    """A model of the family `name` and a batch for it, in the current precision."""
    chosen = FAMILIES[name]
    return chosen.build(), regression(chosen.shape, integers=chosen.integers)


def maml(
    model,
    *,
    loss="mse",
    rate=RATE,
    steps=1,
    second_order=True,
    task_map="parallel",  # Traces fastest; tests of maps pass another map.
    **kwargs,
):
    inner = InnerLoop(loss, SGD(rate), steps=steps, second_order=second_order)
    return MAML(model, inner, task_map=task_map, **kwargs)


def estimating(model, estimator, *, rule=None, steps=2, task_map="parallel", **inner):
    """`model` with the given meta-gradient."""
    loop = InnerLoop("mse", rule or SGD(RATE), steps=steps, **inner)
    return MAML(model, loop, meta_gradient=estimator, task_map=task_map)


def gradients(model, batch):
    """The meta-gradients as arrays."""
    return [g.numpy() for g in model.compute_meta_gradients(batch)[1]]


def tensors(batch):
    return tf.nest.map_structure(tf.convert_to_tensor, batch)


def task_of(batch, index):
    """One task of a batch, without the first axis, as tensors."""
    return tf.nest.map_structure(lambda a: tf.convert_to_tensor(a)[index], batch)


def mse(y_true, y_pred):
    return tf.reduce_mean(tf.square(y_true - y_pred))


def plain_adapt(model, x, y, *, steps, rate=RATE, loss=mse, training=True):
    """Inner steps in plain Keras: a tape, and assignments to the model's variables."""
    for _ in range(steps):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=training))
            value += sum(model.losses) if model.losses else 0.0
        variables = model.trainable_variables
        for variable, gradient in zip(variables, tape.gradient(value, variables)):
            variable.assign_sub(rate * tf.convert_to_tensor(gradient))


def each_task(model, batch, at_end, *, steps=2):
    """The mean over tasks of `at_end(start, task, query_y)` at the adapted weights."""
    start = [v.numpy() for v in model.trainable_variables]
    found = []
    for index in range(len(batch[1])):
        task, query_y = task_of(batch, index)
        plain_adapt(model, task["support_x"], task["support_y"], steps=steps)
        found.append(at_end(start, task, query_y))
        for variable, value in zip(model.trainable_variables, start):
            variable.assign(value)
    return [np.mean(values, axis=0) for values in zip(*found)]


def plain_query_loss(model, batch, values, *, steps, loss=mse):
    """The mean query loss after plain adaptation of each task from `values`."""
    total = 0.0
    for index in range(len(batch[1])):
        task, query_y = task_of(batch, index)
        for variable, value in zip(model.trainable_variables, values):
            variable.assign(value)
        plain_adapt(model, task["support_x"], task["support_y"], steps=steps, loss=loss)
        total += float(loss(query_y, model(task["query_x"], training=True)))
        total += float(sum(model.losses)) if model.losses else 0.0
    for variable, value in zip(model.trainable_variables, values):
        variable.assign(value)
    return total / len(batch[1])


def difference(model, batch, direction, *, steps, size=1e-6):
    """The central difference of the loss along a direction in all variables.

    The step is small because the loss after five steps through group norm is strongly
    curved: with a step of 1e-5 the difference has an error of 1e-5. Rounding costs
    1e-10 at this step.
    """
    start = [v.numpy() for v in model.trainable_variables]
    values = [
        plain_query_loss(
            model,
            batch,
            [v + sign * size * d for v, d in zip(start, direction)],
            steps=steps,
        )
        for sign in (1, -1)
    ]
    for variable, value in zip(model.trainable_variables, start):
        variable.assign(value)
    return (values[0] - values[1]) / (2 * size)


def directional_differences(model, batch, *, steps, seed=0):
    """For each variable: a random direction, and the central difference of the loss."""
    shapes = [v.shape for v in model.trainable_variables]
    generator = np.random.default_rng(seed)
    found = []
    for index, shape in enumerate(shapes):
        along = [np.zeros(other) for other in shapes]
        along[index] = generator.normal(size=shape)
        found.append((along[index], difference(model, batch, along, steps=steps)))
    return found


def numpy_variables(model):
    return [v.numpy() for v in model.variables]


def assert_identical(before, after):
    """Asserts that two lists of arrays are equal bit for bit."""
    assert len(before) == len(after)
    for old, new in zip(before, after):
        np.testing.assert_array_equal(old, new)


@keras.saving.register_keras_serializable(package="tests")
class Momentum(UpdateRule):
    """A user's rule with a state for each task and a learned rate."""

    def __init__(self, learning_rate=RATE, decay=0.9, **kwargs):
        super().__init__(**kwargs)
        self.learning_rate, self.decay = learning_rate, decay
        self.rate = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(learning_rate),
            name="rate",
        )
        self.built = True

    def start(self, weights):
        return [tf.zeros_like(w) for w in weights]

    def update(self, weights, gradients, state, *, step, learning_rate=None):
        rate = self.rate if learning_rate is None else learning_rate
        rate = tf.convert_to_tensor(rate)
        state = [self.decay * m + g for m, g in zip(state, gradients)]
        return [w - tf.cast(rate, w.dtype) * m for w, m in zip(weights, state)], state

    def get_config(self):
        config = {"learning_rate": self.learning_rate, "decay": self.decay}
        return {**super().get_config(), **config}


class CountedMSE:
    """A loss that counts how often Python calls it: in a graph, once per trace."""

    __name__ = "counted_mse"

    def __init__(self):
        self.calls = 0

    def __call__(self, y_true, y_pred):
        self.calls += 1
        return tf.square(y_true - y_pred)


def model_with_statistics():
    model = batch_normalised()
    model.layers[1].moving_mean.assign(np.linspace(-0.4, 0.4, 6))
    model.layers[1].moving_variance.assign(np.linspace(0.3, 1.2, 6))
    return model


def with_rows_that_differ(policy):
    learner = maml(model_with_statistics(), steps=2, batch_norm=policy)
    own = learner.batch_norm
    for table in [*own.learned(), *own.statistics()]:
        rows = np.linspace(0.0, 0.5, table.numpy().size)
        table.assign_add(rows.reshape(table.shape))
    return learner


def assert_exports(learner, task, expected, path):
    learner.export(path)
    saved = tf.saved_model.load(str(path))
    support = (
        tf.constant(task["support_x"][0], tf.float32),
        tf.constant(task["support_y"][0], tf.float32),
    )
    x = tf.constant(task["query_x"][0], tf.float32)
    close = {"rtol": 1e-4, "atol": 1e-5}  # float32
    np.testing.assert_allclose(saved.adapt_and_predict(*support, x), expected, **close)
    weights = saved.adapt(*support)
    np.testing.assert_allclose(saved.predict_with(weights, x), expected, **close)
    before = saved.serve(x).numpy()
    saved.fine_tune(*support)
    np.testing.assert_allclose(saved.serve(x), expected, **close)
    saved.reset()
    np.testing.assert_array_equal(saved.serve(x), before)


def lettered(classes=12, per_class=3, order=None):
    """Classes "c00", "c01", ... in three groups; example = 100 * class + number."""
    order = range(classes) if order is None else order
    x = [[100 * c + i] for c in order for i in range(per_class)]
    return data.Pool(
        np.array(x, np.int32),
        counts=[per_class] * classes,
        class_names=[f"c{c:02d}" for c in order],
        groups=[f"g{c % 3}" for c in order],
    )


def pretrained():
    x = keras.Input([4, 3])
    h = layers.EinsumDense("abc,cd->abd", output_shape=(None, 6), bias_axes="d")(x)
    h = layers.GlobalAveragePooling1D()(h)
    h = layers.BatchNormalization()(h)
    h = layers.Dense(8, activation="tanh")(h)
    return keras.Model(x, layers.Dense(2)(h))


def with_noise(model):
    """Sets the adapters to random values, so that they change the output."""
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(size=variable.shape))
    return model


def curved_gradient(function, x):
    """The gradient of a non-linear sum of the function's output."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(tf.sin(tf.cast(function(x), x.dtype)))
    return tf.convert_to_tensor(tape.gradient(value, x))


def second_derivative(function, x, along):
    """The gradient of the directional derivative along `along`."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        slope = tf.reduce_sum(curved_gradient(function, x) * along)
    return tape.gradient(slope, x)


def compiled(
    model=None, optimizer="sgd", *, loss="mse", steps=1, task_map="parallel", **kwargs
):
    """A compiled `MAML`; `steps=0` traces fastest and is enough for tests of data."""
    wrapped = maml(model or dense(), loss=loss, steps=steps, task_map=task_map)
    wrapped.compile(optimizer, **kwargs)
    return wrapped


def batched(batch, size=2):
    return tf.data.Dataset.from_tensor_slices(batch).batch(size)
