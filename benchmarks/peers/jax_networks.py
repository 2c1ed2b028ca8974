"""The networks as JAX functions of a list of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.networks import EPSILON
from benchmarks.workloads import Workload


def loss(workload: Workload, variant: dict[str, Any]) -> Callable[..., Any]:
    """The loss `f(weights, x, y)` of a workload's network."""
    networks = {"mlp": mlp, "conv": conv, "transformer": transformer, "lstm": lstm}
    network = networks[workload.network.kind]
    activation = jax.nn.softplus if workload.smooth else jax.nn.relu

    def of(weights: list[Any], x: Any, y: Any) -> Any:
        output = network(weights, x, activation, workload, variant)
        if workload.network.classifies:
            log = jax.nn.log_softmax(output)
            return -jnp.take_along_axis(log, y[:, None], 1).mean()
        return ((output - y) ** 2).mean()

    return of


def mlp(
    weights: list[Any], x: Any, activation: Any, workload: Workload, variant: Any
) -> Any:
    """Dense layers."""
    for kernel, bias in zip(weights[:4:2], weights[1:4:2], strict=True):
        x = activation(x @ kernel + bias)
    return x @ weights[4] + weights[5]


def conv(
    weights: list[Any], x: Any, activation: Any, workload: Workload, variant: Any
) -> Any:
    """Blocks of convolution, batch norm, activation and perhaps pooling."""
    pooled = workload.network.max_pool
    for i in range(4):
        kernel, bias, scale, offset = weights[4 * i : 4 * i + 4]
        form = _CONVOLUTIONS[variant["conv"]]
        x = form(x, kernel, 1 if pooled else 2) + bias
        x = activation(_normalised(x, (0, 1, 2), scale, offset))
        if pooled:
            x = _pooled(x, jnp.mean if workload.smooth else jnp.max)
    x = x.reshape(x.shape[0], -1) if pooled else x.mean((1, 2))
    return x @ weights[16] + weights[17]


def transformer(
    weights: list[Any], x: Any, activation: Any, workload: Workload, variant: Any
) -> Any:
    """Post-norm blocks over embeddings."""
    network = workload.network
    tokens, positions, *rest = weights
    x = tokens[x] + positions
    for i in range(network.blocks):
        q, qb, k, kb, v, vb, o, ob, g1, b1, w1, c1, w2, c2, g2, b2 = rest[
            16 * i : 16 * i + 16
        ]
        query, key, value = (
            jnp.einsum("nld,dhk->nhlk", x, w) + b[:, None]
            for w, b in ((q, qb), (k, kb), (v, vb))
        )
        scores = jnp.einsum("nhlk,nhmk->nhlm", query, key) / q.shape[-1] ** 0.5
        mixed = jnp.einsum("nhlm,nhmk->nhlk", jax.nn.softmax(scores), value)
        x = _normalised(x + jnp.einsum("nhlk,hkd->nld", mixed, o) + ob, -1, g1, b1)
        x = _normalised(x + activation(x @ w1 + c1) @ w2 + c2, -1, g2, b2)
    return x.mean(1) @ rest[-2] + rest[-1]


def lstm(
    weights: list[Any], x: Any, activation: Any, workload: Workload, variant: Any
) -> Any:
    """LSTM with gates i, f, c, o; the inputs' part is computed for all steps first."""
    kernel, recurrent, bias, head, head_bias = weights

    def cell(carry: Any, projected: Any) -> Any:
        hidden, memory = carry
        i, f, c, o = jnp.split(projected + hidden @ recurrent, 4, axis=-1)
        memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(c)
        return (jax.nn.sigmoid(o) * jnp.tanh(memory), memory), None

    zero = jnp.zeros([x.shape[0], recurrent.shape[0]], x.dtype)
    # A loop that is unrolled completely compiles for minutes.
    unroll = variant.get("unroll", 1)
    inputs = (x @ kernel + bias).swapaxes(0, 1)
    (hidden, _), _ = jax.lax.scan(cell, (zero, zero), inputs, unroll=unroll)
    return hidden @ head + head_bias


def _normalised(x: Any, axes: Any, scale: Any, offset: Any) -> Any:
    mean = x.mean(axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axes, keepdims=True)
    return (x - mean) * (jax.lax.rsqrt(variance + EPSILON) * scale) + offset


def _pooled(x: Any, reduce: Any) -> Any:
    n, height, width, channels = x.shape
    h, w = height // 2, width // 2
    x = x[:, : 2 * h, : 2 * w].reshape(n, h, 2, w, 2, channels)
    return reduce(x, axis=(2, 4))


def _native(x: Any, kernel: Any, stride: int) -> Any:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=_LAYOUT
    )


def _patches(x: Any, kernel: Any, stride: int) -> Any:
    columns = jax.lax.conv_general_dilated_patches(
        x, (3, 3), (stride, stride), "SAME", dimension_numbers=_LAYOUT
    )
    # These columns are channel-major.
    return columns @ kernel.transpose(2, 0, 1, 3).reshape(-1, kernel.shape[-1])


def _slices(x: Any, kernel: Any, stride: int) -> Any:
    side = x.shape[1]
    out = -(-side // stride)
    total = max((out - 1) * stride + 3 - side, 0)
    edges = (total // 2, total - total // 2)
    padded = jnp.pad(x, ((0, 0), edges, edges, (0, 0)))
    reach = (out - 1) * stride + 1
    shifted = [
        padded[:, i : i + reach : stride, j : j + reach : stride]
        for i in range(3)
        for j in range(3)
    ]
    return jnp.concatenate(shifted, -1) @ kernel.reshape(-1, kernel.shape[-1])


_LAYOUT = ("NHWC", "HWIO", "NHWC")
_CONVOLUTIONS = {"native": _native, "patches": _patches, "slices": _slices}
