"""Short recurrent layers as plain sequences of steps, without a loop in the graph."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.overrides import ScopedOverride

# The longest sequence that runs step by step. For longer sequences, building the graph
# costs more time than a loop in the graph.
LONGEST = 64


@contextlib.contextmanager
def unrolled() -> Any:
    """A scope in which short recurrent layers run without a loop in the graph.

    A loop over time inside a loop over tasks, differentiated twice, spends most of its
    time on bookkeeping, and has no form with a task axis. In this scope, sequences of
    up to 64 steps run step by step, with the same cell and the same numbers, if their
    length is known when the graph is built. Longer or masked sequences and stateful
    layers use Keras's loop. No layer uses kernels of cuDNN, because they have no
    second derivative.
    """
    with contextlib.ExitStack() as stack:
        for override in _overrides:
            stack.enter_context(override.scope())
        yield


def _inner_loop(
    value: None,
    original: Any,
    layer: keras.layers.RNN,
    sequences: Any,
    initial_state: Any,
    mask: Any,
    training: bool = False,
) -> Any:
    length = sequences.shape[1]
    if mask is not None or layer.stateful or length is None or length > LONGEST:
        return original(layer, sequences, initial_state, mask, training=training)
    options = {"training": training} if layer.cell._call_has_training_arg else {}
    states = tf.nest.flatten(initial_state) if not _stacked(layer) else initial_state
    outputs = []
    order = range(length)
    for t in reversed(order) if layer.go_backwards else order:
        output, states = layer.cell(sequences[:, t], states, **options)
        if not tf.nest.is_nested(states):
            states = [states]
        outputs.append(output)
    every = tf.stack(outputs, axis=1) if layer.return_sequences else outputs[-1]
    return outputs[-1], every, states


def _stacked(layer: keras.layers.RNN) -> bool:
    return isinstance(layer.cell, keras.layers.StackedRNNCells)


def _inherited(
    value: None,
    original: Any,
    layer: keras.layers.RNN,
    sequences: Any,
    initial_state: Any,
    mask: Any,
    training: bool = False,
) -> Any:
    """The loop of `RNN`; the loops of `LSTM` and `GRU` only try cuDNN first."""
    mask = mask[0] if tf.nest.is_nested(mask) else mask
    loop = keras.layers.RNN.inner_loop
    return loop(layer, sequences, initial_state, mask, training=training)


_overrides = [
    ScopedOverride(keras.layers.RNN, "inner_loop", _inner_loop),
    ScopedOverride(keras.layers.LSTM, "inner_loop", _inherited),
    ScopedOverride(keras.layers.GRU, "inner_loop", _inherited),
]
