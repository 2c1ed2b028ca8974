"""`Sinusoid`: the regression tasks of the MAML paper."""

import math
from typing import Any, final

import tensorflow as tf

from maml_keras.data.family import Episode, TaskFamily, first_row
from maml_keras.data.seeds import as_seed


@final
class Sinusoid(TaskFamily):
    """Regression of a sine wave from a few points without noise.

    `y = A sin(x - phase)`, with A, phase and x uniform in their ranges.

    Args:
        shots: int, support points of a task.
        queries: int, query points of a task.
        amplitude: `(low, high)` of A.
        phase: `(low, high)` of the phase.
        x: `(low, high)` of the inputs.

    Raises:
        ValueError: if a count is below one, or a range is not increasing.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400

    >>> task, query_y = Sinusoid(shots=5).sample([0, 1])
    >>> {key: tuple(value.shape) for key, value in sorted(task.items())}
    {'query_x': (10, 1), 'support_x': (5, 1), 'support_y': (5, 1)}
    """

    # One call for a thousand waves, because a call costs more than a wave.
    chunk = 1024

    def __init__(
        self,
        *,
        shots: int = 10,
        queries: int = 10,
        amplitude: tuple[float, float] = (0.1, 5.0),
        phase: tuple[float, float] = (0.0, math.pi),
        x: tuple[float, float] = (-5.0, 5.0),
    ) -> None:
        for name, count in (("shots", shots), ("queries", queries)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ValueError(
                    f"`{name}` must be an integer of at least 1. Received: "
                    f"{count!r}. Pass e.g. {name}=10."
                )
        self.shots = shots
        self.queries = queries
        self.amplitude = _range("amplitude", amplitude)
        self.phase = _range("phase", phase)
        self.x = _range("x", x)

    def __repr__(self) -> str:
        return (
            f"Sinusoid(shots={self.shots}, queries={self.queries}, "
            f"amplitude={self.amplitude}, phase={self.phase}, x={self.x})"
        )

    def parameters(self, seed: Any, count: int) -> tuple[Any, Any]:
        """The true amplitude and phase of each task of `sample_many(seed, count)`.

        Args:
            seed: int tensor `[2]`.
            count: int.

        Returns:
            Amplitudes and phases, float32 tensors `[count]`.

        >>> amplitude, phase = Sinusoid().parameters([0, 1], 3)
        >>> amplitude.shape, phase.shape
        (TensorShape([3]), TensorShape([3]))
        """
        seeds = tf.unstack(tf.random.split(as_seed(seed), 3))
        return (
            tf.random.stateless_uniform([count], seeds[0], *self.amplitude),
            tf.random.stateless_uniform([count], seeds[1], *self.phase),
        )

    def sample(self, seed: Any) -> Episode:
        """One wave: the first of `sample_many(seed, 1)`."""
        return first_row(self.sample_many(seed, 1))

    def sample_many(self, seed: Any, count: int) -> Episode:
        """Many waves; float32 arrays `[count, shots, 1]` and `[count, queries, 1]`."""
        amplitude, phase = self.parameters(seed, count)
        x_seed = tf.unstack(tf.random.split(as_seed(seed), 3))[2]
        shape = [count, self.shots + self.queries, 1]
        x = tf.random.stateless_uniform(shape, x_seed, *self.x)
        y = amplitude[:, None, None] * tf.sin(x - phase[:, None, None])
        task = {
            "support_x": x[:, : self.shots],
            "support_y": y[:, : self.shots],
            "query_x": x[:, self.shots :],
        }
        return task, y[:, self.shots :]


@final
class SinusoidOracle(TaskFamily):
    """The waves of a `Sinusoid` family, with their parameters added to the inputs.

    `x -> [x, A, phase]`: a network that knows the parameters of the wave needs no
    adaptation, so its loss shows how well the tasks can be solved at all.

    Args:
        sinusoid: the family. Episode i is the same wave at the same points.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400, section 5.1

    >>> from maml_keras.data import Sinusoid
    >>> task, query_y = SinusoidOracle(Sinusoid(shots=5)).sample([0, 1])
    >>> tuple(task["support_x"].shape)
    (5, 3)
    """

    chunk = Sinusoid.chunk

    def __init__(self, sinusoid: Sinusoid) -> None:
        self.sinusoid = sinusoid

    def sample(self, seed: Any) -> Episode:
        """One wave: the first of `sample_many(seed, 1)`."""
        return first_row(self.sample_many(seed, 1))

    def sample_many(self, seed: Any, count: int) -> Episode:
        """Many waves; inputs `[count, examples, 3]`, targets `[count, examples, 1]`."""
        task, query_y = self.sinusoid.sample_many(seed, count)
        known = tf.stack(self.sinusoid.parameters(seed, count), axis=-1)[:, None]

        def with_parameters(x: Any) -> Any:
            return tf.concat([x, tf.repeat(known, x.shape[1], axis=1)], axis=-1)

        inputs = {k: with_parameters(task[k]) for k in ("support_x", "query_x")}
        return {**task, **inputs}, query_y


def _range(name: str, value: Any) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in value)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not low < high or not math.isfinite(high - low):
        raise ValueError(
            f"`{name}` must be two finite numbers (low, high) with low < high. "
            f"Received: {value!r}. Pass e.g. {name}=(0.0, 1.0)."
        )
    return low, high
