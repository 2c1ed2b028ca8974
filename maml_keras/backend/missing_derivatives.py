"""Operations that TensorFlow cannot differentiate, refused by name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry, ops, registry

from maml_keras.backend.overrides import ScopedOverride
from maml_keras.backend.supplied_derivatives import SUPPLIED

# TensorFlow marks these operations as "not differentiable" and silently uses zero as
# their derivative, although it is not zero. `scripts/gradient_survey.py` lists all
# marked operations.
DROPPED = frozenset(
    {
        "CTCBeamSearchDecoder",
        "CTCGreedyDecoder",
        "DrawBoundingBoxes",
        "ExtractGlimpse",
        "FakeQuantWithMinMaxArgsGradient",
        "FakeQuantWithMinMaxVarsGradient",
        "FakeQuantWithMinMaxVarsPerChannelGradient",
        "HSVToRGB",
        "LinSpace",
        "OneHot",
        "ParameterizedTruncatedNormal",
        "PyFunc",
        "PyFuncStateless",
        "RaggedRange",
        "RandomCrop",
        "RandomShuffle",
        "Range",
        "ResizeBilinearGrad",
        "SparseAddGrad",
        "SparseConcat",
    }
)
# The registered derivative is wrong: it samples the upstream gradient with the inverse
# transform, but the transpose of a sampling is not a sampling.
INEXACT = frozenset({"ImageProjectiveTransformV2", "ImageProjectiveTransformV3"})


# Words in the names of operations that compute a gradient. Their derivative is a second
# derivative of the model.
_OF_A_GRADIENT = ("Grad", "Backprop")


class MissingDerivativeError(ValueError):
    """The gradient needs a derivative that TensorFlow does not have."""

    # Autograph, which `tf.vectorized_map` uses, would raise another error instead.
    ag_pass_through = True


@contextlib.contextmanager
def no_derivative_missing(name: Callable[[str], str]) -> Iterator[None]:
    """A scope in which a missing derivative raises an error that names the place.

    Without the scope, TensorFlow silently uses zero, gives NaN, or raises
    `LookupError: gradient registry has no entry for ...`, depending on the operation.
    The scope takes derivatives from `supplied_derivatives` if they are there.

    Args:
        name: function that maps the name scope of an operation to the part of the model
            that contains the operation, such as `"layer 'lrn' (LRN)"`.

    Raises:
        MissingDerivativeError: when a gradient that needs the derivative is built. The
            message names the place and the operation, and says what to do.

    >>> x = tf.ones([1, 1, 3])
    >>> with no_derivative_missing(lambda scope: "the example"):
    ...     with tf.GradientTape() as tape:
    ...         tape.watch(x)
    ...         y = tf.image.hsv_to_rgb(x)
    ...     try:
    ...         tape.gradient(y, x)
    ...     except MissingDerivativeError as error:
    ...         print(str(error)[:49])
    The gradient needs the derivative of the example,
    """
    with _lookups.scope(name), _ctc.scope(name):
        yield


def _looked_up(
    name: Callable[[str], str], original: Any, of: Any, operation: Any
) -> Any:
    """The registered derivative, or one that raises when it is used."""
    if of is not ops.gradient_registry:
        return original(of, operation)
    operation = tf.compat.as_str(operation)
    if operation in SUPPLIED:
        return SUPPLIED[operation]
    if operation in INEXACT or operation == "PreventGradient":
        return _refusal(name, operation)
    try:
        found = original(of, operation)
    except LookupError:
        # TensorFlow also looks up functions, and differentiates those without an entry.
        if op_def_registry.get(operation) is None:
            raise
        return _refusal(name, operation)
    if found is None and operation in DROPPED:
        return _refusal(name, operation)
    return found


def _refusal(name: Callable[[str], str], operation: str) -> Callable[..., Any]:
    def refuse(op: Any, *upstream: Any) -> Any:
        if isinstance(op, tf.Operation) and not _depends_on_inputs(op):
            return [None] * len(op.inputs)
        # A tape opens the scope of the operation; in a graph, its name holds the scope.
        scope = f"{tf.get_current_name_scope()}/{getattr(op, 'name', '')}"
        raise MissingDerivativeError(_sentence(name(scope), operation))

    return refuse


def _depends_on_inputs(op: tf.Operation) -> bool:
    """True if a derivative of a graph's inputs passes through the operation.

    To differentiate a function TensorFlow walks through all of its operations, those
    behind a `tf.stop_gradient` too.
    """
    found, known = [op], {op}
    for operation in found:
        for tensor in operation.inputs:
            source = tensor.op
            if tensor.dtype.is_integer or tensor.dtype.is_bool:
                continue
            if source.type == "Placeholder":
                return True
            if source.type != "StopGradient" and source not in known:
                known.add(source)
                found.append(source)
    return False


def _sentence(place: str, operation: str) -> str:
    if any(word in operation for word in _OF_A_GRADIENT):
        return (
            f"The second-order meta-gradient needs the second derivative of {place}, "
            f"and TensorFlow has none (operation {operation}). Use "
            "`meta_gradient=FirstOrder()`, which needs no second derivative, or "
            "replace the operation."
        )
    kind = "only an approximate" if operation in INEXACT else "no"
    return (
        f"The gradient needs the derivative of {place}, and TensorFlow has {kind} "
        f"derivative there (operation {operation}). Replace the operation. If the "
        "derivative should count as zero, put `tf.stop_gradient` around the result."
    )


def _ctc_loss(
    name: Callable[[str], str],
    original: Any,
    labels: Any,
    logits: Any,
    *rest: Any,
    **more: Any,
) -> Any:
    """CTC loss that raises for its second derivative, which is NaN in TensorFlow."""
    scope = tf.get_current_name_scope()
    refuse = _refusal(lambda _: name(scope), "CTCLossGrad")

    def last(upstream: Any) -> Any:
        return tf.identity(upstream), lambda _: refuse(None)

    def once(x: Any) -> Any:
        return tf.identity(x), tf.custom_gradient(last)

    logits = tf.custom_gradient(once)(tf.convert_to_tensor(logits))
    return original(labels, logits, *rest, **more)


_lookups = ScopedOverride(registry.Registry, "lookup", _looked_up)
_ctc = ScopedOverride(tf.nn, "ctc_loss", _ctc_loss)
