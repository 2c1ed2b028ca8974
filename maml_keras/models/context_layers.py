"""Layers whose few context parameters tell a network which task it sees (CAVIA)."""

from __future__ import annotations

import re
from typing import Any

import keras

# The path of context parameters, to adapt them by.
CONTEXT = r"/context$"


@keras.saving.register_keras_serializable(package="maml_keras")
class Zero(keras.constraints.Constraint):
    """Keeps a variable at zero: context parameters start there for every task."""

    def __call__(self, w: Any) -> Any:
        return keras.ops.zeros_like(w)


class ContextLayer(keras.layers.Layer):
    """A layer with context parameters, a vector that starts at zero.

    Adapt it alone, with `matching("/context$")`. Outer optimizers keep it at zero, so
    that what is learned about one task is not kept for the next.

    Args:
        size: int, positive, how many parameters.

    Raises:
        ValueError: if `size` is not positive.
    """

    # Nothing here needs a layout of its own, so a task axis can be added.
    vectorizes = True

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if int(size) < 1:
            raise ValueError(f"`size` must be positive. Received: size={size}.")
        self.size = int(size)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Adds the context parameters."""
        self.context = self.add_weight(
            shape=[self.size], initializer="zeros", constraint=Zero(), name="context"
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(package="maml_keras")
class ContextInput(ContextLayer):
    """Context parameters appended to the features.

    `y = [x, context]`, `[examples, features] -> [examples, features + size]`

    Args:
        size: int, positive, how many parameters.

    Reference: Zintgraf et al., 2019, https://arxiv.org/abs/1810.03642

    >>> ContextInput(2)(np.ones([1, 3], "float32")).numpy()
    array([[1., 1., 1., 0., 0.]], dtype=float32)
    """

    def call(self, x: Any) -> Any:
        """The features with the context behind them."""
        # By products with rows of an identity: concatenation and padding have second
        # derivatives that XLA cannot give a task axis.
        places = keras.ops.eye(x.shape[-1] + self.size, dtype=x.dtype)
        context = keras.ops.cast(self.context, x.dtype)[None]
        wide = keras.ops.matmul(x, places[: x.shape[-1]])
        return wide + keras.ops.matmul(context, places[x.shape[-1] :])[0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The last axis is longer by `size`."""
        return (*input_shape[:-1], input_shape[-1] + self.size)


@keras.saving.register_keras_serializable(package="maml_keras")
class ContextFilm(ContextLayer):
    """Context parameters that scale and shift the channels, for convolutions.

    `y = x * (1 + context @ scale) + context @ shift`

    Args:
        size: int, positive, how many parameters.

    Reference: Perez et al., 2018, https://arxiv.org/abs/1709.07871; Zintgraf et al.,
    2019, https://arxiv.org/abs/1810.03642, section 3.5
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
        """That of the input."""
        return input_shape


def check_context(model: keras.Model) -> None:
    """Refuses a model without context parameters to adapt.

    Raises:
        ValueError: if it has none, or has frozen them.
    """
    if any(re.search(CONTEXT, v.path) for v in model.trainable_variables):
        return
    frozen = any(re.search(CONTEXT, v.path) for v in model.variables)
    raise ValueError(
        "`model` must hold a context layer that is not frozen. Model "
        f"'{model.name}' has {'a frozen one' if frozen else 'none'}: "
        + (
            "set its `trainable = True`."
            if frozen
            else "take `models.mlp(context=5)`, or put a `ContextInput` or "
            "`ContextFilm` into your own."
        )
    )
