"""Operations for all tasks at once give the numbers of a loop, or are refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_keras import MAML, SGD, InnerLoop
from maml_keras.execution.task_maps import Vectorized

ops, linalg = keras.ops, tf.linalg
# Three tasks: a matrix, pictures, and a matrix that can be inverted.
MATRIX = tf.constant(np.random.default_rng(0).uniform(0.1, 0.9, [3, 4, 5]))
IMAGES = tf.constant(np.random.default_rng(1).uniform(0.0, 1.0, [3, 2, 5, 6, 3]))
SQUARE = tf.matmul(MATRIX, MATRIX, transpose_b=True) + tf.eye(4, dtype="float64")
ORDER = tf.constant([0, 2, 1, 2])
AROUND = [[1, 0], [0, 2]]


def at_once(function, tasks):
    return Vectorized()(lambda task: (tf.zeros([]), function(task)), tasks)[1]


@pytest.mark.parametrize("value", [0.0, 5.0, -np.inf])
def test_padding_keeps_its_value(value):
    expected = np.pad(MATRIX, [[0, 0], *AROUND], constant_values=value)
    for pad in (tf.pad, keras.ops.pad):
        found = at_once(lambda x: pad(x, AROUND, constant_values=value), MATRIX)  # noqa: B023
        np.testing.assert_array_equal(found, expected)


def test_tasks_may_share_what_is_padded():
    expected = np.pad(np.ones([2, 2]), AROUND, constant_values=5.0) * np.ones([3, 1, 1])
    found = at_once(
        lambda _: tf.pad(tf.ones([2, 2]), AROUND, constant_values=5.0), MATRIX
    )
    np.testing.assert_array_equal(found, expected)


def test_a_value_that_differs_between_tasks_is_refused():
    with pytest.raises(ValueError, match="PadV2, which has none.*'auto'"):
        at_once(lambda x: tf.pad(x, AROUND, constant_values=x[0, 0]), MATRIX)


@keras.saving.register_keras_serializable(package="tests")
class Fenced(keras.layers.Layer):
    """A layer of a user's own, which pads with its value."""

    def call(self, x):
        return keras.ops.pad(x, [[0, 0], [1, 1]], constant_values=2.0)


