"""Batch normalisation with statistics, scale and offset of each inner step's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from maml_keras import normalisation
from maml_keras.batch_norm import BatchNormPolicy, LayerCall


class PerStep(BatchNormPolicy, keras.layers.Layer):
    """Each inner step k has its own moving statistics, scale and offset (MAML++).

    `y = (x - mean_k) / sqrt(variance_k + epsilon) * (gamma + gamma_k) + beta + beta_k`

    `gamma` and `beta` are the layer's own and adapt with the other weights; `gamma_k`
    and `beta_k` start at zero, are meta-learned and do not adapt. In training the
    statistics are the batch's, and move those of the step; in evaluation the step's
    moving statistics are used, so queries are predicted independently of each other.
    A step beyond those of training uses the last one's.

    Reference: Antoniou et al., 2019, https://arxiv.org/abs/1810.09502
    """

    name = "per_step"
    built: bool

    def __init__(self) -> None:
        keras.layers.Layer.__init__(self, name="per_step")
        # A function, because a layer would take an attribute for a part of itself.
        self._owners: Callable[[], list[Any]] = list

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return training

    def prepare(self, model: keras.Model, steps: int) -> None:
        layers = [
            layer
            for layer in model._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        if not self.built:
            for layer in layers:
                _check(layer)
            self._owners = lambda: layers
            self._last = steps
            self.tables = [self._tables(layer, steps + 1) for layer in layers]
            self.built = True
        elif list(map(id, self._owners())) != list(map(id, layers)):
            raise ValueError(
                "A `PerStep` policy belongs to the model that it was made for. Pass "
                "`batch_norm='per_step'` for a policy of its own."
            )

    def _tables(self, layer: Any, rows: int) -> dict[str, Any]:
        def table(name: str, start: Any, trainable: bool) -> Any:
            return self.add_weight(
                shape=[rows, layer.moving_mean.shape[0]],
                dtype=layer.moving_mean.dtype,
                # As many rows of what the layer came with.
                initializer=lambda shape, dtype: tf.zeros(shape, dtype) + start,
                trainable=trainable,
                name=f"{layer.name}_{name}",
            )

        tables = {
            "mean": table("mean", layer.moving_mean.value, False),
            "variance": table("variance", layer.moving_variance.value, False),
        }
        if layer.scale:
            tables["gamma"] = table("gamma", 0.0, layer.trainable)
        if layer.center:
            tables["beta"] = table("beta", 0.0, layer.trainable)
        return tables

    def fresh(self) -> PerStep:
        return PerStep()

    def learned(self) -> list[Any]:
        return list(self.trainable_variables)

    def statistics(self) -> list[Any]:
        return list(self.non_trainable_variables)

    def layer_call(self, *, batch_statistics: bool, step: Any) -> LayerCall:
        row = tf.minimum(tf.cast(step, tf.int32), self._last)

        def call(layer: Any, inputs: Any, mask: Any) -> Any:
            if mask is not None or layer.axis not in (-1, len(inputs.shape) - 1):
                raise ValueError(
                    "`batch_norm='per_step'` needs channels last and no mask. Layer "
                    f"'{layer.name}' has axis={layer.axis} and mask={mask}."
                )
            tables = next(
                t for owner, t in zip(self._owners(), self.tables) if owner is layer
            )
            dtype = keras.backend.result_type(inputs.dtype, "float32")
            x = tf.cast(inputs, dtype)

            def of_step(name: str, own: Any) -> Any:
                return tf.cast(own.value, dtype) + tf.cast(
                    tf.gather(tables[name].value, row), dtype
                )

            scale = of_step("gamma", layer.gamma) if layer.scale else None
            offset = of_step("beta", layer.beta) if layer.center else None
            if batch_statistics:
                y, mean, variance = normalisation.batch_normalised(
                    x, scale, offset, epsilon=layer.epsilon
                )
                for name, batch in (("mean", mean), ("variance", variance)):
                    _move(tables[name], row, batch, layer.momentum)
            else:
                mean, variance = (
                    tf.cast(tf.gather(tables[name].value, row), dtype)
                    for name in ("mean", "variance")
                )
                y = (x - mean) * tf.math.rsqrt(variance + layer.epsilon)
                y = y if scale is None else y * scale
                y = y if offset is None else y + offset
            return tf.cast(y, layer.compute_dtype)

        return call

    def folded(self, values: dict[int, Any], steps: Any) -> dict[int, Any]:
        row = tf.minimum(tf.cast(steps, tf.int32), self._last)
        values = dict(values)
        for layer, tables in zip(self._owners(), self.tables):
            own = {
                "mean": layer.moving_mean,
                "variance": layer.moving_variance,
                "gamma": layer.gamma,
                "beta": layer.beta,
            }
            for name, table in tables.items():
                of_step = tf.gather(values[id(table)], row)
                if name in ("gamma", "beta"):
                    of_step += values[id(own[name])]
                values[id(own[name])] = of_step
        return values


def _move(table: Any, row: Any, batch: Any, momentum: float) -> None:
    old = table.value
    new = (1.0 - momentum) * (tf.cast(batch, old.dtype) - tf.gather(old, row))
    # A product with one row of ones, because it vectorises over tasks.
    chosen = tf.one_hot(row, table.shape[0], dtype=old.dtype)
    table.assign(old + chosen[:, None] * new)


def _check(layer: Any) -> None:
    renorm = normalisation.renormalises(layer)
    if renorm or layer.synchronized:
        raise ValueError(
            "`batch_norm='per_step'` needs plain batch normalisation. Layer "
            f"'{layer.name}' has renorm={renorm}, "
            f"synchronized={layer.synchronized}. Take another policy."
        )
