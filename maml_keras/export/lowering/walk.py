"""Walks through a graph and writes each operation again, replaced where needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry, ops

from maml_keras.export.lowering import (  # noqa: F401  These fill the table.
    convolution,
    cross_entropies,
    elementwise,
    pooling,
    shapes,
)
from maml_keras.export.lowering.table import TABLE
from maml_keras.export.lowering.values import (
    Node,
    NotLoweredError,
    is_known,
    shape_of,
    tensor,
    where_known,
)

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
LOOPS = ("StatelessWhile", "While")
BRANCHES = ("StatelessIf", "If")
# A result that is known, but larger than this and than what it is made from, is
# computed at run time, so that the file stays small.
KNOWN_NUMBERS = 4096


@dataclass(frozen=True)
class Resource:
    """A variable, table or other resource that the graph captures.

    Attributes:
        value: tensor or array, the value of a variable; None for other resources.
    """

    value: Any


@dataclass
class Walk:
    """One walk through a graph.

    Attributes:
        functions: the graph's functions by name.
        checks: conditions of the graph's own checks, found on the way. All must hold.
        assigned: by the id of a `Resource`, the value that the graph assigns to it.
        replaced: how often each operation was replaced.
    """

    functions: dict[str, Any]
    checks: list[Any] = field(default_factory=list)
    assigned: dict[int, Any] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    _in_loop: int = 0
    _made: dict[Any, Any] = field(default_factory=dict)

    def outputs(
        self, nodes: Any, given: dict[str, Any], wanted: list[str]
    ) -> list[Any]:
        """The values of some outputs of a graph.

        Args:
            nodes: `NodeDef` of the graph.
            given: values of the graph's inputs by name.
            wanted: references to outputs, such as `"add:0"`.
        """
        scope = _Scope(self, nodes, given)
        if not self._in_loop:
            for node in nodes:
                if node.op == "Assert":
                    self.checks.append(scope.value(_data_inputs(node)[0]))
                if node.op == "AssignVariableOp":
                    resource, value = map(scope.value, _data_inputs(node))
                    self.assigned[id(resource)] = value
        return [scope.value(reference) for reference in wanted]

    def call(self, name: str, inputs: list[Any]) -> list[Any]:
        """The outputs of one of the graph's functions."""
        function = self.functions[name]
        given = {a.name: v for a, v in zip(function.signature.input_arg, inputs)}
        wanted = [function.ret[o.name] for o in function.signature.output_arg]
        return self.outputs(function.node_def, given, wanted)

    def written(self, definition: Any, inputs: list[Any]) -> list[Any]:
        """The outputs of a node."""
        node = Node(definition, in_loop=bool(self._in_loop), made=self._made)
        operation = node.operation
        if operation == "Const":
            return [tf.make_ndarray(definition.attr["value"].tensor)]
        if operation == "ReadVariableOp":
            return [inputs[0].value]
        if operation in CALLS:
            return self.call(node.function("f"), inputs)
        if operation in LOOPS:
            return self._loop(node, inputs)
        if operation in BRANCHES:
            return self._branches(node, inputs)
        if operation == "Identity":
            return inputs
        if operation.startswith("CheckNumerics") and not is_known(inputs[0]):
            if not self._in_loop:
                self.checks.append(elementwise.all_finite(inputs[0]))
            return inputs
        if any(isinstance(v, Resource) for v in inputs):
            raise node.refused(
                "reads a table or another resource, which the file cannot hold. Use "
                "the SavedModel."
            )
        if inputs and all(map(is_known, inputs)):
            found = _computed(node, inputs)
            if found is not None:
                return found
        with where_known(inputs):
            return self._replaced(node, inputs)

    def _replaced(self, node: Node, inputs: list[Any]) -> list[Any]:
        entry = TABLE.get(node.operation)
        if entry is not None:
            try:
                found = entry(node, *inputs)
            except NotLoweredError:
                raise
            except Exception as error:
                raise node.refused(
                    f"has inputs that could not be replaced: {error}"
                ) from error
            if found is not NotImplemented:
                name = node.operation
                self.replaced[name] = self.replaced.get(name, 0) + 1
                found = found if isinstance(found, list) else [found]
                return [np.asarray(v) if is_known(v) else v for v in found]
        unchanged = _without_effect(node, inputs)
        return [unchanged] if unchanged is not None else _emitted(node, inputs)

    def _loop(self, node: Node, inputs: list[Any]) -> list[Any]:
        """A loop whose body is walked; what stays the same is not carried."""
        body = self.functions[node.function("body")]
        condition = node.function("cond")
        moving = [not same for same in _passed_through(body)]
        start = [tensor(v) for v, moves in zip(inputs, moving) if moves]

        def every(values: Any) -> list[Any]:
            carried = iter(values)
            return [next(carried) if m else v for m, v in zip(moving, inputs)]

        def step(*values: Any) -> list[Any]:
            after = self.call(body.signature.name, every(values))
            after = [tensor(v) for v, moves in zip(after, moving) if moves]
            for value, before in zip(after, start):
                value.set_shape(before.shape)
            return after

        def goes_on(*values: Any) -> Any:
            return tensor(self.call(condition, every(values))[0])

        self._in_loop += 1
        try:
            last = tf.while_loop(goes_on, step, start)
        finally:
            self._in_loop -= 1
        return every(last)

    def _branches(self, node: Node, inputs: list[Any]) -> list[Any]:
        condition, *values = inputs
        both = node.function("then_branch"), node.function("else_branch")
        if is_known(condition):
            return self.call(both[0] if condition else both[1], values)
        self._in_loop += 1
        try:
            found = tf.cond(
                condition,
                *(
                    lambda n=name: [tensor(v) for v in self.call(n, values)]
                    for name in both
                ),
            )
        finally:
            self._in_loop -= 1
        return list(found)


