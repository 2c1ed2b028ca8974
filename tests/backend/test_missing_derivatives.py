"""A missing derivative is supplied, or raises an error that names the place."""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry

from maml_keras.backend.cross_entropy import exact_cross_entropy
from maml_keras.backend.missing_derivatives import (
    DROPPED,
    INEXACT,
    MissingDerivativeError,
    no_derivative_missing,
)
from maml_keras.backend.supplied_derivatives import SUPPLIED

SURVEY = runpy.run_path(
    str(Path(__file__).parents[2] / "scripts" / "gradient_survey.py")
)

# Operations that are rightly marked as not differentiable: the derivative is zero, or
# should count as zero, or the floats are sizes, keys, handles or counts.
RIGHTLY_ZERO = {
    "EditDistance",
    "GenerateBoundingBoxProposals",
    "LoadAndRemapMatrix",
    "LookupTableFind",
    "LookupTableFindV2",
    "OnesLike",
    "ReduceDataset",
    "SampleDistortedBoundingBox",
    "SampleDistortedBoundingBoxV2",
    "SdcaOptimizer",
    "SdcaOptimizerV2",
    "StackPush",
    "StatelessRandomBinomial",
    "StatelessRandomPoisson",
    "StopGradient",
    "TPUReplicatedInput",
    "TensorArrayGradV3",
    "TensorArrayGradWithShape",
    "XlaVariadicReduce",
    "ZerosLike",
}
# Operations without a second derivative in TensorFlow 2.21.
MISSING = {
    "BatchNormWithGlobalNormalizationGrad",
    "BlockLSTMGrad",
    "CropAndResizeGradBoxes",
    "CropAndResizeGradImage",
    "CudnnRNNBackprop",
    "CudnnRNNBackpropV2",
    "CudnnRNNBackpropV3",
    "Dilation2DBackpropFilter",
    "Dilation2DBackpropInput",
    "FractionalAvgPoolGrad",
    "FractionalMaxPoolGrad",
    "IgammaGradA",
    "LRNGrad",
    "ListDiff",
    "MaxPoolGradGradV2",
    "MaxPoolGradWithArgmax",
    "RandomGammaGrad",
    "ResizeBicubicGrad",
    "ResizeNearestNeighborGrad",
    "ScaleAndTranslateGrad",
    "SoftsignGrad",
    "SparseFillEmptyRowsGrad",
    "SparseSegmentMeanGrad",
    "SparseSegmentSqrtNGrad",
    "SparseSegmentSumGrad",
    "SparseSliceGrad",
    "XlaDynamicUpdateSlice",
}


def test_every_derivative_that_tensorflow_drops_is_refused_or_rightly_zero():
    # If a new name appears here, decide which of the two sets it belongs to.
    assert set(SURVEY["dropped"]()) == DROPPED | RIGHTLY_ZERO


def test_the_list_of_missing_second_derivatives_is_complete():
    # A new name here is refused already. Remove a name that TensorFlow has supplied.
    assert set(SURVEY["missing"]()) == MISSING


def test_supplied_derivatives_are_missing_in_tensorflow():
    assert not set(SUPPLIED) & set(gradient_registry.list())
    assert set(SUPPLIED) <= MISSING


# Supplied derivatives -----------------------------------------------------------------

X = np.random.default_rng(0).normal(size=[6, 4, 4, 2])
BOXES = np.array([[0.1, 0.15, 0.8, 0.9], [0.05, 0.2, 1.2, 0.7]])


def softsign(x):
    return tf.nn.softsign(x)


def crop(x):
    return tf.image.crop_and_resize(x, BOXES, [0, 3], [3, 5])


def crop_nearest(x):
    return tf.image.crop_and_resize(x, BOXES, [0, 3], [3, 5], method="nearest")


def pool(x):
    return tf.nn.max_pool_with_argmax(x, 2, 2, "VALID")[0]


def pool_of_batch(x):
    return tf.nn.max_pool_with_argmax(x, 2, 1, "SAME", include_batch_in_index=True)[0]


def segment_mean(x):
    return tf.sparse.segment_mean(x, [0, 2, 3, 3], [0, 0, 1, 1])


