"""The bytes that a graph's tensors hold at once, found without running the graph."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# Operations whose output is their input under another name or shape.
_RENAMES = frozenset(
    "EnsureShape ExpandDims Identity IdentityN PreventGradient Reshape Squeeze "
    "StopGradient".split()
)
# Operations whose output is no memory of a step: weights and constants are counted
# apart, and shapes are a few bytes.
_HOLDS_NOTHING = frozenset("Const Placeholder ReadVariableOp Shape VarHandleOp".split())
# Operations that write into the memory of an input that nothing else needs.
_IN_PLACE = frozenset(
    "Add AddN AddV2 BiasAdd Cast Div Elu EluGrad Exp Log Maximum Minimum Mul Neg Pow "
    "RealDiv Relu ReluGrad Rsqrt RsqrtGrad SelectV2 Sigmoid SigmoidGrad Softmax "
    "Softplus SoftplusGrad Sqrt Square SquaredDifference Sub Tanh TanhGrad".split()
)
_CALLS = {
    "PartitionedCall": ["f"],
    "StatefulPartitionedCall": ["f"],
    "If": ["then_branch", "else_branch"],
    "StatelessIf": ["then_branch", "else_branch"],
    "While": ["body"],
    "StatelessWhile": ["body"],
}


def live_bytes(graph: Any, *, iterations: int) -> int:
    """The most bytes that a graph's tensors hold at the same time, without its inputs.

    The operations run in the order in which they were traced: forward, then backward.
    A tensor lives from the operation that makes the tensor to the last operation that
    uses the tensor, so a forward activation lives until its derivative is taken.

    Args:
        graph: a `FuncGraph` with known shapes; an unknown size counts as one.
        iterations: int, iterations of each loop of the graph, which keeps the lists of
            one tensor for each iteration.

    Returns:
        Int, bytes.

    >>> @tf.function(input_signature=[tf.TensorSpec([1000])])
    ... def chain(x):  # Each square is forgotten once the next square is known.
    ...     return tf.reverse(tf.reverse(tf.reverse(x, [0]), [0]), [0])
    >>> live_bytes(chain.get_concrete_function().graph, iterations=1)
    8000
    """
    operations = _needed(graph)
    buffers = _Buffers(operations, graph.outputs)
    live = most = 0
    for index, operation in enumerate(operations):
        inside, kept = _inside(operation, iterations)
        made = [b for b in buffers.made(operation) if b not in buffers.live]
        if operation.type in _IN_PLACE and made:
            live -= buffers.given_away(operation, index, buffers.sizes[made[0]])
        for buffer in made:
            buffers.live.add(buffer)
            live += buffers.sizes[buffer]
        if kept:
            live += buffers.keep(operation, kept)
        most = max(most, live + inside)
        live -= buffers.released(index)
    return most


class _Buffers:
    """The memory behind the tensors of a graph, with the last use of each piece."""

    def __init__(self, operations: list[Any], outputs: list[Any]) -> None:
        self.sizes: list[int] = []
        self.live: set[int] = set()
        self._of: dict[str, int] = {}
        self._last: dict[int, int] = {}
        for index, operation in enumerate(operations):
            for tensor in operation.inputs:
                self._last[self._of[tensor.name]] = index
            for position, tensor in enumerate(operation.outputs):
                if operation.type in _RENAMES:
                    self._of[tensor.name] = self._of[operation.inputs[position].name]
                    continue
                nothing = operation.type in _HOLDS_NOTHING
                size = 0 if nothing else size_of(tensor)
                self._of[tensor.name] = self._new(size, index)
        for tensor in outputs:
            self._last[self._of[tensor.name]] = len(operations)
        self._ending: dict[int, list[int]] = {}
        for buffer, index in self._last.items():
            self._ending.setdefault(index, []).append(buffer)

    def _new(self, size: int, index: int) -> int:
        buffer = len(self.sizes)
        self.sizes.append(size)
        self._last[buffer] = index
        return buffer

    def made(self, operation: Any) -> list[int]:
        """The pieces of memory behind the outputs of an operation."""
        return [self._of[tensor.name] for tensor in operation.outputs]

    def given_away(self, operation: Any, index: int, size: int) -> int:
        """Ends one input that fits the output and has no other use; its bytes."""
        for tensor in operation.inputs:
            buffer = self._of[tensor.name]
            fits = buffer in self.live and self.sizes[buffer] == size
            if fits and self._last[buffer] == index:
                self.live.discard(buffer)
                return size
        return 0

    def keep(self, operation: Any, size: int) -> int:
        """Holds the lists of a loop as long as any list that the loop returns."""
        lists = [t for t in operation.outputs if t.dtype == tf.variant]
        if not lists:
            return 0
        last = max(self._last[self._of[t.name]] for t in lists)
        buffer = self._new(size, last)
        self._ending.setdefault(last, []).append(buffer)
        self.live.add(buffer)
        return size

    def released(self, index: int) -> int:
        """Ends the pieces whose last use is here; the bytes of all together."""
        ended = [b for b in self._ending.get(index, []) if b in self.live]
        self.live.difference_update(ended)
        return sum(self.sizes[b] for b in ended)


def size_of(tensor: Any) -> int:
    """The bytes of a tensor or a `tf.TensorSpec`; an unknown size counts as one."""
    if tensor.dtype in (tf.resource, tf.variant, tf.string):
        return 0
    size = int(tensor.dtype.size)
    for length in tensor.shape if tensor.shape.rank is not None else []:
        size *= 1 if length is None else int(length)
    return size


def _needed(graph: Any) -> list[Any]:
    """The operations on which the outputs depend; TensorFlow runs no others.

    Their order is that of tracing. A loop that is differentiated later takes inputs
    that were traced after the loop: these come first.
    """
    found: dict[str, Any] = {}
    positions = {o.name: i for i, o in enumerate(graph.get_operations())}
    waiting = [t.op for t in graph.outputs]
    while waiting:
        operation = waiting.pop()
        if operation.name not in found:
            found[operation.name] = operation
            waiting += _sources(operation)
    ordered: dict[str, Any] = {}
    waiting = sorted(found.values(), key=lambda o: -positions[o.name])
    while waiting:
        operation = waiting[-1]
        missing = [o for o in _sources(operation) if o.name not in ordered]
        waiting += missing
        if not missing:
            ordered.setdefault(operation.name, waiting.pop())
    return list(ordered.values())


def _sources(operation: Any) -> list[Any]:
    return [*(t.op for t in operation.inputs), *operation.control_inputs]


def _called(operation: Any) -> list[Any]:
    """The graphs of the functions that an operation calls."""
    names = [operation.get_attr(key).name for key in _CALLS.get(operation.type, [])]
    return [operation.graph._get_function(name).graph for name in names]


def _inside(operation: Any, iterations: int) -> tuple[int, int]:
    """Bytes that live inside a call only, and bytes that a loop keeps in lists."""
    graphs = _called(operation)
    if not graphs:
        return 0, 0
    inside = max(live_bytes(graph, iterations=iterations) for graph in graphs)
    if "While" not in operation.type:
        return max(0, inside - sum(map(size_of, operation.outputs))), 0
    pushed = (
        size_of(o.inputs[1])
        for o in graphs[0].get_operations()
        if o.type == "TensorListPushBack"
    )
    return inside, iterations * sum(pushed)
