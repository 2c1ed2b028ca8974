"""The timed workloads: networks, weights, data and inner loops, equal for all peers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.networks import Conv, Lstm, Mlp, Network, Transformer

Batch = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Workload:
    """One meta-learning problem.

    The inner loop is SGD on all weights. The loss is the mean squared error or the mean
    softmax cross-entropy. The outer optimizer is Adam in Keras's form, with rate 1e-3.

    Attributes:
        about: str, one line.
        network: a `Network`.
        tasks, support, query: ints, tasks of a batch and examples of each task.
        steps: int, inner steps.
        learning_rate: float, of the inner loop.
        batches: int, number of different batches to cycle through, so that no result
            of a batch can be reused.
        smooth: bool, whether softplus replaces ReLU, and average pooling max-pooling.
        double: bool, whether everything is float64.
    """

    about: str
    network: Network
    tasks: int
    support: int
    query: int
    steps: int
    learning_rate: float
    batches: int
    smooth: bool = False
    double: bool = False

    def twin(self) -> Workload:
        """The smooth network on two tasks in float64, for comparing gradients.

        At a kink a meta-gradient jumps with the rounding of its input. With five steps
        through ReLU and max-pooling, two correct implementations can differ by tenths.
        """
        return replace(self, tasks=2, batches=1, smooth=True, double=True)

    def small(self) -> Workload:
        """The same network on two tasks, for a trial of a program."""
        return replace(self, tasks=2, batches=2)

    @property
    def dtype(self) -> str:
        """The type of weights and of data that is not integer."""
        return "float64" if self.double else "float32"

    def weights(self) -> list[np.ndarray]:
        """The initialisation, in the order and layout of Keras."""
        values = self.network.weights(np.random.default_rng(0))
        return [v.astype(self.dtype) for v in values]

    def data(self) -> list[Batch]:
        """Batches `(support_x, support_y, query_x, query_y)`."""
        rng = np.random.default_rng(1)
        return [self._batch(rng) for _ in range(self.batches)]

    def flops(self) -> float:
        """FLOPs of a meta-step, counting matrix products and convolutions only.

        `tasks * ((9 K s + 3 q) rest + (4 K s + 2 q) first)`

        with K inner steps on s support examples, q query examples, and the forward
        FLOPs of an example: `first` for products with data, `rest` for all others. A
        product costs 1 forward and 2 backward, for its two factors; the gradient of
        these 3 costs 6 more. If one factor is data, the costs are 1, 1 and 2.
        """
        first, rest = self.network.forward_flops()
        support, query = self.steps * self.support, self.query
        return self.tasks * (
            (9 * support + 3 * query) * rest + (4 * support + 2 * query) * first
        )

    def _batch(self, rng: np.random.Generator) -> Batch:
        both = self.network.inputs(rng, self.tasks, self.support + self.query)
        cut = self.support
        if self.network.classifies:
            # Each set is balanced by itself.
            parts = both[:, :cut], both[:, cut:]
            support_y, query_y = (self.network.targets(rng, x) for x in parts)
        else:
            y = self.network.targets(rng, both)
            support_y, query_y = y[:, :cut], y[:, cut:]
        batch = both[:, :cut], support_y, both[:, cut:], query_y
        return tuple(map(self._cast, batch))

    def _cast(self, values: np.ndarray) -> np.ndarray:
        integer = values.dtype.kind == "i"
        return np.ascontiguousarray(values if integer else values.astype(self.dtype))


def _sinusoid(about: str, steps: int) -> Workload:
    return Workload(about, Mlp(), 25, 10, 10, steps, 0.01, batches=20)


def _omniglot(about: str, query: int, steps: int, learning_rate: float) -> Workload:
    network = Conv(side=28, channels=1, filters=64)
    return Workload(about, network, 32, 5, 5 * query, steps, learning_rate, batches=3)


WORKLOADS = {
    "W1-1": _sinusoid("sinusoid MLP 1-40-40-1, 1 step", 1),
    "W1-5": _sinusoid("sinusoid MLP 1-40-40-1, 5 steps", 5),
    "W2-1": _omniglot("Omniglot conv-4, 15 queries a class, 1 step", 15, 1, 0.4),
    "W2-1q": _omniglot("Omniglot conv-4, 1 query a class, 1 step", 1, 1, 0.4),
    "W2-5": _omniglot("Omniglot conv-4, 15 queries a class, 5 steps", 15, 5, 0.1),
    "W3-5": Workload(
        "mini-ImageNet conv-4 with max-pooling, 5-shot, 5 steps",
        Conv(side=84, channels=3, filters=32, max_pool=True),
        tasks=4,
        support=25,
        query=75,
        steps=5,
        learning_rate=0.01,
        batches=3,
    ),
    "W4": Workload(
        "transformer text classifier, 5-shot, 3 steps",
        Transformer(),
        tasks=16,
        support=25,
        query=25,
        steps=3,
        learning_rate=0.1,
        batches=4,
    ),
    "W5": Workload(
        "LSTM regressor, 20 time steps, 3 steps",
        Lstm(),
        tasks=25,
        support=10,
        query=10,
        steps=3,
        learning_rate=0.05,
        batches=20,
    ),
}