@pytest.mark.parametrize(
    "middle", [Fenced(), keras.layers.MaxPooling1D(2, padding="same")]
)
def test_the_meta_gradient_is_that_of_the_loop(middle, float64):
    found = []
    for task_map in ("vectorized", "sequential"):
        keras.utils.set_random_seed(0)
        pooled = [keras.layers.Reshape([5, 1]), middle, keras.layers.Flatten()]
        model = keras.Sequential(
            [
                keras.Input([3]),
                # Below zero, so that padding with zeros would show.
                keras.layers.Dense(
                    5, bias_initializer=keras.initializers.Constant(-9.0)
                ),
                *([middle] if isinstance(middle, Fenced) else pooled),
                keras.layers.Dense(2),
            ]
        )
        maml = MAML(model, InnerLoop("mse", SGD(0.01), steps=2), task_map=task_map)
        x = np.random.default_rng(0).normal(size=[2, 4, 3])
        task = {"support_x": x, "support_y": x[..., :2], "query_x": x + 1.0}
        found.append(maml.compute_meta_gradients((task, x[..., 1:])))
    for a, b in zip(*(tf.nest.flatten(each) for each in found)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


# Every operation of the survey, on one task. Those of `LOOPS` have no form with a task
# axis.
OF_A_MATRIX = {
    "slice": lambda x: ops.slice(x, [1, 1], [2, 3]),
    "slice by task": lambda x: ops.slice(
        x, [tf.argmax(x[:3, 0], output_type="int32"), 1], [1, 3]
    ),
    "scatter_update": lambda x: ops.scatter_update(x, [[1], [0]], x[2:] * 3),
    "take": lambda x: ops.take(x, [1, -1], axis=1),
    "take by task": lambda x: ops.take(x, ops.cast(x[0] * 4, "int32"), axis=0),
    "take_along_axis": lambda x: ops.take_along_axis(x, ops.argsort(x, 1), axis=1),
    "gather of batches": lambda x: tf.gather(x, tf.argsort(x, 1), batch_dims=1),
    "gather_nd": lambda x: tf.gather_nd(x, [[0, 1], [2, 3]]),
    "segment_sum": lambda x: ops.segment_sum(x, ORDER, 3),
    "segment_max": lambda x: ops.segment_max(x, ORDER, 3),
    "where": lambda x: ops.where(x[:, :1] > 0.5, x, 0.1),
    "select": lambda x: ops.select([x > 0.7, x > 0.3], [x, -x], 0.5),
    "searchsorted": lambda x: ops.searchsorted(tf.sort(x[0]), x[1]),
    "clip by task": lambda x: ops.clip(x, x[0, 0], x[1, 1] + 1),
    "einsum": lambda x: ops.einsum("ij,kj->ik", x, x),
    "einsum with weights": lambda x: ops.einsum(
        "ij,jk->ki", x, tf.ones([5, 2], x.dtype)
    ),
    "matmul": lambda x: tf.matmul(x, x, transpose_a=True),
    "matvec": lambda x: linalg.matvec(x, x[0]),
    "broadcast_to": lambda x: ops.broadcast_to(x[0], [3, 4, 5]),
    "fft": lambda x: ops.fft((x, x)),
    "irfft": lambda x: ops.irfft((x, x * 2), fft_length=7),
    "top_k": lambda x: ops.top_k(x, 2),
    "scan": lambda x: ops.scan(lambda c, a: (c + a, c * a), x[0] * 0, x)[1],
    "fori_loop": lambda x: ops.fori_loop(0, 3, lambda i, c: c * 1.5 + x, x),
    "cond": lambda x: ops.cond(x[0, 0] > 0.5, lambda: x * 2, lambda: x * 3),
    "cross": lambda x: ops.cross(x[:, :3], x[:, 1:4]),
    "one_hot": lambda x: ops.one_hot(ops.cast(x * 4, "int32"), 5, axis=0),
    "one_hot with values": lambda x: tf.one_hot(tf.cast(x * 4, "int32"), 5, 3.0, -1.0),
    "embedding": lambda x: tf.nn.embedding_lookup(x, ORDER),
    "cumsum": lambda x: tf.cumsum(x, axis=1, exclusive=True, reverse=True),
    "cumprod": lambda x: ops.cumprod(x, axis=-1),
    "roll": lambda x: ops.roll(x, 2, axis=1),
    "split": lambda x: tf.split(x, [1, 3, 1], axis=-1)[1],
    "stack": lambda x: tf.stack([x, x * 2], axis=-1),
    "concat with weights": lambda x: tf.concat([x, tf.ones([2, 5], x.dtype)], 0),
    "strided slice": lambda x: x[::-1, None, 1::2],
    "reduce": lambda x: tf.reduce_sum(x, axis=[-1], keepdims=True),
    "argmax": lambda x: tf.argmax(x, axis=0),
    "norm": lambda x: tf.norm(x, ord=1, axis=0),
    "clip_by_norm": lambda x: tf.clip_by_norm(x, 0.3, axes=[1]),
    "bias_add": lambda x: tf.nn.bias_add(x, x[0]),
    "diag": lambda x: linalg.diag(x, k=1, padding_value=4.0),
    "band_part": lambda x: linalg.band_part(x, 1, 0),
    "igamma": lambda x: tf.math.igamma(x, x * 2),
    "linspace": lambda x: tf.linspace(x[0, 0], x[1, 1], 5),
    "fill": lambda x: tf.fill([2, 2], x[0, 0]),
    "cross-entropy": lambda x: ops.sparse_categorical_crossentropy(
        ORDER, x, from_logits=True
    ),
    "reflect": lambda x: ops.pad(x, AROUND, "reflect"),
    "scatter": lambda x: ops.scatter(tf.reshape(ORDER, [4, 1]), x, [3, 5]),
    "tensor_scatter_nd_add": lambda x: tf.tensor_scatter_nd_add(x, [[1, 1]], x[0, :1]),
    "boolean_mask": lambda x: tf.reduce_sum(tf.boolean_mask(x, x > 0.5)),
    "reverse_sequence": lambda x: tf.reverse_sequence(x, [2, 3, 1, 4], seq_axis=1),
}
OF_IMAGES = {
    "average_pool": lambda x: ops.average_pool(x, 2, padding="same"),
    "max_pool": lambda x: ops.max_pool(x - 1.0, 2, padding="same"),
    "tf.max_pool2d": lambda x: tf.nn.max_pool2d(x - 1.0, 2, 2, "SAME"),
    "conv": lambda x: ops.conv(x - 1.0, x[0, :2, :2, :, None], padding="same"),
    "conv of equal weights": lambda x: tf.nn.conv2d(
        x, tf.ones([3, 3, 3, 2], x.dtype), 1, [[0, 0], [1, 0], [0, 2], [0, 0]]
    ),
    "moments": lambda x: ops.moments(x, axes=[0, 2]),
    "products of batches": lambda x: tf.matmul(
        x[0, :, :, 0], x[..., 0], transpose_b=True
    ),
    "moveaxis": lambda x: ops.moveaxis(x, 0, -1),
    "depth_to_space": lambda x: tf.nn.depth_to_space(tf.concat([x] * 4, -1), 2),
    "space_to_batch": lambda x: tf.space_to_batch(x, [1, 2], [[0, 0], [0, 0]]),
    "bias_add of channels": lambda x: tf.nn.bias_add(x, x[0, :, 0, 0], "NCHW"),
    "attention": lambda x: ops.dot_product_attention(x, x * 0.5, x),
    "grayscale": ops.image.rgb_to_grayscale,
    "pad_images": lambda x: ops.image.pad_images(x, 1, 1, 1, 1),
    "patches": lambda x: ops.image.extract_patches(x, 2),
    "resize": lambda x: tf.raw_ops.ResizeBilinear(images=x, size=[4, 9]),
    "depthwise": lambda x: tf.nn.depthwise_conv2d(
        x, tf.ones([2, 2, 3, 2], x.dtype), [1, 1, 1, 1], "SAME"
    ),
}
OF_A_SQUARE = {
    "solve": lambda x: ops.solve(x, x[:, :2]),
    "solve_triangular": lambda x: linalg.triangular_solve(x, x, False, True),
    "cholesky": ops.cholesky,
    "inverse": ops.inv,
    "slogdet": ops.slogdet,
    "eigenvalues": linalg.eigvalsh,
    "expm": lambda x: linalg.expm(x * 0.1),
    "set_diag": lambda x: linalg.set_diag(x, x[0] * 9),
}
LOOPS = {
    "reflect",
    "scatter",
    "tensor_scatter_nd_add",
    "boolean_mask",
    "reverse_sequence",
    "resize",
    "depthwise",
}
SURVEY = [
    pytest.param(function, tasks, name in LOOPS, id=name)
    for functions, tasks in (
        (OF_A_MATRIX, MATRIX),
        (OF_IMAGES, IMAGES),
        (OF_A_SQUARE, SQUARE),
    )
    for name, function in functions.items()
]


@pytest.mark.slow
@pytest.mark.parametrize(("function", "tasks", "loops"), SURVEY)
def test_an_operation_equals_the_loop_or_is_refused(function, tasks, loops):
    """TensorFlow wrote each form by hand; padding shows that one can be wrong."""
    expected = [tf.nest.flatten(function(task)) for task in tasks]
    if loops:
        with pytest.raises(ValueError, match="which has none"):
            at_once(function, tasks)
        return
    for index, found in enumerate(tf.nest.flatten(at_once(function, tasks))):
        wanted = np.stack([np.asarray(each[index]) for each in expected])
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