def segment_sqrt_n(x):
    return tf.sparse.segment_sqrt_n(x, [0, 2, 3, 5], [0, 0, 1, 1])


def segment_sum(x):
    return tf.sparse.segment_sum(x, [0, 2, 3, 3], [0, 0, 1, 2])


def gradient(function, x):
    """The gradient of a non-linear sum of the function's output."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(tf.sin(tf.cast(function(x), x.dtype)))
    return tf.convert_to_tensor(tape.gradient(value, x))


def second(function, x, along):
    """The gradient of the directional derivative along `along`."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        slope = tf.reduce_sum(gradient(function, x) * along)
    return tape.gradient(slope, x)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    "function",
    [
        softsign,
        crop,
        crop_nearest,
        pool,
        pool_of_batch,
        segment_mean,
        segment_sqrt_n,
        segment_sum,
    ],
)
def test_supplied_second_derivative_matches_differences(function, graph):
    x = tf.constant(X)
    generator = np.random.default_rng(1)
    along, moved = generator.normal(size=[2, *X.shape])
    call = tf.function(second) if graph else second
    with no_derivative_missing(str):
        found = float(tf.reduce_sum(call(function, x, along) * moved))
    # Crops are float32, whatever the image is.
    step, tolerance = (1e-3, 1e-3) if "crop" in function.__name__ else (1e-5, 1e-8)
    ends = [gradient(function, x + sign * step * moved) for sign in (1.0, -1.0)]
    expected = float(tf.reduce_sum((ends[0] - ends[1]) * along)) / (2 * step)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_second_derivative_of_a_crop_in_its_boxes_is_right():
    image = tf.constant(X, tf.float32)

    def gradient_of_image(boxes):
        with tf.GradientTape() as tape:
            tape.watch(image)
            crops = tf.image.crop_and_resize(image, boxes, [0, 3], [3, 5])
            value = tf.reduce_sum(tf.sin(crops))
        return tf.reduce_sum(tape.gradient(value, image) * X)

    moved = np.random.default_rng(1).normal(size=BOXES.shape).astype("float32")
    boxes = tf.constant(BOXES, tf.float32)
    with no_derivative_missing(str), tf.GradientTape() as tape:
        tape.watch(boxes)
        value = gradient_of_image(boxes)
        found = float(tf.reduce_sum(tape.gradient(value, boxes) * moved))
    step = 1e-3
    ends = [float(gradient_of_image(boxes + s * step * moved)) for s in (1, -1)]
    # float32 differences.
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), rtol=1e-2)


# Refused ------------------------------------------------------------------------------


def lrn(x):
    return tf.nn.local_response_normalization(x)


def resized_by_raw_operation(x):
    return tf.raw_ops.ResizeBilinear(images=x, size=[3, 5])


def quantised(x):
    return tf.quantization.fake_quant_with_min_max_args(x, -1.0, 1.0)


def ctc(x):
    logits = tf.reshape(x, [6, 8, 4])
    return keras.losses.CTC(reduction=None)(tf.constant([[1, 2]] * 6), logits)


def looped(x):
    return tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, lrn(y)), (0, x))[1]


def mapped(x):
    return tf.map_fn(lambda image: lrn(image[None])[0], x)


def within_a_function(x):
    return tf.function(lrn)(x)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lrn, "LRNGrad"),
        (looped, "LRNGrad"),
        (mapped, "LRNGrad"),
        (within_a_function, "LRNGrad"),
        (resized_by_raw_operation, "ResizeBilinearGrad"),
        (quantised, "FakeQuantWithMinMaxArgsGradient"),
        (ctc, "CTCLossGrad"),
    ],
)
def test_a_missing_second_derivative_is_refused(function, operation, graph):
    x = tf.constant(X, tf.float32)
    call = tf.function(second, autograph=False) if graph else second
    with no_derivative_missing(lambda scope: "layer 'a'"):
        gradient(function, x)  # The first derivative exists.
        with pytest.raises(
            MissingDerivativeError,
            match=f"second derivative of layer 'a', .*{operation}.*FirstOrder",
        ):
            call(function, x, tf.cast(X, x.dtype))


