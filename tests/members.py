"""The members that vary in a composition, by name, and how a test forgets a model."""

import contextlib
import functools
import gc

import keras
from tensorflow.python.framework import ops

import maml_keras as mk


@keras.saving.register_keras_serializable(package="tests")
def is_matrix(variable):
    return len(variable.shape) == 2


RULES = {
    "sgd": lambda: mk.SGD(0.1),
    "momentum": lambda: mk.Momentum(0.1, 0.5),
    "adam": lambda: mk.Adam(0.05, epsilon=1e-2),
    "meta_sgd": lambda: mk.MetaSGD(0.1),
    "per_step_sgd": lambda: mk.PerStepSGD(0.1),
    "meta_curvature": lambda: mk.MetaCurvature(0.1),
    "clip_by_norm": lambda: mk.ClipByNorm(mk.MetaSGD(0.1), 0.5),
    "clip_by_value": lambda: mk.ClipByValue(mk.SGD(0.1), 0.1),
}
SELECTORS = {
    "all": mk.all_weights,
    "last_layer": mk.last_layer,
    "all_but_last_layer": mk.all_but_last_layer,
    "all_but_batch_norm": mk.all_but_batch_norm,
    "matching": functools.partial(mk.matching, "kernel$"),
    "satisfying": functools.partial(mk.satisfying, is_matrix),
}
OBJECTIVES = {
    "final": mk.FinalStep,
    "multi_step": functools.partial(mk.MultiStep, epochs=3, steps_per_epoch=2),
}
ESTIMATORS = {
    "backprop": mk.Backprop,
    "first_order": mk.FirstOrder,
    "phases": lambda objective: mk.Phases(
        [mk.FirstOrder(objective), mk.Backprop(objective)], until=[100]
    ),
    "reptile": lambda objective: mk.Reptile(),
    "implicit": lambda objective: mk.Implicit(3),
}
STARTS = {
    "initialisation": lambda: None,
    "prototypes": mk.PrototypicalHead,
    "ridge": mk.RidgeHead,
}
# The maps that are compared with the eager loop over tasks.
MAPS = {
    "sequential_graph": lambda: "sequential",
    "parallel": lambda: "parallel",
    "vectorized": lambda: "vectorized",
    "chunked": lambda: mk.Chunked(1),
}
POLICIES = [
    "transductive",
    "inductive",
    "support",
    "beside",
    "running",
    "per_step",
    "per_step_running",
    "frozen",
]
# Layers before the head, on inputs `[3]`. The convolution has forms with a task axis.
BODIES = {
    "dense": lambda: [keras.layers.Dense(4, activation="tanh")],
    "convolution": lambda: [
        keras.layers.Reshape([3, 1]),
        keras.layers.Conv1D(4, 2, padding="same", activation="tanh"),
        keras.layers.MaxPooling1D(3),
        keras.layers.Flatten(),
    ],
}
LOOPS = {
    "kept": {},
    "rematerialized": {"rematerialize": True},
    "parts": {"batch_size": 2},
}


@contextlib.contextmanager
def forgotten():
    """A scope whose models and graphs are removed from memory at its end.

    TensorFlow never forgets the gradient of a traced `tf.custom_gradient`, nor its
    graph. Those of hundreds of models would fill the memory.
    """
    registered = ops.gradient_registry._registry
    before = set(registered)
    try:
        yield
    finally:
        for key in set(registered) - before:
            del registered[key]
        keras.utils.clear_session()
        gc.collect()