class _Scope:
    """The values of one graph or function, each computed when first asked for."""

    def __init__(self, walk: Walk, nodes: Any, given: dict[str, Any]) -> None:
        self._walk = walk
        self._nodes = {node.name: node for node in nodes}
        self._values = {name: [value] for name, value in given.items()}

    def value(self, reference: str) -> Any:
        """The value of `"node"`, `"node:0"` or `"node:output:0"`."""
        name, _, rest = reference.partition(":")
        self._compute(name)
        values = self._values[name]
        if not rest:
            return values[0]
        output, _, index = rest.rpartition(":")
        first = _first_of(self._nodes[name], output) if output else 0
        return values[first + int(index)]

    def _compute(self, name: str) -> None:
        # A stack of its own: a graph may be deeper than Python's.
        stack = [name]
        while stack:
            name = stack[-1]
            if name in self._values:
                stack.pop()
                continue
            node = self._nodes[name]
            inputs = _data_inputs(node)
            names = [reference.partition(":")[0] for reference in inputs]
            missing = [n for n in names if n not in self._values]
            if missing:
                stack += missing
                continue
            stack.pop()
            values = [self.value(reference) for reference in inputs]
            self._values[name] = self._walk.written(node, values)


def _data_inputs(node: Any) -> list[str]:
    return [reference for reference in node.input if not reference.startswith("^")]


def _first_of(node: Any, output: str) -> int:
    """The index of the first tensor of a named output."""
    index = 0
    for described in op_def_registry.get(node.op).output_arg:
        if described.name == output:
            return index
        if described.number_attr:
            index += node.attr[described.number_attr].i
        elif described.type_list_attr:
            index += len(node.attr[described.type_list_attr].list.type)
        else:
            index += 1
    raise KeyError(output)


def _passed_through(body: Any) -> list[bool]:
    """For each argument of a loop's body, whether the body returns it unchanged."""
    nodes = {node.name: node for node in body.node_def}

    def source(reference: str) -> str:
        name = reference.partition(":")[0]
        while name in nodes and nodes[name].op == "Identity":
            name = nodes[name].input[0].partition(":")[0]
        return name

    pairs = zip(body.signature.input_arg, body.signature.output_arg)
    return [source(body.ret[out.name]) == argument.name for argument, out in pairs]


def _attributes(node: Node) -> dict[str, Any]:
    pairs = node.definition.attr.items()
    return {name: value for name, value in pairs if not name.startswith("_")}


def _computed(node: Node, inputs: list[Any]) -> list[Any] | None:
    """The results of an operation of known inputs; None if they are too large."""
    definition = op_def_registry.get(node.operation)
    if definition is None or definition.is_stateful:
        return None
    with tf.Graph().as_default() as graph:
        made = graph._create_op_internal(
            node.operation,
            [tf.constant(value) for value in inputs],
            attrs=_attributes(node),
            op_def=definition,
        )
        sizes = [t.shape.num_elements() or 0 for t in made.outputs]
        if sum(sizes) > max(KNOWN_NUMBERS, *(np.size(v) for v in inputs)):
            return None
        with tf.compat.v1.Session(graph=graph) as session:
            return [np.asarray(value) for value in session.run(made.outputs)]


def _emitted(node: Node, inputs: list[Any]) -> list[Any]:
    definition = op_def_registry.get(node.operation)
    if definition is None:
        raise node.refused("is unknown to TensorFlow here. Import its package.")
    made = ops.get_default_graph()._create_op_internal(
        node.operation,
        [tensor(value) for value in inputs],
        attrs=_attributes(node),
        op_def=definition,
        name=node.name.rpartition("/")[2],
    )
    return list(made.outputs)


def _without_effect(node: Node, inputs: list[Any]) -> Any:
    """The input of an operation that changes nothing; else None."""
    if not inputs or is_known(inputs[0]):
        return None
    x, *more = inputs
    sizes = shape_of(x) if x.shape.rank is not None else [None]
    reduces = node.operation in ("Sum", "Mean", "Prod", "Max", "Min")
    if reduces and is_known(more[0]) and not np.size(more[0]):
        return x
    if node.operation in ("Reshape", "BroadcastTo") and is_known(more[0]):
        return x if list(more[0]) == sizes else None
    if node.operation == "Tile" and is_known(more[0]):
        return x if (np.asarray(more[0]) == 1).all() else None
    return None
