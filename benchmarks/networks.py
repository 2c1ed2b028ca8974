"""The timed networks: weights, data and FLOPs, without any framework.

Each network is a frozen dataclass with a `kind`, by which a peer finds its own code for
the network. Weights are in the order and layout of Keras; a peer converts them.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import numpy as np

EPSILON = 1e-3  # The epsilon of every normalisation layer.
WAYS = 5


class Network(abc.ABC):
    """A network's weights, its data and the cost of a forward pass."""

    kind: str
    classifies: bool

    @abc.abstractmethod
    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Kind (kernel, bias, scale or table) and shape of each weight."""

    @abc.abstractmethod
    def inputs(self, rng: np.random.Generator, tasks: int, examples: int) -> np.ndarray:
        """Random inputs `[tasks, examples, ...]`."""

    @abc.abstractmethod
    def forward_flops(self) -> tuple[float, float]:
        """FLOPs of the matrix products per example: on data, and on all else."""

    def weights(self, rng: np.random.Generator) -> list[np.ndarray]:
        """He-like random kernels; biases near 0 and scales near 1."""
        values = []
        for kind, shape in self.shapes():
            noise = rng.normal(size=shape)
            if kind == "kernel":
                values.append(noise * np.sqrt(2 / np.prod(shape[:-1])))
            else:
                values.append((1.0 if kind == "scale" else 0.0) + 0.1 * noise)
        return values

    def targets(self, rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
        """Class numbers of the examples in order, all equally frequent."""
        return np.tile(np.arange(x.shape[1], dtype=np.int32) % WAYS, (x.shape[0], 1))


@dataclass(frozen=True)
class Mlp(Network):
    """Dense layers 1-40-40-1 with ReLU, as for the sinusoids of Finn et al."""

    units: int = 40
    kind = "mlp"
    classifies = False

    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Three dense layers."""
        n = self.units
        return [*_dense(1, n), *_dense(n, n), *_dense(n, 1)]

    def inputs(self, rng: np.random.Generator, tasks: int, examples: int) -> np.ndarray:
        """Random points in [-5, 5]."""
        return rng.uniform(-5, 5, (tasks, examples, 1))

    def targets(self, rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
        """A sinusoid with a random amplitude for each task."""
        return rng.uniform(0.1, 5, (len(x), 1, 1)) * np.sin(x)

    def forward_flops(self) -> tuple[float, float]:
        """Two FLOPs for each weight of a kernel."""
        return 2.0 * self.units, 2.0 * (self.units**2 + self.units)


@dataclass(frozen=True)
class Conv(Network):
    """Four blocks of 3x3 convolution, batch norm and ReLU, then a dense head.

    Batch norm always uses the batch's own statistics (biased variance). Without
    pooling the stride is 2 and the head gets the spatial mean. With 2x2 max-pooling
    the stride is 1 and the head gets the flattened features.
    """

    side: int
    channels: int
    filters: int
    max_pool: bool = False
    kind = "conv"
    classifies = True

    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Kernel, bias, gamma and beta of each block, then the head."""
        shapes: list[tuple[str, tuple[int, ...]]] = []
        channels, n = self.channels, self.filters
        for _ in range(4):
            shapes += [("kernel", (3, 3, channels, n)), ("bias", (n,)), *_norm(n)]
            channels = n
        features = n * self._sides()[-1] ** 2 if self.max_pool else n
        return [*shapes, *_dense(features, WAYS)]

    def inputs(self, rng: np.random.Generator, tasks: int, examples: int) -> np.ndarray:
        """Noise in the shape of images."""
        return rng.random((tasks, examples, self.side, self.side, self.channels))

    def forward_flops(self) -> tuple[float, float]:
        """`2 * 9 * channels * filters` FLOPs at each position of a filter."""
        sides = self._sides()
        at = sides[:4] if self.max_pool else sides[1:]
        widths = [self.channels, *[self.filters] * 3]
        each = [2.0 * 9 * c * self.filters * s**2 for c, s in zip(widths, at)]
        return each[0], sum(each[1:])

    def _sides(self) -> list[int]:
        sides = [self.side]
        for _ in range(4):
            sides.append(sides[-1] // 2 if self.max_pool else -(-sides[-1] // 2))
        return sides


@dataclass(frozen=True)
class Transformer(Network):
    """Post-norm encoder blocks over token and position embeddings, then the mean."""

    vocabulary: int = 1000
    length: int = 32
    width: int = 64
    heads: int = 4
    hidden: int = 128
    blocks: int = 2
    kind = "transformer"
    classifies = True

    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Tables; query, key, value, output, norm, dense, dense, norm; head."""
        width, split = self.width, (self.heads, self.width // self.heads)
        shapes: list[tuple[str, tuple[int, ...]]] = []
        for _ in range(self.blocks):
            for _ in range(3):
                shapes += [("kernel", (width, *split)), ("bias", split)]
            shapes += [("kernel", (*split, width)), ("bias", (width,)), *_norm(width)]
            shapes += [*_dense(width, self.hidden), *_dense(self.hidden, width)]
            shapes += _norm(width)
        tables = [("table", (n, width)) for n in (self.vocabulary, self.length)]
        return [*tables, *shapes, *_dense(width, WAYS)]

    def weights(self, rng: np.random.Generator) -> list[np.ndarray]:
        """He-like kernels, except attention kernels, of variance `1 / width`."""
        values = super().weights(rng)
        return [v / v.std() / self.width**0.5 if v.ndim == 3 else v for v in values]

    def inputs(self, rng: np.random.Generator, tasks: int, examples: int) -> np.ndarray:
        """Token ids."""
        size = (tasks, examples, self.length)
        return rng.integers(0, self.vocabulary, size, dtype=np.int32)

    def forward_flops(self) -> tuple[float, float]:
        """FLOPs of projections, attention and the two dense layers for all tokens."""
        projections = 4 * self.width**2
        attention = 2 * self.length * self.width
        dense = 2 * self.width * self.hidden
        return 0.0, 2.0 * self.blocks * self.length * (projections + attention + dense)


@dataclass(frozen=True)
class Lstm(Network):
    """An LSTM whose last hidden state goes through a dense layer."""

    time: int = 20
    features: int = 4
    units: int = 32
    kind = "lstm"
    classifies = False

    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Input kernel, recurrent kernel and bias (gates i, f, c, o); the head."""
        n = self.units
        kernels = [("kernel", (self.features, 4 * n)), ("kernel", (n, 4 * n))]
        return [*kernels, ("bias", (4 * n,)), *_dense(n, 1)]

    def inputs(self, rng: np.random.Generator, tasks: int, examples: int) -> np.ndarray:
        """Noise in the shape of time series."""
        return rng.normal(size=(tasks, examples, self.time, self.features))

    def targets(self, rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
        """The mean over time of the features, in a mixture that the task draws."""
        mixture = rng.normal(size=(len(x), 1, x.shape[-1]))
        return (x.mean(2) * mixture).sum(-1, keepdims=True)

    def forward_flops(self) -> tuple[float, float]:
        """FLOPs of the gates at all time steps: from inputs, and from hidden states."""
        each = 2.0 * self.time * 4 * self.units
        return each * self.features, each * self.units


def _dense(inputs: int, outputs: int) -> list[tuple[str, tuple[int, ...]]]:
    return [("kernel", (inputs, outputs)), ("bias", (outputs,))]


def _norm(width: int) -> list[tuple[str, tuple[int, ...]]]:
    return [("scale", (width,)), ("bias", (width,))]
