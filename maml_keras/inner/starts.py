"""Starts: the weights from which the inner loop starts."""

from __future__ import annotations

import abc
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.configured import Configured
from maml_keras.learner.learner import Learner

# The logit of a class without support examples, so low that softmax gives zero.
ABSENT = -1e9


class Start(Configured, abc.ABC):
    """Turns the initialisation and a task's support set into `phi_0`.

    >>> class Halved(Start):
    ...     def __call__(
    ...         self, learner, weights, state, x, y, weight=None, *, training
    ...     ):
    ...         return [0.5 * w for w in weights], state
    >>> import maml_keras as mk
    >>> type(mk.InnerLoop("mse", mk.SGD(0.1), start=Halved()).start_from).__name__
    'Halved'
    """

    @abc.abstractmethod
    def __call__(
        self,
        learner: Learner,
        weights: list[Any],
        state: list[Any],
        x: Any,
        y: Any,
        weight: Any = None,
        *,
        training: bool,
    ) -> tuple[list[Any], list[Any]]:
        """The weights `phi_0`, differentiable in `weights`, and the state.

        Args:
            learner: the model as a pure function.
            weights: list of tensors, the initialisation theta.
            state: list of tensors, the non-trainable variables.
            x: support inputs `[examples, ...]`.
            y: support targets `[examples, ...]`.
            weight: None, or weights of the support examples; zero for padding.
            training: bool, whether dropout is active.
        """

    def replaces(self, model: keras.Model) -> list[Any]:
        """The variables that the start sets for each task, adapting or not."""
        return []

    def check(self, model: keras.Model) -> None:
        """Refuses a model that the start does not fit."""

    @property
    def learned(self) -> keras.layers.Layer | None:
        """A layer whose weights the start learns in meta-training; None for none."""
        return None

    @property
    def frees_ways(self) -> bool:
        """True if an episode may have fewer classes than the model has outputs."""
        return False

    @property
    def needs_classes(self) -> bool:
        """True if the targets must be class numbers."""
        return self.frees_ways


@keras.saving.register_keras_serializable(package="maml_keras")
class Initialisation(Start):
    """The initialisation itself: `phi_0 = theta`."""

    def __call__(
        self,
        learner: Learner,
        weights: list[Any],
        state: list[Any],
        x: Any,
        y: Any,
        weight: Any = None,
        *,
        training: bool,
    ) -> tuple[list[Any], list[Any]]:
        return list(weights), list(state)


class HeadStart(Start):
    """The last layer is computed from the support set; the body starts as it is.

    The layer is a function of the features, so meta-training trains the body through
    it, and the layer's own initial weights are never used. The features are the inputs
    of the last layer, so the model must be Sequential or functional.
    """

    @abc.abstractmethod
    def weights_of(
        self, features: Any, y: Any, weight: Any = None, *, units: int
    ) -> tuple[Any, Any]:
        """The kernel `[features, units]` and the bias `[units]` of the layer.

        Args:
            features: float tensor `[examples, features]`.
            y: support targets `[examples, ...]`.
            weight: None, or weights of the support examples; zero for padding.
            units: int, outputs of the layer.
        """

    def __call__(
        self,
        learner: Learner,
        weights: list[Any],
        state: list[Any],
        x: Any,
        y: Any,
        weight: Any = None,
        *,
        training: bool,
    ) -> tuple[list[Any], list[Any]]:
        head = learner.model.layers[-1]
        features, after = learner.features(
            weights, state, x, training=training, weight=weight
        )
        kernel, bias = self.weights_of(features, y, weight, units=head.units)
        found = {id(head.kernel): kernel, id(head.bias): bias}
        # Adding zero times the replaced weights gives these weights a gradient (zero).
        started = [
            w if id(v) not in found else tf.cast(found[id(v)], w.dtype) + 0.0 * w
            for v, w in zip(learner.variables, weights)
        ]
        return started, learner.advance(state, after)

    def replaces(self, model: keras.Model) -> list[Any]:
        head = model.layers[-1]
        return [head.kernel, head.bias]

    def check(self, model: keras.Model) -> None:
        last = model.layers[-1]
        if not (
            isinstance(last, keras.layers.Dense)
            and last.use_bias
            and last.activation is keras.activations.linear
            and last.kernel.trainable
            and last.bias.trainable
        ):
            raise ValueError(
                f"{type(self).__name__} needs a model that ends in a trainable Dense "
                "layer with a bias and no activation. Received: "
                f"{type(last).__name__} '{last.name}' at the end of '{model.name}'."
            )


