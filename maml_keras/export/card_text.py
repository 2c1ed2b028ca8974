"""The text of a model card: headings with labelled lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTHING = "not recorded"

# Headings, each with its pairs of a label and a text.
Facts = dict[str, list[tuple[str, str]]]


def figure(value: float | None, metric: str) -> str:
    """A figure as text; accuracies are in percent.

    >>> figure(0.93579, "accuracy"), figure(0.18164, "loss"), figure(None, "loss")
    ('93.58%', '0.1816', 'none')
    """
    if value is None:
        return "none"
    return f"{value:.2%}" if metric == "accuracy" else f"{value:.4g}"


def headline(card: Mapping[str, Any]) -> str:
    """The metric after the last evaluated step, with its interval.

    >>> headline({"evaluation": {"metric": "loss", "tasks": 600, "steps": [0, 1],
    ...     "mean": [3.1, 0.4], "half_width_95": [0.2, 0.04]}})
    'loss 0.4 ± 0.04 after 1 step, 95% CI over 600 new tasks'
    """
    evaluation = card.get("evaluation") or {}
    needed = "metric", "mean", "half_width_95", "steps"
    if not all(evaluation.get(name) for name in needed):
        return f"accuracy or loss: {NOTHING}"
    metric = evaluation["metric"]
    return (
        f"{metric} {figure(evaluation['mean'][-1], metric)} ± "
        f"{figure(evaluation['half_width_95'][-1], metric)} after "
        f"{counted(evaluation['steps'][-1], 'step')}, 95% CI over "
        f"{evaluation.get('tasks', '?')} new tasks"
    )


def counted(number: int, what: str) -> str:
    """A number with its noun in singular or plural.

    >>> counted(1, "step"), counted(1000, "step")
    ('1 step', '1,000 steps')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """A number of bytes as text.

    >>> size(95), size(506496), size(3_200_000)
    ('95 bytes', '506.5 kB', '3.2 MB')
    """
    if number < 1_000:
        return f"{number} bytes"
    return f"{number / 1e3:.1f} kB" if number < 1e6 else f"{number / 1e6:.1f} MB"


def milliseconds(number: float) -> str:
    """A time as text.

    >>> milliseconds(0.71234), milliseconds(123.4)
    ('0.71 ms', '123 ms')
    """
    return f"{number:.2f} ms" if number < 10 else f"{number:.3g} ms"


def facts(
    card: Mapping[str, Any],
    *,
    files: Mapping[str, int],
    adapting: int,
    latency: Mapping[str, Any] | None,
) -> Facts:
    """The card without the curve; a missing entry is "not recorded".

    Args:
        card: the content of `card.json`.
        files: size in bytes of each file.
        adapting: number of parameters that adaptation changes.
        latency: the result of `latency.measure`; None if not measured.
    """
    evaluation = card.get("evaluation") or {}
    inner = card.get("inner_loop") or {}
    versions = card.get("versions") or {}
    functions = card.get("functions") or {}
    found: Facts = {
        "Task": [
            ("protocol", _text(card, "protocol")),
            ("published", _text(card, "published")),
        ],
        "Evaluation": _evaluation(evaluation),
        **_transfer(card.get("transfer") or {}),
        "Training": [
            ("command", _text(card, "command")),
            ("seed", _text(card, "seed")),
            ("meta-steps", _text(card, "iterations")),
            ("tasks a meta-step", _text(card, "tasks_per_iteration")),
        ],
        "Adaptation": [
            *([("start", str(inner["start"]))] if "start" in inner else []),
            ("rule", _text(inner, "rule")),
            ("learning rate", _text(inner, "learning_rate")),
            ("steps in training", _text(inner, "steps")),
            ("meta-gradient", str(card.get("meta_gradient") or _order(inner))),
            ("batch norm", _text(card, "batch_norm")),
        ],
        "Model": [
            ("name", _text(card, "model")),
            ("parameters", _text(card, "parameters")),
            ("of these adapt", _adapting(adapting, inner)),
        ],
        "Size": [
            ("total", size(sum(files.values()))),
            *((name, size(number)) for name, number in files.items()),
        ],
    }
    if functions:
        found["Functions"] = [
            (name, _function(f)) for name, f in functions.items() if f
        ]
    found["Latency"] = _latency(latency)
    found["Made with"] = [(n, str(v)) for n, v in versions.items()] or [
        ("versions", NOTHING)
    ]
    return found


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if value is None or value == "":
        return NOTHING
    return f"{value:,}" if type(value) is int else str(value)