def numpy_sine(x):
    return tf.numpy_function(np.sin, [x], tf.float32)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (tf.random.shuffle, "no derivative there .operation RandomShuffle"),
        (lambda x: tf.image.hsv_to_rgb(x[..., :1] * [1.0, 1.0, 1.0]), "HSVToRGB"),
        (
            lambda x: keras.ops.image.affine_transform(
                x, np.array([1.0, 0.1, 0.2, 0.0, 1.0, 0.3, 0.0, 0.0], "float32")
            ),
            "only an approximate derivative there .operation ImageProjective",
        ),
        (lambda x: tf.function(numpy_sine)(x), "PyFunc"),
    ],
)
def test_a_dropped_first_derivative_is_refused(function, words, graph):
    x = tf.constant(X, tf.float32)
    call = tf.function(gradient, autograph=False) if graph else gradient
    with (
        no_derivative_missing(lambda scope: "layer 'a'"),
        pytest.raises(MissingDerivativeError, match=f"{words}.*stop_gradient"),
    ):
        call(function, x)


def test_a_stopped_gradient_is_zero_without_an_error():
    x = tf.constant(X, tf.float32)
    with no_derivative_missing(str):
        found = gradient(lambda x: tf.stop_gradient(tf.random.shuffle(x)) + 0 * x, x)
    assert not np.any(found)


def test_tensorflows_derivative_of_a_projective_transform_is_wrong():
    # If this test fails, TensorFlow was fixed, and INEXACT may be empty.
    assert set(gradient_registry.list()) >= INEXACT
    transform = np.array([1.0, 0.1, 0.2, 0.0, 1.0, 0.3, 0.0, 0.0], "float32")
    x, y = (tf.constant(a, tf.float32) for a in (X[:1], X[1:2]))
    with tf.GradientTape() as tape:
        tape.watch(x)
        moved = keras.ops.image.affine_transform(x, transform)
        product = tf.reduce_sum(moved * y)
    transposed = tf.reduce_sum(tape.gradient(product, x) * x)
    assert abs(float(product - transposed)) > 0.01 * abs(float(product))


def test_tensorflow_is_unchanged_outside_the_scope():
    before = tf.nn.ctc_loss
    with no_derivative_missing(str):
        pass
    with pytest.raises(LookupError, match="LRNGrad"):
        second(lrn, tf.constant(X, tf.float32), X)
    assert tf.nn.ctc_loss is before


# Cross-entropy ------------------------------------------------------------------------


def entropy(x):
    return tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(1.3 * x), x)


def test_cross_entropy_equals_the_value_in_tensorflow():
    logits = tf.constant(X)
    for axis in (-1, 1):
        labels = tf.nn.softmax(tf.constant(X[::-1]), axis)
        expected = tf.nn.softmax_cross_entropy_with_logits(labels, logits, axis)
        with exact_cross_entropy():
            got = tf.nn.softmax_cross_entropy_with_logits(labels, logits, axis)
        # float64, the same sums in another order.
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    half = tf.cast(logits, tf.float16)
    with exact_cross_entropy():
        got = tf.nn.softmax_cross_entropy_with_logits(tf.cast(labels, half.dtype), half)
    assert got.dtype == tf.float16


def differences_of_entropy():
    x = tf.constant(X)
    along, moved = np.random.default_rng(1).normal(size=[2, *X.shape])
    found = float(tf.reduce_sum(second(entropy, x, along) * moved))
    ends = [gradient(entropy, x + s * 1e-5 * moved) for s in (1.0, -1.0)]
    return found, float(tf.reduce_sum((ends[0] - ends[1]) * along)) / 2e-5


def test_second_derivative_of_soft_labels_is_right():
    with exact_cross_entropy():
        found, expected = differences_of_entropy()
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_tensorflows_own_second_derivative_of_soft_labels_is_wrong():
    # If this test fails, TensorFlow was fixed and `exact_cross_entropy` can be removed.
    found, expected = differences_of_entropy()
    assert abs(found - expected) > 0.01 * abs(expected)