@keras.saving.register_keras_serializable(package="maml_keras")
class PrototypicalHead(HeadStart):
    """The last layer starts at the prototypes of the classes (ProtoMAML).

    `w_c = 2 p_c`, `b_c = -|p_c|^2`, with `p_c` the mean embedding of the support
    examples of class c. The logits are then the negative squared distances to the
    prototypes, up to a term that all classes share. Meta-training trains the
    embedding; the initial weights of the head are never used. Without inner steps this
    is a prototypical network (Snell et al., 2017).

    An episode may have any number of classes up to the units of the head, because a
    class without support examples gets no probability.

    Reference: Triantafillou et al., 2020, https://arxiv.org/abs/1903.03096; Snell et
    al., 2017, https://arxiv.org/abs/1703.05175

    >>> from maml_keras import SGD, InnerLoop
    >>> inner = InnerLoop("mse", SGD(0.1), start=PrototypicalHead())
    >>> PrototypicalHead().frees_ways  # An episode may have fewer classes than outputs.
    True
    """

    def weights_of(
        self, features: Any, y: Any, weight: Any = None, *, units: int
    ) -> tuple[Any, Any]:
        return prototypical_weights(features, y, weight, ways=units)

    @property
    def frees_ways(self) -> bool:
        return True


def prototypical_weights(
    features: Any, y: Any, weight: Any = None, *, ways: int
) -> tuple[Any, Any]:
    """The linear layer whose logits are distances to the classes' mean embeddings.

    `w_c = 2 p_c`, `b_c = -|p_c|^2`

    Args:
        features: float tensor `[examples, features]`.
        y: int tensor `[examples]`, values in `[0, ways)`.
        weight: None, or `[examples]`, for weighted means; zero for padding.
        ways: int, outputs of the layer.

    Returns:
        Kernel `[features, ways]` and bias `[ways]`.

    Reference: Triantafillou et al., 2020, https://arxiv.org/abs/1903.03096

    >>> kernel, bias = prototypical_weights(
    ...     tf.constant([[0.0], [2.0], [5.0]]), tf.constant([0, 0, 1]), ways=2)
    >>> kernel.numpy().ravel(), bias.numpy()
    (array([ 2., 10.], dtype=float32), array([ -1., -25.], dtype=float32))
    """
    absent = absent_logit(features.dtype)
    dtype = keras.backend.result_type(features.dtype, "float32")
    features = tf.cast(features, dtype)
    members = tf.one_hot(tf.cast(y, tf.int32), ways, dtype=dtype)
    if weight is not None:
        members *= tf.cast(weight, dtype)[:, None]
    counts = tf.reduce_sum(members, axis=0)
    sums = tf.linalg.matmul(features, members, transpose_a=True)
    prototypes = tf.math.divide_no_nan(sums, counts)
    bias = -tf.reduce_sum(tf.square(prototypes), axis=0)
    bias = tf.where(counts > 0.0, bias, tf.constant(absent, dtype))
    return 2.0 * prototypes, bias


def absent_logit(dtype: Any) -> float:
    """The logit of a class without support examples, for features of a type."""
    # Float16 does not reach -1e9, so use half of its range.
    return max(ABSENT, 0.5 * float(dtype.min))