def _queries(evaluation: Mapping[str, Any]) -> str:
    """A number, or the fewest and the most, and whether they were predicted together.

    >>> _queries({"queries_per_task": 75, "queries": "together"})
    '75, together'
    """
    value, asked = evaluation.get("queries_per_task"), evaluation.get("queries")
    if value is None:
        return NOTHING
    ends = value if isinstance(value, list) else [value]
    number = " to ".join(f"{end:,}" for end in ends)
    return number if asked is None else f"{number}, {asked}"


def _evaluation(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not evaluation:
        return [("accuracy or loss", NOTHING)]
    metric = evaluation.get("metric") or "metric"
    lines = []
    for label, place in (("before adaptation", 0), ("after adaptation", -1)):
        means, halves = evaluation.get("mean"), evaluation.get("half_width_95")
        value = NOTHING
        if means and halves:
            value = f"{metric} {figure(means[place], metric)} ± "
            value += f"{figure(halves[place], metric)}"
        lines.append((label, value))
    medians, diverged = evaluation.get("median"), evaluation.get("diverged_tasks")
    return [
        *lines,
        ("median", figure(medians[-1], metric) if medians else NOTHING),
        ("tasks", _text(evaluation, "tasks")),
        ("queries a task", _queries(evaluation)),
        ("batch norm", _text(evaluation, "batch_norm")),
        (
            "diverged tasks",
            f"{diverged[-1]}, left out of the mean" if diverged else NOTHING,
        ),
        ("seed of the tasks", _text(evaluation, "seed")),
    ]


def _transfer(transfer: Mapping[str, Mapping[str, Any] | None]) -> Facts:
    """Figures on tasks of other sources; no heading where none were measured.

    >>> [(source, text)] = _transfer({"digits": {"metric": "accuracy", "tasks": 600,
    ...     "steps": [0, 3], "mean": [0.198, 0.725], "half_width_95": [0.004, 0.008],
    ...     "queries_per_task": 75, "queries": "alone"}})["On other sources"]
    >>> source, text.split(", ")[2:]
    ('digits', ['19.80% before; queries a task: 75', 'alone'])
    """
    lines = []
    for source, found in transfer.items():
        text, evaluation = NOTHING, found or {}
        means = evaluation.get("mean")
        if means and evaluation.get("metric"):
            before = figure(means[0], evaluation["metric"])
            text = f"{headline({'evaluation': evaluation})}, {before} before; queries "
            text += f"a task: {_queries(evaluation)}"
        lines.append((source, text))
    return {"On other sources": lines} if lines else {}


def _order(inner: Mapping[str, Any]) -> str:
    second = inner.get("second_order")
    if second is None:
        return NOTHING
    return f"{'second' if second else 'first'} order"


def _adapting(adapting: int, inner: Mapping[str, Any]) -> str:
    chosen = f" ({inner['adapt']})" if "adapt" in inner else ""
    return f"{adapting:,}{chosen}"


def _function(function: Mapping[str, Any]) -> str:
    """`x float32 [?, 28, 28, 1], steps int32 = 1 -> float32 [?, 5]`."""
    arguments = [
        f"{name} {_spec(spec)}"
        for name, spec in (function.get("arguments") or {}).items()
    ]
    returns = _spec(function.get("returns"))
    return f"{', '.join(arguments) or 'no arguments'} → {returns}"


def _spec(spec: Any) -> str:
    if not isinstance(spec, Mapping):
        return str(spec)
    if "dtype" not in spec:
        return f"{len(spec)} tensors by name" if len(spec) != 1 else "one tensor"
    shape = spec.get("shape") or []
    axes = ", ".join("?" if size is None else str(size) for size in shape)
    default = f" = {spec['default']}" if "default" in spec else ""
    return f"{spec['dtype']}{f' [{axes}]' if shape else ''}{default}"


def _latency(latency: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if latency is None:
        return [("adapt and predict", "not measured")]
    lines = [
        (
            timing["what"],
            f"{milliseconds(timing['median_ms'])} median, "
            f"{milliseconds(timing['p95_ms'])} 95th percentile of "
            f"{counted(timing['calls'], 'call')}; the first "
            f"{milliseconds(timing['first_ms'])}",
        )
        for timing in latency["timings"]
    ]
    return [
        *lines,
        ("load", milliseconds(latency["load_ms"])),
        ("measured on", latency["machine"]),
        ("with", f"TensorFlow {latency['tensorflow']}, random inputs"),
    ]
