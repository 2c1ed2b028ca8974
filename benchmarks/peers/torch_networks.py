"""The networks as PyTorch functions of a list of weights, and as a module."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.networks import EPSILON
from benchmarks.workloads import Workload


class Network(nn.Module):
    """A workload's network, with all parameters in one module.

    A single flat module costs less than one module for each layer in libraries that
    copy or patch modules.
    """

    def __init__(self, workload: Workload, variant: dict[str, Any]) -> None:
        super().__init__()
        self.workload, self.variant = workload, variant
        networks = {"mlp": mlp, "conv": conv, "transformer": transformer, "lstm": lstm}
        self.function = networks[workload.network.kind]
        self.activation = F.softplus if workload.smooth else F.relu
        # Under `vmap` the second derivative of PyTorch's own normalisations lacks a
        # term (the check finds 3e-3 to 7e-3), so they are written out there.
        written_out = variant.get("map") == "vmap"
        self.batch_norm = _batch_norm if written_out else _native_batch_norm
        self.layer_norm = _layer_norm if written_out else _native_layer_norm
        self.names = []
        for i, value in enumerate(workload.weights()):
            self.names.append(f"w{i}")
            tensor = from_keras(value)
            if tensor.ndim == 4 and variant.get("layout") == "channels_last":
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            self.register_parameter(f"w{i}", nn.Parameter(tensor))

    def forward(self, x: Any) -> Any:
        """Predictions of one task's examples."""
        return self.function([getattr(self, name) for name in self.names], x, self)


def loss_of(workload: Workload) -> Any:
    """The loss `f(predictions, y)`."""
    return F.cross_entropy if workload.network.classifies else F.mse_loss


def from_keras(value: np.ndarray) -> torch.Tensor:
    """A weight in PyTorch's layout: convolutions OIHW, all others unchanged."""
    if value.ndim == 4:
        value = value.transpose(3, 2, 0, 1)
    return torch.as_tensor(np.array(value, order="C"))


def to_keras(value: torch.Tensor) -> np.ndarray:
    """The inverse of `from_keras`, for a gradient."""
    array = value.detach().cpu().numpy()
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def inputs(x: np.ndarray, variant: dict[str, Any]) -> torch.Tensor:
    """Examples of all tasks; images `[tasks, examples, channels, height, width]`."""
    # Unlike `from_numpy`, this goes to the default device.
    tensor = torch.as_tensor(x)
    if tensor.ndim != 5:
        return tensor.long() if x.dtype.kind == "i" else tensor
    tensor = tensor.permute(0, 1, 4, 2, 3)
    # The view keeps the memory format channels-last.
    return tensor if variant.get("layout") == "channels_last" else tensor.contiguous()


def mlp(weights: list[Any], x: Any, net: Network) -> Any:
    """Dense layers."""
    for kernel, bias in zip(weights[:4:2], weights[1:4:2], strict=True):
        x = net.activation(torch.addmm(bias, x, kernel))
    return torch.addmm(weights[5], x, weights[4])


def conv(weights: list[Any], x: Any, net: Network) -> Any:
    """Blocks of convolution, batch norm, activation and perhaps pooling."""
    pooled = net.workload.network.max_pool
    form = _unfolded if net.variant.get("conv") == "unfold" else _native
    pool = F.avg_pool2d if net.workload.smooth else F.max_pool2d
    for i in range(4):
        kernel, bias, scale, offset = weights[4 * i : 4 * i + 4]
        x = form(x, kernel, bias, 1 if pooled else 2)
        x = net.batch_norm(x, scale, offset)
        x = net.activation(x)
        if pooled:
            x = pool(x, 2)
    x = x.permute(0, 2, 3, 1).flatten(1) if pooled else x.mean((2, 3))
    return torch.addmm(weights[17], x, weights[16])


def transformer(weights: list[Any], x: Any, net: Network) -> Any:
    """Post-norm blocks over embeddings."""
    tokens, positions, *rest = weights
    x = F.embedding(x, tokens) + positions
    for i in range(net.workload.network.blocks):
        q, qb, k, kb, v, vb, o, ob, g1, b1, w1, c1, w2, c2, g2, b2 = rest[
            16 * i : 16 * i + 16
        ]
        query, key, value = (
            (x @ w.flatten(1) + b.flatten()).unflatten(-1, b.shape).transpose(-3, -2)
            for w, b in ((q, qb), (k, kb), (v, vb))
        )
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        mixed = (scores.softmax(-1) @ value).transpose(-3, -2).flatten(-2)
        mixed = mixed @ o.flatten(0, 1) + ob
        x = net.layer_norm(x + mixed, g1, b1)
        hidden = net.activation(x @ w1 + c1) @ w2 + c2
        x = net.layer_norm(x + hidden, g2, b2)
    return x.mean(-2) @ rest[-2] + rest[-1]


def lstm(weights: list[Any], x: Any, net: Network) -> Any:
    """LSTM with gates i, f, c, o in a Python loop, or PyTorch's own, which is equal."""
    kernel, recurrent, bias, head, head_bias = weights
    hidden = memory = x.new_zeros(x.shape[0], recurrent.shape[0])
    if net.variant.get("lstm") == "native":
        flat = [kernel.T, recurrent.T, bias, torch.zeros_like(bias)]
        start = (hidden[None], memory[None])
        _, hidden, _ = torch.lstm(x, start, flat, True, 1, 0.0, True, False, True)
        return torch.addmm(head_bias, hidden[0], head)
    projected = x @ kernel + bias
    for now in projected.unbind(1):
        i, f, c, o = torch.addmm(now, hidden, recurrent).chunk(4, -1)
        memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(c)
        hidden = torch.sigmoid(o) * torch.tanh(memory)
    return torch.addmm(head_bias, hidden, head)


def _native_batch_norm(x: Any, scale: Any, offset: Any) -> Any:
    return F.batch_norm(x, None, None, scale, offset, training=True, eps=EPSILON)


def _native_layer_norm(x: Any, scale: Any, offset: Any) -> Any:
    return F.layer_norm(x, x.shape[-1:], scale, offset, EPSILON)


def _batch_norm(x: Any, scale: Any, offset: Any) -> Any:
    centred = x - x.mean((0, 2, 3), keepdim=True)
    variance = (centred**2).mean((0, 2, 3))
    factor = scale * torch.rsqrt(variance + EPSILON)
    return centred * factor[:, None, None] + offset[:, None, None]


def _layer_norm(x: Any, scale: Any, offset: Any) -> Any:
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred**2).mean(-1, keepdim=True)
    return centred * torch.rsqrt(variance + EPSILON) * scale + offset


def _edges(side: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding, which puts an odd pixel last."""
    total = max((-(-side // stride) - 1) * stride + 3 - side, 0)
    return total // 2, total - total // 2


def _native(x: Any, kernel: Any, bias: Any, stride: int) -> Any:
    before, after = _edges(x.shape[-1], stride)
    if before == after:
        return F.conv2d(x, kernel, bias, stride, before)
    x = F.pad(x, (before, after, before, after))
    return F.conv2d(x, kernel, bias, stride)


def _unfolded(x: Any, kernel: Any, bias: Any, stride: int) -> Any:
    side = x.shape[-1]
    before, after = _edges(side, stride)
    x = F.pad(x, (before, after, before, after))
    columns = F.unfold(x, 3, stride=stride)
    x = kernel.flatten(1) @ columns + bias[:, None]
    return x.unflatten(-1, (-(-side // stride),) * 2)
