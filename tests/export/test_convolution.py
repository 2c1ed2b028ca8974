"""The derivatives of convolutions equal those of TensorFlow's own operations."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from lowered_operation import assert_same, draw, gradient, written

from maml_keras.export.lowering import NotLoweredError

KERNEL, INPUT = "Conv2DBackpropFilter", "Conv2DBackpropInput"


@pytest.mark.parametrize(
    ("padding", "stride"), list(itertools.product(["SAME", "VALID"], [1, 2, 3]))
)
def test_strides_of_odd_and_even_sizes(padding, stride):
    # Rows and columns differ, so an exchange of both would show.
    assert_same(
        gradient(lambda x, k: tf.nn.conv2d(x, k, stride, padding), [0, 1]),
        *(draw(2, 6, 7, 2), draw(3, 2, 2, 3)),
        fixed=[1],
        replaces=[KERNEL, INPUT],
    )


@pytest.mark.parametrize(("padding", "stride"), [("SAME", 1), ("VALID", [2, 3])])
def test_a_convolution_is_a_product_of_patches(padding, stride):
    assert_same(
        lambda x, k: tf.nn.conv2d(x, k, stride, padding),
        *(draw(2, 6, 7, 2), draw(3, 2, 2, 3)),
        fixed=[1],
        replaces=["Conv2D"],
    )


def test_a_convolution_with_large_patches_stays():
    specs = [tf.TensorSpec([None, 90, 90, 1]), tf.TensorSpec([3, 3, 1, 1])]
    _, _, replaced = written(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"), specs)
    assert "Conv2D" not in replaced


def test_layer_and_gradient_share_patches_which_are_made_before_the_loop():
    x = draw(2, 5, 6, 2)

    def function(x, kernel, steps):
        def body(k, kernel):
            with tf.GradientTape() as tape:
                tape.watch(kernel)
                loss = tf.reduce_sum(tf.tanh(tf.nn.conv2d(x, kernel, 2, "SAME")))
            return k + 1, kernel - 0.1 * tape.gradient(loss, kernel)

        return tf.while_loop(lambda k, w: k < steps, body, (0, kernel))[1]

    kernel = draw(3, 3, 2, 2)
    specs = [tf.TensorSpec([None, 5, 6, 2]), tf.TensorSpec(kernel.shape)]
    original, again, _ = written(function, [*specs, tf.TensorSpec([], tf.int32)])
    definition = again.graph.as_graph_def()
    before = [node.op for node in definition.node]
    inside = {n.op for f in definition.library.function for n in f.node_def}
    # Nine slices of one copy of the input.
    assert before.count("ConcatV2") == 1
    assert not {"ConcatV2", "Conv2D", "Conv2DBackpropFilter"} & inside
    arguments = tf.constant(x), tf.constant(kernel), tf.constant(2)
    np.testing.assert_allclose(again(*arguments)[0], original(*arguments), rtol=1e-4)


@pytest.mark.parametrize("padding", ["SAME", "VALID", [[0, 0], [2, 1], [0, 3], [0, 0]]])
def test_dilation_and_explicit_padding(padding):
    dilations = 2 if isinstance(padding, str) else 1
    assert_same(
        gradient(
            lambda x, k: tf.nn.conv2d(x, k, 1, padding, dilations=dilations), [0, 1]
        ),
        *(draw(2, 9, 8, 2), draw(3, 3, 2, 3)),
        fixed=[1],
        replaces=[KERNEL, INPUT],
    )


def test_a_kernel_that_is_smaller_than_its_stride():
    x, kernel = draw(2, 7, 7, 2), draw(1, 1, 2, 3)
    assert_same(
        gradient(lambda x, k: tf.nn.conv2d(x, k, 2, "SAME"), [0, 1]),
        *(x, kernel),
        fixed=[1],
        replaces=[KERNEL, INPUT],
    )


def test_padding_that_is_larger_than_the_kernel():
    padding = [[0, 0], [3, 4], [3, 3], [0, 0]]
    x, kernel = draw(2, 4, 4, 1), draw(2, 2, 1, 2)
    assert_same(
        gradient(lambda x: tf.nn.conv2d(x, kernel, 1, padding), [0]),
        x,
        replaces=[INPUT],
    )


def test_groups():
    # TensorFlow on CPUs has no derivative of a grouped convolution, so each group is
    # convolved alone.
    x, kernel = draw(2, 5, 6, 4), draw(3, 3, 2, 6)

    def upstream(x):
        return tf.cos(tf.nn.conv2d(x[..., :2], kernel[..., :3], 1, "SAME"))

    def both(x):
        return tf.concat([upstream(x), upstream(x)], -1)

    sizes = [3, 3, 2, 6]

    def grouped(x):
        return tf.raw_ops.Conv2DBackpropFilter(
            input=x,
            filter_sizes=sizes,
            out_backprop=both(x),
            strides=[1] * 4,
            padding="SAME",
        )

    def apart(x):
        return tf.concat(
            [
                tf.raw_ops.Conv2DBackpropFilter(
                    input=x[..., 2 * g : 2 * g + 2],
                    filter_sizes=[3, 3, 2, 3],
                    out_backprop=upstream(x),
                    strides=[1] * 4,
                    padding="SAME",
                )
                for g in range(2)
            ],
            -1,
        )

    spec = tf.TensorSpec([None, 5, 6, 4])
    _, again, replaced = written(grouped, [spec])
    assert replaced[KERNEL] == 1
    assert abs(again(tf.constant(x))[0] - apart(tf.constant(x))).numpy().max() < 1e-4


def test_channels_first_are_refused_by_name():
    def convolve(x, kernel):
        with tf.name_scope("model"), tf.name_scope("first"):
            return tf.nn.conv2d(x, kernel, 1, "SAME", data_format="NCHW")

    specs = [tf.TensorSpec([None, 2, 5, 6]), tf.TensorSpec([3, 3, 2, 3])]
    message = r"Conv2DBackprop\w+ of 'model/first' has channels first. Build the model"
    with pytest.raises(NotLoweredError, match=message):
        written(gradient(convolve, [0, 1]), specs)


def test_a_transposed_convolution():
    x, kernel = draw(2, 4, 5, 3), draw(3, 3, 2, 3)

    def convolve(x, kernel):
        shape = [tf.shape(x)[0], 8, 10, 2]
        return tf.nn.conv2d_transpose(x, kernel, shape, 2, "SAME")

    assert_same(lambda x: convolve(x, kernel), x, replaces=[INPUT])
    assert_same(
        gradient(lambda x, k: convolve(x, k), [0, 1]),
        *(x, kernel),
        fixed=[1],
        replaces=[KERNEL],
    )


@pytest.mark.parametrize(("padding", "stride"), [("SAME", 2), ("VALID", 1)])
def test_three_dimensions(padding, stride):
    x, kernel = draw(2, 4, 5, 4, 2), draw(2, 3, 2, 2, 3)
    strides = [1, stride, stride, stride, 1]
    assert_same(
        gradient(lambda x, k: tf.nn.conv3d(x, k, strides, padding), [0, 1]),
        *(x, kernel),
        fixed=[1],
        replaces=["Conv3DBackpropFilterV2", "Conv3DBackpropInputV2"],
    )


@pytest.mark.parametrize(
    ("padding", "stride", "dilation"),
    [("SAME", 1, 1), ("SAME", 2, 1), ("VALID", 3, 1), ("VALID", 1, 2)],
)
def test_depthwise(padding, stride, dilation):
    x, kernel = draw(2, 7, 6, 3), draw(3, 3, 3, 2)

    def convolve(x, kernel):
        return tf.nn.depthwise_conv2d(
            x, kernel, [1, stride, stride, 1], padding, dilations=[dilation] * 2
        )

    assert_same(
        gradient(lambda x, k: convolve(x, k), [0, 1]),
        *(x, kernel),
        fixed=[1],
        replaces=[
            "DepthwiseConv2dNativeBackpropFilter",
            "DepthwiseConv2dNativeBackpropInput",
        ],
    )
