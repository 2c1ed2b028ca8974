"""`TextPreparation`: texts as a network's tokens, inside the model."""

from __future__ import annotations

from typing import Any, final

import keras
import numpy as np
import tensorflow as tf

from maml_keras.data.pool_preparation import PoolPreparation, class_numbers
from maml_keras.data.preparation import check_rows

# Words that the card shows.
SHOWN = 10


@final
@keras.saving.register_keras_serializable(package="maml_keras")
class TextPreparation(PoolPreparation):
    """Looks words up, so that the model and its export take strings.

    The words are looked up outside the network, because a string has no gradient. Texts
    of a call are padded to the longest of them: `mk.data.check_padding` tests that a
    network does not depend on it.

    Args:
        lookup: a `keras.layers.TextVectorization` that was fitted on texts of training,
            as `from_series(texts, y, lookup=lookup)` takes it.

    Raises:
        ValueError: if the layer is not fitted, gives no list of tokens, or has a
            function of its own, which a file cannot hold.

    >>> words = keras.layers.TextVectorization()
    >>> words.adapt(["rain and wind"])
    >>> preparation = TextPreparation(words)
    >>> tokens = preparation.inputs(tf.constant(["wind", "wind and rain"])).numpy()
    >>> tokens.shape, int(tokens[0, 0]) == int(tokens[1, 0]), tokens[0, 1:].tolist()
    ((2, 3), True, [0, 0])
    """

    def __init__(self, lookup: keras.layers.TextVectorization) -> None:
        self._config = _plain(lookup)
        with tf.init_scope(), tf.device("CPU:0"):
            self._lookup = keras.layers.TextVectorization.from_config(self._config)
        self.x_spec = tf.TensorSpec([None], tf.string)

    @property
    def changes_the_pool(self) -> bool:
        """False: a pool holds the tokens already."""
        return False

    def inputs(self, x: Any) -> Any:
        """Tokens `[texts, words]`, int32, of strings `[texts]`; 0 is padding."""
        tokens = tf.cast(self._lookup(x), tf.int32)
        empty = tf.reduce_all(tokens == 0, axis=1)
        x = check_rows(empty, x, "text", "a word in each row")
        with tf.control_dependencies([x]):
            return tf.identity(tokens)

    def is_raw(self, x: Any) -> bool:
        """Whether the inputs are strings; tokens are prepared already."""
        return bool(tf.as_dtype(np.asarray(x).dtype) == tf.string)

    def raw(self, x: Any, y: Any = None) -> tuple[Any, Any]:
        """Texts and class numbers, checked.

        Args:
            x: strings `[examples]`.
            y: class numbers `[examples]`, or None.

        Raises:
            ValueError: if `x` is no list of strings.
        """
        texts = np.asarray(x)
        if texts.ndim != 1 or tf.as_dtype(texts.dtype) != tf.string:
            raise ValueError(
                "`x` must be strings, [examples]. Received: "
                f"{texts.dtype} of shape {texts.shape}. Pass the texts as they are: "
                "the model looks the words up itself."
            )
        return texts.astype(object), class_numbers(y)

    def check(self, pool: Any) -> None:
        """Refuses a pool whose examples are no tokens of this vocabulary.

        Raises:
            ValueError: if the examples are no tokens, or one is too large.
        """
        x, words = pool.examples, self._lookup.vocabulary_size()
        tokens = not isinstance(x, dict) and x.ndim == 2 and x.dtype.kind in "iu"
        if not tokens or np.max(x) >= words:
            raise ValueError(
                f"The pool must hold tokens below {words} [n, words]. Received: "
                f"{pool!r}. Make it with `from_series(texts, y, lookup=lookup)` and "
                "the same layer."
            )

    def tables(self) -> list[Any]:
        """The lookup table that a SavedModel must hold."""
        return [self._lookup._lookup_layer.lookup_table]

    def described(self) -> dict[str, Any]:
        """Facts for the card."""
        words = self._config["vocabulary"]
        return {"texts": f"strings of {len(words)} known words", "words": words[:SHOWN]}

    def get_config(self) -> dict[str, Any]:
        """The layer as plain data."""
        return {"lookup": self._config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TextPreparation:
        """The preparation that `get_config` described."""
        return cls(keras.layers.TextVectorization.from_config(config["lookup"]))


def _plain(lookup: Any) -> dict[str, Any]:
    """The configuration of a layer, with the vocabulary that it was fitted to."""
    if not isinstance(lookup, keras.layers.TextVectorization):
        raise ValueError(
            "`lookup` must be a keras.layers.TextVectorization. Received: "
            f"{type(lookup).__name__}. For lists of words, join them with spaces."
        )
    config = {**lookup.get_config()}
    config["vocabulary"] = [
        str(word) for word in lookup.get_vocabulary(include_special_tokens=False)
    ]
    del config["name"]
    own = [key for key in ("standardize", "split") if callable(config[key])]
    ragged = config.get("ragged") or config["output_mode"] != "int"
    if own or ragged or not config["vocabulary"]:
        came = (
            f"a function of your own for {own[0]}"
            if own
            else "a layer of ragged or other outputs"
            if ragged
            else "a layer that was not fitted"
        )
        raise ValueError(
            "`lookup` must be a fitted layer of tokens that a file can hold. Received: "
            f"{came}. Use output_mode='int' and the standardisation by name, and call "
            "`lookup.adapt(texts)` on texts of training."
        )
    return config
