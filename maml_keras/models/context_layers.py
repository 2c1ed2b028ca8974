"""Layers with a few context parameters that adapt to a task (CAVIA)."""

from __future__ import annotations

import re
from typing import Any

import keras

# A pattern for the paths of context parameters, for the selector `matching`.
CONTEXT = r"/context$"


@keras.saving.register_keras_serializable(package="maml_keras")
class Zero(keras.constraints.Constraint):
    """Keeps a variable at zero, where context parameters start for each task."""

    def __call__(self, w: Any) -> Any:
        return keras.ops.zeros_like(w)


class ContextLayer(keras.layers.Layer):
    """A layer with context parameters, a vector that starts at zero.

    Let only these parameters adapt, with `matching("/context$")`. A constraint keeps
    them at zero in outer steps, so that no task influences the start of the next task.

    Args:
        size: int, positive, the number of context parameters.

    Raises:
        ValueError: if `size` is not positive.
    """

    # All operations of this layer accept a task axis.
    vectorizes = True

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if int(size) < 1:
            raise ValueError(f"`size` must be positive. Received: size={size}.")
        self.size = int(size)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Creates the context parameters."""
        self.context = self.add_weight(
            shape=[self.size], initializer="zeros", constraint=Zero(), name="context"
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(package="maml_keras")
class ContextInput(ContextLayer):
    """Appends context parameters to the features.

    `y = [x, context]`, `[examples, features] -> [examples, features + size]`

    Args:
        size: int, positive, the number of context parameters.

    Reference: Zintgraf et al., 2019, https://arxiv.org/abs/1810.03642

    >>> ContextInput(2)(np.ones([1, 3], "float32")).numpy()
    array([[1., 1., 1., 0., 0.]], dtype=float32)
    """

    def call(self, x: Any) -> Any:
        """The features, followed by the context."""
        # Products with rows of an identity replace a concatenation: XLA cannot give a
        # task axis to the second derivatives of concatenation and padding.
        identity = keras.ops.eye(x.shape[-1] + self.size, dtype=x.dtype)
        context = keras.ops.cast(self.context, x.dtype)[None]
        wide = keras.ops.matmul(x, identity[: x.shape[-1]])
        return wide + keras.ops.matmul(context, identity[x.shape[-1] :])[0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input shape with `size` more features."""
        return (*input_shape[:-1], input_shape[-1] + self.size)


@keras.saving.register_keras_serializable(package="maml_keras")
class ContextFilm(ContextLayer):
    """Scales and shifts channels by context parameters, for convolutional networks.

    `y = x * (1 + context @ scale) + context @ shift`

    Args:
        size: int, positive, the number of context parameters.

    Reference: Perez et al., 2018, https://arxiv.org/abs/1709.07871; Zintgraf et al.,
    2019, https://arxiv.org/abs/1810.03642, section 3.5

    >>> ContextFilm(2)(np.ones([1, 2], "float32")).numpy()  # The context is zero.
    array([[1., 1.]], dtype=float32)
    """

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        shape = [self.size, input_shape[-1]]
        self.scale = self.add_weight(shape=shape, name="scale")
        self.shift = self.add_weight(shape=shape, name="shift")

    def call(self, x: Any) -> Any:
        """The channels, scaled and shifted."""
        context = keras.ops.cast(self.context, x.dtype)[None]
        scale = keras.ops.matmul(context, keras.ops.cast(self.scale, x.dtype))[0]
        shift = keras.ops.matmul(context, keras.ops.cast(self.shift, x.dtype))[0]
        return x * (1.0 + scale) + shift

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the input."""
        return input_shape


def check_context(model: keras.Model) -> None:
    """Refuses a model without trainable context parameters.

    Raises:
        ValueError: if the model has no context parameters, or has frozen them.
    """
    if any(re.search(CONTEXT, v.path) for v in model.trainable_variables):
        return
    frozen = any(re.search(CONTEXT, v.path) for v in model.variables)
    raise ValueError(
        "`model` must hold a context layer that is not frozen. Model "
        f"'{model.name}' has {'a frozen one' if frozen else 'none'}: "
        + (
            "set `trainable = True` on the layer."
            if frozen
            else "use `models.mlp(context=5)`, or put a `ContextInput` or "
            "`ContextFilm` layer into your model."
        )
    )
