"""Plots of adaptation; needs matplotlib (`pip install maml_keras[plot]`)."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from maml_keras.evaluation.over_seeds import SeedMean
from maml_keras.evaluation.result import Evaluation
from maml_keras.evaluation.task_tables import is_curve, is_images, task_text


def plot_curves(
    results: Mapping[str, Evaluation], path: str | pathlib.Path, *, log: bool = False
) -> pathlib.Path:
    """The metric over adaptation steps, a line and a 95% band for each network.

    Args:
        results: an `Evaluation` by name.
        path: the PNG to write.
        log: bool, whether the metric's axis is logarithmic.

    Returns:
        The path.

    >>> import tempfile
    >>> from maml_keras import Evaluation
    >>> curve, diverged = np.array([[2.0, 0.5], [1.0, 0.3]]), np.zeros([2, 2], bool)
    >>> result = Evaluation("loss", curve, diverged, "transductive", 5, False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot_curves({"maml": result}, pathlib.Path(folder, "a.png")).name
    'a.png'
    """
    figure, axes = subplots(figsize=(6.4, 4.2))
    _adaptation(axes, results, log=log)
    axes.legend()
    return saved(figure, path)


def plot_comparison(
    results: Mapping[str, Evaluation],
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    path: str | pathlib.Path,
) -> pathlib.Path:
    """Learning curves over training time, and adaptation of the trained models.

    Args:
        results: an `Evaluation` by name.
        histories: by name, the logs of each epoch: `seconds`, `adapted_<metric>` on
            validation tasks and, if known, `adapted_<metric>_half_width`. Empty for a
            model that was not meta-trained.
        path: the PNG to write.

    Returns:
        The path.
    """
    first = next(iter(results.values()))
    log = first.higher_is_better is False
    figure, (left, right) = subplots(1, 2, figsize=(11, 4.4))
    _adaptation(right, results, log=log)
    key = f"adapted_{first.metric}"
    for (name, history), line in zip(histories.items(), _styles()):
        rows = [row for row in history if key in row]
        seconds, mean, half = (
            np.array([row.get(column, np.nan) for row in rows])
            for column in ("seconds", key, f"{key}_half_width")
        )
        if rows:
            left.plot(seconds, mean, markersize=4, label=name, **line)
            band = {"alpha": 0.2, "color": line["color"]}
            left.fill_between(seconds, mean - half, mean + half, **band)
    left.set_xlabel("training time, seconds without compilation")
    left.set_ylabel(f"query {first.metric} after adaptation, validation tasks")
    left.set_title("Learning to learn\nmean, 95% CI over tasks")
    if log:
        left.set_yscale("log")
    left.grid(alpha=0.3)
    handles = right.get_legend_handles_labels()
    figure.legend(*handles, loc="outside right upper")
    return saved(figure, path)


def plot_seeds(
    runs: Mapping[str, Any],
    means: Mapping[str, SeedMean],
    differences: Mapping[str, SeedMean],
    path: str | pathlib.Path,
    *,
    metric: str,
) -> pathlib.Path:
    """Every run of every algorithm, the means over seeds, and the paired differences.

    Args:
        runs: by name, the mean over tasks of each run `[seeds]`.
        means: by name, a `SeedMean`.
        differences: by name, a `SeedMean` of the difference from the first.
        path: the PNG to write.
        metric: str, the metric's name.

    Returns:
        The path.
    """
    first, *_ = means
    size = 11, 1.6 + 0.45 * len(means)
    figure, panels = subplots(1, 2, figsize=size, sharey=True)
    rows = dict(zip(means, range(len(means))))
    for axes, bars in zip(panels, (means, differences)):
        for name, mean in bars.items():
            for half, width in ((mean.half_width, 1.5), (mean.over_tasks, 5.0)):
                axes.errorbar(
                    mean.mean, rows[name], xerr=half, fmt="none", elinewidth=width
                )
            axes.plot(mean.mean, rows[name], "ko", markersize=5)
        axes.grid(alpha=0.3, axis="x")
    left, right = panels
    for name, values in runs.items():
        left.plot(values, np.full(len(values), rows[name] - 0.22), "|", color="0.3")
    right.axvline(0.0, color="black", linewidth=0.8)
    left.set_yticks(list(rows.values()), list(rows))
    left.invert_yaxis()
    left.set_xlabel(f"query {metric}; ticks: single runs")
    right.set_xlabel(f"paired difference from {first}")
    left.set_title(
        "Mean over seeds\nthin: 95% for new runs and tasks; thick: new tasks"
    )
    right.set_title("Differences\nthin: 95% for new runs and tasks; thick: new tasks")
    return saved(figure, path)


def _styles() -> Iterator[dict[str, Any]]:
    """A colour and a marker for each name, the same in every panel."""
    colors = [*(f"C{i}" for i in range(10)), "black", "darkgoldenrod", "navy", "maroon"]
    for color, marker in zip(colors * 4, "osD^vPX*<>hd" * 4):
        yield {"color": color, "marker": marker}


def _adaptation(axes: Any, results: Mapping[str, Evaluation], *, log: bool) -> None:
    for (name, result), line in zip(results.items(), _styles()):
        steps = np.arange(result.steps + 1)
        mean, half = result.curve, result.half_widths
        axes.plot(steps, mean, markersize=4, label=name, **line)
        color = line["color"]
        axes.fill_between(steps, mean - half, mean + half, alpha=0.2, color=color)
        # A single diverging task moves a mean; the median shows the other tasks.
        axes.plot(steps, result.medians, "--", linewidth=1, color=color)
    first = next(iter(results.values()))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("adaptation steps on the support set")
    axes.set_ylabel(f"query {first.metric}, mean of {first.num_tasks} new tasks")
    axes.set_title("Adapting to new tasks\nmean, 95% CI; dashed: median")
    if log:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)


def plot_rates(
    results: Mapping[float, Evaluation],
    path: str | pathlib.Path,
    *,
    own_rate: float | None = None,
) -> pathlib.Path:
    """The metric over the inner rate, a line for each step, and diverged tasks below.

    Args:
        results: an `Evaluation` by rate, on the same tasks.
        path: the PNG to write.
        own_rate: float, the rule's own rate, which a vertical line marks.

    Returns:
        The path.
    """
    first = next(iter(results.values()))
    rates = np.array(list(results))
    figure, (above, below) = subplots(
        2, 1, figsize=(6.8, 5.2), sharex=True, height_ratios=[4, 1]
    )
    # At most six lines, the first and the last step among them.
    shown = np.unique(np.linspace(0, first.steps, 6).round().astype(int))
    for line, k in enumerate(shown.tolist()):
        means = np.array([result.curve[k] for result in results.values()])
        label = "before adaptation" if k == 0 else f"after {k} step{'s' * (k > 1)}"
        color = "0.5" if k == 0 else f"C{line - 1}"
        above.plot(
            rates, means, ":" if k == 0 else "o-", ms=3, color=color, label=label
        )
    half = np.array([result.half_width for result in results.values()])
    above.fill_between(rates, means - half, means + half, alpha=0.2, color=color)
    share = [result.diverged[-1] / result.num_tasks for result in results.values()]
    below.fill_between(rates, 0, share, step="mid", color="0.6")
    below.set_ylim(0, 1)
    below.set_ylabel("share diverged")
    below.set_xlabel("inner learning rate")
    above.set_xscale("log")
    if first.higher_is_better is False:
        above.set_yscale("log")
        # A rate that diverges leaves the panel, or nothing else could be told apart.
        lowest = min(np.nanmin(result.curve) for result in results.values())
        above.set_ylim(top=2.0 * float(first.curve[0]))
        if lowest > 0.0:
            above.set_ylim(bottom=0.8 * lowest)
    above.set_ylabel(f"query {first.metric}, mean of {first.num_tasks} tasks")
    above.set_title("One initialisation at many inner rates\nband: 95% CI, last step")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        if own_rate:
            axes.axvline(own_rate, color="black", linewidth=0.8, label="the rule's own")
    above.legend()
    return saved(figure, path)


def plot_fits(
    support: tuple[Any, Any],
    truth: tuple[Any, Any],
    fits: Mapping[str, Sequence[tuple[int, Any]]],
    path: str | pathlib.Path,
) -> pathlib.Path:
    """Fits of one regression task before and after adaptation, one panel a network.

    Args:
        support: `(x, y)` of the support set.
        truth: `(x, y)` of the true curve, x ascending.
        fits: by the network's name, a sequence of `(steps, y)` on the x of `truth`.
        path: the PNG to write.

    Returns:
        The path.

    >>> import tempfile
    >>> x = np.linspace(-1, 1, 5)
    >>> fits = {"maml": [(0, 0 * x), (1, 0.9 * x)]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot_fits((x, x), (x, x), fits, pathlib.Path(folder, "a.png")).name
    'a.png'
    """
    size = 4.2 * len(fits), 3.6
    figure, panels = subplots(1, len(fits), figsize=size, sharey=True, squeeze=False)
    for axes, (name, curves) in zip(panels[0], fits.items()):
        axes.plot(*map(np.ravel, truth), color="0.35", linewidth=2, label="true curve")
        axes.plot(*map(np.ravel, support), "k^", markersize=7, label="support examples")
        for shade, (steps, y) in zip(np.linspace(0.35, 1.0, len(curves)), curves):
            label = f"after {steps} step{'s' if steps != 1 else ''}"
            style = ":" if steps == 0 else "-"
            x = np.ravel(truth[0])
            axes.plot(x, np.ravel(y), style, alpha=shade, label=label)
        axes.set_title(name)
        axes.set_xlabel("x")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("y")
    handles = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(handles[0]))
    return saved(figure, path)


def plot_task(
    task: Mapping[str, Any], query_y: Any, path: str | pathlib.Path
) -> pathlib.Path:
    """One task: its support examples and its query examples.

    Args:
        task: `support_x`, `support_y` and `query_x`, arrays `[examples, ...]`: images
            with class numbers, or single numbers with single numbers. All others are
            drawn as the table of `task_text`.
        query_y: targets of the query examples.
        path: the PNG to write.

    Returns:
        The path.

    >>> import tempfile
    >>> from maml_keras.data import Sinusoid
    >>> task, query_y = Sinusoid(shots=5).sample([0, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot_task(task, query_y, pathlib.Path(folder, "a.png")).name
    'a.png'
    """
    if not is_images(task["support_x"]) and not is_curve(
        task["support_x"], task["support_y"]
    ):
        return _plot_table(task_text(task, query_y, width=100), path)
    support, query = (
        (np.asarray(x), np.asarray(y))
        for x, y in (
            (task["support_x"], task["support_y"]),
            (task["query_x"], query_y),
        )
    )
    if is_images(support[0]):
        return _plot_images(support, query, path)
    figure, axes = subplots(figsize=(6.4, 4.2))
    axes.plot(*map(np.ravel, support), "k^", markersize=7, label="support examples")
    axes.plot(*map(np.ravel, query), "o", markersize=4, label="query examples")
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    axes.grid(alpha=0.3)
    axes.legend()
    return saved(figure, path)


def _plot_table(text: str, path: str | pathlib.Path) -> pathlib.Path:
    lines = text.splitlines()
    size = 0.085 * max(map(len, lines)) + 0.4, 0.2 * len(lines) + 0.4
    figure, axes = subplots(figsize=size)
    axes.set_axis_off()
    axes.text(0, 1, text, family="monospace", fontsize=9, va="top", parse_math=False)
    return saved(figure, path)


# Limit for one class, because a task may hold hundreds of queries.
MOST_QUERIES_DRAWN = 8


def _plot_images(
    support: tuple[Any, Any], query: tuple[Any, Any], path: str | pathlib.Path
) -> pathlib.Path:
    """A row for each class: its support images, a gap, and its query images."""
    classes = np.unique(support[1])
    rows = [
        [
            support[0][support[1] == label],
            query[0][query[1] == label][:MOST_QUERIES_DRAWN],
        ]
        for label in classes
    ]
    shots = max(len(row[0]) for row in rows)
    columns = shots + 1 + max(len(row[1]) for row in rows)
    size = 0.9 * columns + 1, 0.9 * len(rows) + 0.6
    figure, panels = subplots(len(rows), columns, figsize=size, squeeze=False)
    for axes in panels.ravel():
        axes.set_axis_off()
    for label, row, line in zip(classes, rows, panels):
        line[0].text(-0.15, 0.5, f"class {label}", transform=line[0].transAxes)
        line[0].texts[-1].set(ha="right", va="center")
        for first, images in zip((0, shots + 1), row):
            for axes, image in zip(line[first:], images):
                axes.imshow(image.squeeze(), cmap="gray_r", vmin=0, vmax=1)
    panels[0][0].set_title("support", loc="left")
    panels[0][shots + 1].set_title("query", loc="left")
    return saved(figure, path)


def subplots(*shape: int, figsize: tuple[float, float], **options: Any) -> Any:
    """A figure and its axes, without pyplot.

    pyplot would choose a backend for the whole process: a notebook would stop to show
    the figures of its reader.
    """
    # Imported where it is used: matplotlib is heavy, and training does not need it.
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib. Install it with `pip install 'maml_keras[plot]'`."
        ) from error
    figure = Figure(figsize=figsize, layout="constrained")
    return figure, figure.subplots(*shape, **options)


def saved(figure: Any, path: str | pathlib.Path) -> pathlib.Path:
    """Writes a figure as a PNG, and returns its path."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
