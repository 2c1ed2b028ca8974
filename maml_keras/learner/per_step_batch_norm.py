"""Batch normalisation with a separate scale and offset for each inner step (MAML++)."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend import batch_norm
from maml_keras.learner.batch_norm_policy import BatchNormPolicy, LayerCall


class PerStepPolicy(BatchNormPolicy, keras.layers.Layer):
    """The base of both per-step policies: tables with a row for each inner step.

    A step beyond the steps of training uses the last row.
    """

    built: bool

    def __init__(self) -> None:
        keras.layers.Layer.__init__(self, name=self.name)
        # A function, because Keras would track a list attribute as sublayers.
        self._owners: Callable[[], list[Any]] = list

    def prepare(self, model: keras.Model, steps: int) -> None:
        layers = [
            layer
            for layer in model._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        if not self.built:
            for layer in layers:
                _check(layer, self.name)
            self._owners = lambda: layers
            self._last = steps
            self.tables = [self._tables(layer, steps + 1) for layer in layers]
            self.built = True
        elif list(map(id, self._owners())) != list(map(id, layers)):
            raise ValueError(
                f"A `{type(self).__name__}` policy belongs to the model that it was "
                f"made for. Pass `batch_norm='{self.name}'` to create a new policy."
            )
        for layer, tables in zip(layers, self.tables):
            # Creating a table as frozen would change its place in saved files, so the
            # table is frozen here.
            for name in tables.keys() & {"gamma", "beta"}:
                tables[name].trainable = layer.trainable

    def _tables(self, layer: Any, rows: int) -> dict[str, Any]:
        tables = {}
        if layer.scale:
            tables["gamma"] = self._table(layer, "gamma", rows, 0.0, trainable=True)
        if layer.center:
            tables["beta"] = self._table(layer, "beta", rows, 0.0, trainable=True)
        return tables

    def _table(
        self, layer: Any, name: str, rows: int, start: Any, trainable: bool
    ) -> Any:
        return self.add_weight(
            shape=[rows, layer.moving_mean.shape[0]],
            dtype=layer.moving_mean.dtype,
            # Each row starts at the value of the layer.
            initializer=lambda shape, dtype: tf.zeros(shape, dtype) + start,
            trainable=trainable,
            name=f"{layer.name}_{name}",
        )

    def fresh(self) -> PerStepPolicy:
        return type(self)()

    def learned(self) -> list[Any]:
        return list(self.trainable_variables)

    def statistics(self) -> list[Any]:
        return list(self.non_trainable_variables)

    def layer_call(self, *, batch_statistics: bool, step: Any) -> LayerCall:
        row = self._row(step)

        def call(layer: Any, inputs: Any, mask: Any) -> Any:
            if layer.axis not in (-1, len(inputs.shape) - 1):
                raise ValueError(
                    f"`batch_norm='{self.name}'` needs channels last. Received: layer "
                    f"'{layer.name}' with axis={layer.axis}. Use another policy, such "
                    "as 'transductive'."
                )
            tables = next(
                t for owner, t in zip(self._owners(), self.tables) if owner is layer
            )
            x = tf.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))

            def of_step(name: str, own: Any) -> Any:
                return tf.cast(own.value, x.dtype) + tf.cast(
                    tf.gather(tables[name].value, row), x.dtype
                )

            scale = of_step("gamma", layer.gamma) if layer.scale else None
            offset = of_step("beta", layer.beta) if layer.center else None
            by_batch = self._by_batch(layer, batch_statistics)
            if by_batch and mask is not None:
                mean, variance = batch_norm.masked_moments(x, mask)
                y = _normalised(mean, variance, x, scale, offset, layer.epsilon)
                self._move(layer, tables, row, mean, variance)
            elif by_batch:
                y, *batch = batch_norm.batch_normalised(
                    x, scale, offset, epsilon=layer.epsilon
                )
                self._move(layer, tables, row, *batch)
            else:
                moving = self._moving(layer, tables, row)
                y = _normalised(*moving, x, scale, offset, layer.epsilon)
            return tf.cast(y, layer.compute_dtype)

        return call

    @abc.abstractmethod
    def _by_batch(self, layer: Any, batch_statistics: bool) -> bool:
        """True if the layer normalises by the batch in this pass."""

    @abc.abstractmethod
    def _moving(self, layer: Any, tables: dict[str, Any], row: Any) -> tuple[Any, Any]:
        """Mean and variance, `[channels]`, for a pass without batch statistics."""

    @abc.abstractmethod
    def _move(
        self, layer: Any, tables: dict[str, Any], row: Any, mean: Any, variance: Any
    ) -> None:
        """Updates the moving statistics by the statistics of a batch."""

    def folded(self, values: dict[int, Any], steps: Any) -> dict[int, Any]:
        row = self._row(steps)
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

    def _row(self, step: Any) -> Any:
        return tf.minimum(tf.cast(step, tf.int32), self._last)


class PerStep(PerStepPolicy):
    """Each inner step k has its own scale and offset; each pass uses its own batch.

    `y = (x - mean) / sqrt(variance + epsilon) * (gamma + gamma_k) + beta + beta_k`

    `gamma` and `beta` belong to the layer, and adapt if the inner loop's selector
    chooses them. `gamma_k` and `beta_k` start at zero, are meta-learned and do not
    adapt. Mean and variance come from the batch, also in evaluation, as in the code
    behind the paper's figures. So the prediction of a query depends on the other
    queries of its task. A frozen layer normalises by its moving statistics.

    Reference: Antoniou et al., 2019, https://arxiv.org/abs/1810.09502

    >>> PerStep().uses_batch_statistics(training=False)
    True
    """

    name = "per_step"

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return True

    def _by_batch(self, layer: Any, batch_statistics: bool) -> bool:
        return bool(layer.trainable)

    def _moving(self, layer: Any, tables: dict[str, Any], row: Any) -> tuple[Any, Any]:
        return layer.moving_mean, layer.moving_variance

    def _move(
        self, layer: Any, tables: dict[str, Any], row: Any, mean: Any, variance: Any
    ) -> None:
        moving = layer.moving_mean, layer.moving_variance
        for variable, value in zip(moving, (mean, variance)):
            old = tf.cast(variable.value, value.dtype)
            variable.assign(old * layer.momentum + value * (1.0 - layer.momentum))


class PerStepRunning(PerStepPolicy):
    """Like `PerStep`, but evaluation uses separate moving statistics for each step.

    In training, each pass normalises by its batch and updates the moving statistics of
    its step. Evaluation uses these moving statistics, so each query is predicted
    independently of the other queries. The paper's text describes this policy.

    Inner steps in evaluation then differ from inner steps in training, where gradients
    flow through the statistics of the batch. Learning rates that suit training may
    diverge in evaluation.

    Reference: Antoniou et al., 2019, https://arxiv.org/abs/1810.09502

    >>> PerStepRunning().uses_batch_statistics(training=False)
    False
    """

    name = "per_step_running"

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return training

    def _tables(self, layer: Any, rows: int) -> dict[str, Any]:
        moving = {"mean": layer.moving_mean, "variance": layer.moving_variance}
        statistics = {
            name: self._table(layer, name, rows, own.value, trainable=False)
            for name, own in moving.items()
        }
        return {**statistics, **super()._tables(layer, rows)}

    def _by_batch(self, layer: Any, batch_statistics: bool) -> bool:
        return batch_statistics and bool(layer.trainable)

    def _moving(self, layer: Any, tables: dict[str, Any], row: Any) -> tuple[Any, Any]:
        mean, variance = (
            tf.gather(tables[name].value, row) for name in ("mean", "variance")
        )
        return mean, variance

    def _move(
        self, layer: Any, tables: dict[str, Any], row: Any, mean: Any, variance: Any
    ) -> None:
        for name, batch in (("mean", mean), ("variance", variance)):
            table = tables[name]
            old = table.value
            towards = tf.cast(batch, old.dtype) - tf.gather(old, row)
            # A product with a one-hot row vectorises over tasks.
            chosen = tf.one_hot(row, table.shape[0], dtype=old.dtype)
            table.assign(old + chosen[:, None] * (1.0 - layer.momentum) * towards)


def _normalised(
    mean: Any, variance: Any, x: Any, scale: Any, offset: Any, epsilon: float
) -> Any:
    mean, variance = (
        tf.cast(tf.convert_to_tensor(t), x.dtype) for t in (mean, variance)
    )
    y = (x - mean) * tf.math.rsqrt(variance + epsilon)
    y = y if scale is None else y * scale
    return y if offset is None else y + offset


def _check(layer: Any, name: str) -> None:
    renorm = batch_norm.renormalises(layer)
    if renorm or layer.synchronized:
        raise ValueError(
            f"`batch_norm='{name}'` needs plain batch normalisation. Received: layer "
            f"'{layer.name}' with renorm={renorm}, "
            f"synchronized={layer.synchronized}. Use another policy."
        )
