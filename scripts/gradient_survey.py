"""Lists the operations whose derivative TensorFlow drops or does not have.

Two lists, made from TensorFlow's registries and the sources of its gradient functions:

- dropped: operations marked as not differentiable, although their inputs and outputs
  are floats. The derivative silently counts as zero.
- missing: operations that a gradient function of another operation emits, and that have
  no derivative themselves. A second derivative ends in a LookupError.

    python scripts/gradient_survey.py
"""

import importlib
import inspect
import pkgutil
import re

import tensorflow as tf
from tensorflow.core.framework import op_def_pb2, types_pb2
from tensorflow.python import ops as modules
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.framework.ops import gradient_registry

FLOATS = {types_pb2.DT_HALF, types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE}
# Calls in a gradient function: an operation's own wrapper, or one around it.
CALLS = re.compile(r"gen_\w+\.(\w+)\(|_ops\.(\w*(?:grad|backprop)\w*)\(")


def operations() -> dict[str, op_def_pb2.OpDef]:
    """The definition of every operation, by name."""
    found = op_def_pb2.OpList()
    every = pywrap_tf_session.TF_GetAllOpList()
    found.ParseFromString(pywrap_tf_session.TF_GetBuffer(every))
    return {definition.name: definition for definition in found.op}


def carries_floats(definition: op_def_pb2.OpDef) -> bool:
    """Whether inputs and outputs are floats, so that there could be a derivative."""

    def floating(argument: op_def_pb2.OpDef.ArgDef) -> bool:
        if argument.is_ref:  # A variable of TensorFlow 1.
            return False
        if argument.type:
            return argument.type in FLOATS
        name = argument.type_attr or argument.type_list_attr
        allowed = [
            a.allowed_values.list.type for a in definition.attr if a.name == name
        ]
        return any(not types or FLOATS & set(types) for types in allowed)

    return any(map(floating, definition.input_arg)) and any(
        map(floating, definition.output_arg)
    )


def dropped() -> list[str]:
    """Operations on floats that are marked as not differentiable."""
    known = operations()
    return sorted(
        name
        for name in gradient_registry.list()
        if name in known
        and gradient_registry.lookup(name) is None
        and carries_floats(known[name])
    )


def missing() -> dict[str, list[str]]:
    """Operations without a derivative, and the gradient functions that emit them."""
    known = operations()
    by_wrapper = {name.replace("_", "").lower(): name for name in known}
    found: dict[str, set[str]] = {}
    for module in pkgutil.walk_packages(modules.__path__, modules.__name__ + "."):
        if not module.name.endswith("_grad"):
            continue
        functions = inspect.getmembers(
            importlib.import_module(module.name), inspect.isfunction
        )
        for name, function in functions:
            if function.__module__ != module.name:
                continue
            for pair in CALLS.findall(inspect.getsource(function)):
                called = "".join(pair).replace("_", "").lower()
                operation = by_wrapper.get(called, "")
                if (
                    operation
                    and operation not in gradient_registry.list()
                    and carries_floats(known[operation])
                ):
                    found.setdefault(operation, set()).add(name)
    return {operation: sorted(found[operation]) for operation in sorted(found)}


def main() -> None:
    """Prints both lists."""
    print(f"TensorFlow {tf.__version__}")
    print("\nDropped in silence:")
    print("\n".join(f"  {name}" for name in dropped()))
    print("\nMissing, and the gradient functions that emit them:")
    for operation, functions in missing().items():
        print(f"  {operation}: {', '.join(functions)}")


if __name__ == "__main__":
    main()
