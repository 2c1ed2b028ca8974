"""Counts the operations of one forward pass in its graph."""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf

from maml_keras.learner.learner import Learner


class Survey(NamedTuple):
    """The operations of one pass over one task's examples.

    Attributes:
        operations: names of the operation types, including those inside functions and
            loops.
        products: int, number of matrix products.
        largest: float, floating-point operations of the largest matrix product.
    """

    operations: frozenset[str]
    products: int
    largest: float


_seen: WeakKeyDictionary[Learner, dict[Any, Survey]] = WeakKeyDictionary()


def survey(learner: Learner, x: Any) -> Survey:
    """Surveys the learner's graph for inputs of a shape; each shape is traced once.

    A matrix product `[m, k] x [k, n]` counts `2 m k n` operations; a batch of products
    counts their sum. An unknown size counts as one.

    Args:
        learner: the model as a pure function.
        x: nest of tensors or `tf.TensorSpec`s, one task's inputs `[examples, ...]`.

    Returns:
        A `Survey`.
    """
    spec = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), x)
    key = tuple((tuple(t.shape), t.dtype.name) for t in tf.nest.flatten(spec))
    known = _seen.setdefault(learner, {})
    if key not in known:
        known[key] = _survey(learner, spec)
    return known[key]


def _survey(learner: Learner, spec: Any) -> Survey:
    def one_pass(weights: Any, state: Any, x: Any) -> Any:
        return learner(weights, state, x, training=True).predictions

    # The variables are arguments, so this trace takes nothing from a graph that is
    # being built, and nothing runs it. `tf.init_scope` would keep it out as well, but
    # pauses gradient tapes, and a model may differentiate in its `call`.
    specs = tf.nest.map_structure(
        lambda v: tf.TensorSpec(v.shape, v.dtype),
        (learner.variables, learner.state_variables),
    )
    traced = tf.function(one_pass, autograph=False)
    graph = traced.get_concrete_function(*specs, spec).graph
    operations = {node.op for node in nodes_of(graph)}
    products = [_product_size(op) for op in graph.get_operations()]
    products = [size for size in products if size]
    return Survey(frozenset(operations), len(products), max(products, default=0.0))


def nodes_of(graph: tf.Graph) -> list[Any]:
    """The nodes of a graph and of all functions that the graph calls."""
    definition = graph.as_graph_def()
    called = definition.library.function
    return [*definition.node, *(node for f in called for node in f.node_def)]


def _product_size(operation: Any) -> float:
    kind = operation.type
    if kind not in ("MatMul", "BatchMatMul", "BatchMatMulV2", "Einsum"):
        return 0.0
    sizes = [_sizes(t) for t in (*operation.inputs, operation.outputs[0])]
    if kind == "Einsum":
        equation = operation.get_attr("equation").decode().replace("...", "")
        left, out = equation.split("->")
        labels: dict[str, float] = {}
        for term, shape in zip([*left.split(","), out], sizes):
            labels.update(zip(reversed(term), reversed(shape)))
        return 2.0 * float(np.prod(list(labels.values())))
    transposed = operation.get_attr("transpose_a" if kind == "MatMul" else "adj_x")
    inner = sizes[0][-2 if transposed else -1]
    return 2.0 * float(np.prod(sizes[2])) * inner


def _sizes(tensor: Any) -> list[float]:
    return [float(n or 1) for n in tensor.shape]
