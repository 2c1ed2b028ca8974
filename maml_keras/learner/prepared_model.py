"""A network between a preparation's inputs and outputs, as an ordinary Keras model."""

from __future__ import annotations

from typing import Any

import keras

from maml_keras.data.preparation import Preparation


class _PreparationLayer(keras.layers.Layer):
    """A layer without weights that runs a part of a preparation.

    Args:
        preparation: the `Preparation`.
    """

    def __init__(self, preparation: Any, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        if not isinstance(preparation, Preparation):
            preparation = keras.saving.deserialize_keras_object(preparation)
        self.preparation = preparation
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""
        described = keras.saving.serialize_keras_object(self.preparation)
        return {"name": self.name, "preparation": described}


@keras.saving.register_keras_serializable(package="maml_keras")
class PreparedInputs(_PreparationLayer):
    """`x = preparation.inputs(raw_x)`."""

    def call(self, x: Any) -> Any:
        """The network's inputs of raw inputs."""
        return self.preparation.inputs(x)


@keras.saving.register_keras_serializable(package="maml_keras")
class RestoredOutputs(_PreparationLayer):
    """`y = preparation.restored(predictions)`."""

    def call(self, predictions: Any) -> Any:
        """Predictions in the unit of the raw targets."""
        return self.preparation.restored(predictions)


def around(network: keras.Model, preparation: Preparation | None) -> keras.Model:
    """A model that takes raw data and predicts in the unit of the raw targets.

    Args:
        network: a built model that takes prepared inputs.
        preparation: the preparation; None for the network itself.

    Returns:
        A functional `keras.Model` with the layers `prepared`, the network, and
        `restored`.
    """
    if preparation is None:
        return network
    inputs = keras.tree.map_structure_up_to(
        preparation.x_spec,
        lambda spec, name: keras.Input(
            spec.shape[1:], dtype=spec.dtype.name, name=name
        ),
        preparation.x_spec,
        _names(preparation.x_spec),
    )
    prepared = PreparedInputs(preparation, name="prepared")(inputs)
    outputs = RestoredOutputs(preparation, name="restored")(network(prepared))
    return keras.Model(inputs, outputs, name=f"{network.name}_prepared")


def _names(spec: Any) -> Any:
    """A name for each input; an input layer's name has no slash."""
    paths = keras.tree.flatten_with_path(spec)
    names = ["_".join(map(str, path)).replace("/", "_") or "x" for path, _ in paths]
    return keras.tree.pack_sequence_as(spec, names)
