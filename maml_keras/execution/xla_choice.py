"""When XLA pays for itself, and how training goes on where XLA cannot compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Meta-steps from which on a compiled step has earned its compilation back. Compiling
# costs a time for each operation, and a compiled step saves a time for each operation,
# so the number hardly depends on the network. docs/performance.md has the measurement.
EARNED_BACK = 1000


def pays(steps: int | None) -> bool:
    """True if a training of so many meta-steps earns the compilation back.

    Args:
        steps: int, meta-steps of the whole training; None if the number is unknown,
            which counts as a long training.

    >>> pays(4), pays(70_000), pays(None)
    (False, True, True)
    """
    return steps is None or steps >= EARNED_BACK


def with_fallback(
    compiled: Callable[[Any], Any],
    plain: Callable[[], Callable[[Any], Any]],
    report: Callable[[Exception], None],
) -> Callable[[Any], Any]:
    """A training step that goes on without XLA if XLA refuses the first batch.

    The refused step has changed nothing, and its batch is used again.

    Args:
        compiled: a step under XLA, of a batch.
        plain: makes the step without XLA.
        report: called with the error of XLA.

    Returns:
        A step, of a batch.
    """
    chosen: list[Callable[[Any], Any]] = []

    def step(batch: Any) -> Any:
        if not chosen:
            try:
                result = compiled(batch)
            except tf.errors.OpError as error:
                if not refused_by_xla(error):
                    raise
                report(error)
                chosen.append(plain())
            else:
                chosen.append(compiled)
                return result
        return chosen[0](batch)

    return step


def refused_by_xla(error: Exception) -> bool:
    """True if the error says that XLA could not compile a function."""
    text = str(error)
    return any(word in text for word in ("XLA", "tf2xla", "xla_", "unsupported oper"))
