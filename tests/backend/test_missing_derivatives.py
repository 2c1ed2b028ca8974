"""A missing derivative is supplied, or raises an error that names the place."""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import curved_gradient, second_derivative
from tensorflow.python.framework.ops import gradient_registry

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


X = np.random.default_rng(0).normal(size=[6, 4, 4, 2])


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
    call = (
        tf.function(second_derivative, autograph=False) if graph else second_derivative
    )
    with no_derivative_missing(lambda scope: "layer 'a'"):
        curved_gradient(function, x)  # The first derivative exists.
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
    call = tf.function(curved_gradient, autograph=False) if graph else curved_gradient
    with (
        no_derivative_missing(lambda scope: "layer 'a'"),
        pytest.raises(MissingDerivativeError, match=f"{words}.*stop_gradient"),
    ):
        call(function, x)


def test_a_stopped_gradient_is_zero_without_an_error():
    x = tf.constant(X, tf.float32)
    with no_derivative_missing(str):
        found = curved_gradient(
            lambda x: tf.stop_gradient(tf.random.shuffle(x)) + 0 * x, x
        )
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
        second_derivative(lrn, tf.constant(X, tf.float32), X)
    assert tf.nn.ctc_loss is before


def test_supplied_derivatives_are_missing_in_tensorflow():
    assert not set(SUPPLIED) & set(gradient_registry.list())
    assert set(SUPPLIED) <= MISSING
