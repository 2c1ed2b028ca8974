"""Small objects that Keras saves by the arguments of their constructor."""

from __future__ import annotations

from typing import Any, TypeVar

import keras

Own = TypeVar("Own", bound="Configured")


class Configured:
    """The base of every part that is saved with a model.

    A subclass without arguments needs nothing more. A subclass with arguments overrides
    `get_config`: a dict of plain data by the names of the arguments. An argument that
    is an object, a function or a list of objects goes through
    `keras.saving.serialize_keras_object`. A class of your own also needs
    `keras.saving.register_keras_serializable`.
    """

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data; none by default."""
        return {}

    @classmethod
    def from_config(cls: type[Own], config: dict[str, Any]) -> Own:
        """The object that `get_config` described, with its parts rebuilt."""
        rebuilt = keras.saving.deserialize_keras_object
        return cls(**{name: rebuilt(value) for name, value in config.items()})
