"""Compares the files of a learner with the SavedModel that they were made from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.export import reading
from maml_keras.export.learner_formats import Run
from maml_keras.export.learner_functions import LearnerFunctions

STEPS = (0, 1, 3)
# Numbers of support examples and queries.
SIZES = ((6, 4), (3, 2))
# By this part of the largest prediction the steps must change the predictions: a
# comparison of weights that hardly move would prove nothing.
MOVES = 0.01
# Numbers beyond this one are compared each with itself.
LARGE = 1e6
RATES = 10.0 ** np.arange(0.0, 7.0)

Task = dict[str, np.ndarray[Any, Any]]


class Comparison:
    """The largest differences between files and SavedModel on random tasks.

    `max |file - SavedModel| / max |SavedModel|`, over all predictions, and over all
    adapted weights together.

    Args:
        saved: the export, as `tf.saved_model.load` returns it. Afterwards, its weights
            are the initialisation again.
        functions: its functions, with the sizes of the files.
        run: runs a function of the files, as `LearnerFormat.open` returns it.
        stateful: bool, whether the files have `serve`, `fine_tune` and `reset`.
    """

    def __init__(
        self, saved: Any, functions: LearnerFunctions, run: Run, *, stateful: bool
    ) -> None:
        self._saved, self._functions, self._run = saved, functions, run
        self._stateful = stateful
        self.learning_rate = float(functions.defaults()["learning_rate"])

    def differences(self) -> dict[int, float]:
        """The largest difference by the number of steps."""
        worst = dict.fromkeys(STEPS, 0.0)
        for number, sizes in enumerate(self._sizes()):
            task = self._task(number, *sizes)
            if not number:
                self.learning_rate = self._rate(task)
            for steps in STEPS:
                found = [_relative(*pair) for pair in self._pairs(task, steps)]
                # The largest, or NaN if one of them is.
                worst[steps] = float(np.max([worst[steps], *found]))
        return worst

    def _pairs(self, task: Task, steps: int) -> Iterator[tuple[Any, Any]]:
        """What a function of the files answers, and what the SavedModel answers."""
        how = {
            "steps": np.int32(steps),
            "learning_rate": np.float32(self.learning_rate),
        }
        support = {k: v for k, v in task.items() if k.startswith("support_")}
        asked = {
            k.removeprefix("query_"): v for k, v in task.items() if k not in support
        }
        expected = self.answer("adapt_and_predict", **task, **how)
        yield self._run("adapt_and_predict", **task, **how), expected
        weights = self._run("adapt", **support, **how)
        yield weights, self.answer("adapt", **support, **how)
        yield self._run("predict_with", **weights, **asked, **how), expected
        if not self._stateful:
            return
        tuned = {k.removeprefix("support_"): v for k, v in support.items()} | how
        # Next to 1, because a loss that is close to 0 has hardly a digit in float32.
        one = {"one": np.float32(1)}
        yield (
            self._run("fine_tune", **tuned) | one,
            self.answer("fine_tune", **tuned) | one,
        )
        yield self._run("serve", **asked), self.answer("serve", **asked)
        self._run("reset")
        self._saved.reset()
        yield self._run("serve", **asked), self.answer("serve", **asked)

    def answer(self, name: str, **arrays: Any) -> dict[str, Any]:
        """What a function of the SavedModel returns, by the names of its outputs."""
        function = getattr(self._saved, name).concrete_functions[0]
        specs = tf.nest.flatten(function.structured_input_signature)
        values = [tf.constant(arrays[spec.name], spec.dtype) for spec in specs]
        positional, _ = tf.nest.pack_sequence_as(
            function.structured_input_signature, values
        )
        with reading.graph_errors_as_value_errors():
            found = getattr(self._saved, name)(*positional)
        flat = [np.asarray(value) for value in tf.nest.flatten(found)]
        return dict(zip(self._functions.outputs(name), flat, strict=True))

    def _rate(self, task: Task) -> float:
        """A learning rate at which the steps change the predictions, and stay finite.

        The default rate, unless it is too small or too large for random tasks.
        """
        own = self.learning_rate
        usual = abs(own) if own > 0 else 0.01
        rates = [own, *(usual * RATES[1:]), *(usual / RATES[1:])]
        for rate in rates:
            how = {"learning_rate": np.float32(rate)}
            try:
                first, last = (
                    self.answer("adapt_and_predict", **task, steps=steps, **how)
                    for steps in (0, STEPS[-1])
                )
            except ValueError:  # Adaptation has diverged.
                continue
            if _relative(last, first) > MOVES:
                return float(rate)
        return own

    def _sizes(self) -> list[tuple[int, int]]:
        """The sizes to compare at; a size that the files fix is the only one."""
        specs = {s.name: s.shape for s in self._functions.specs("adapt_and_predict")}
        fixed = [
            next(shape[0] for name, shape in specs.items() if name.startswith(part))
            for part in ("support_", "query_")
        ]
        chosen = [
            tuple(own or size for own, size in zip(fixed, sizes)) for sizes in SIZES
        ]
        return list(dict.fromkeys(chosen))  # type: ignore[arg-type]

    def _task(self, seed: int, support: int, query: int) -> Task:
        """Random inputs and random targets, so that the weights really move."""
        generator = np.random.default_rng(seed)
        outputs = tf.nest.flatten(
            self._saved.serve.concrete_functions[0].structured_outputs
        )
        ways = min(int(t.shape[-1] or 2) if t.shape.rank else 2 for t in outputs)

        def draw(spec: tf.TensorSpec) -> Any:
            count = query if spec.name.startswith("query_") else support
            shape = [count, *(size or 3 for size in spec.shape[1:])]
            dtype = spec.dtype.as_numpy_dtype
            is_target = spec.name.startswith("support_y")
            if not spec.dtype.is_floating:
                high = max(ways, 2) if is_target else 2
                return generator.integers(0, high, shape).astype(dtype)
            # Targets between 0 and 1 suit every usual loss.
            if is_target:
                return generator.uniform(size=shape).astype(dtype)
            return generator.normal(size=shape).astype(dtype)

        specs = self._functions.specs("adapt_and_predict")
        return {spec.name: draw(spec) for spec in specs if spec.shape.rank}


def _relative(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """`max |found - expected| / max |expected|` over all arrays together.

    A number whose size is beyond `LARGE` is compared with itself alone.
    """
    if set(found) != set(expected):
        return float("inf")
    pairs = [(np.asarray(found[key]), expected[key]) for key in expected]
    if any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    a, b = (np.concatenate([np.ravel(p[i]) for p in pairs]) for i in (0, 1))
    size, difference = np.abs(b), np.abs(a - b)
    # Not one scale for all: a mask such as -1e9 would hide every other difference.
    large = size > LARGE
    scale = float(size[~large].max(initial=0)) or 1.0
    relative = np.where(large, difference / np.maximum(size, LARGE), difference / scale)
    return float(np.max(relative, initial=0))
