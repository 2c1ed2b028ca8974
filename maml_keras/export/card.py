"""The card of an export: its task, figures, training, size and latency."""

from __future__ import annotations

import pathlib
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np

from maml_keras.backend.printable import all_printable, printable
from maml_keras.export import card_file
from maml_keras.export.card_html import page
from maml_keras.export.card_text import Facts, facts, figure, headline

WIDTH = 88
# The most steps and queries of a call that is timed.
MOST_STEPS, MOST_QUERIES = 1_000, 1_000


@dataclass(frozen=True)
class ModelCard:
    """A card: `print` it, or write `.html()` to a file.

    Attributes:
        path: `pathlib.Path` of the export.
        card: dict, the content of `card.json`.
        files: dict, the size in bytes of each file of the export.
        adapting: int, number of parameters that adaptation changes.
        latency: dict of latencies measured on this machine; None if not measured.

    >>> card = ModelCard(pathlib.Path("export"), {"title": "Waves"}, {}, 1761, None)
    >>> card.title
    'Waves'
    """

    path: pathlib.Path
    card: dict[str, Any]
    files: dict[str, int]
    adapting: int
    latency: dict[str, Any] | None

    @property
    def title(self) -> str:
        """The title of the training, or the folder's name."""
        title = str(self.card.get("title") or printable(self.path.name))
        return " ".join(title.split())

    @property
    def facts(self) -> Facts:
        """Headings, each with its pairs of a label and a text."""
        return facts(
            self.card, files=self.files, adapting=self.adapting, latency=self.latency
        )

    @property
    def curve(self) -> list[tuple[str, str, str, str, str]]:
        """The evaluation step by step: step, mean, half-width, median, diverged."""
        evaluation = self.card.get("evaluation") or {}
        columns = [evaluation.get(key) for key in card_file.COLUMNS]
        metric = evaluation.get("metric")
        if not (all(columns) and metric):
            return []
        return [
            (
                str(step),
                figure(mean, metric),
                figure(half, metric),
                figure(median, metric),
                str(diverged),
            )
            for step, mean, half, median, diverged in zip(*columns)
        ]

    def html(self) -> str:
        """The card as one HTML page that needs no other file."""
        return page(self.title, self.card, self.facts, self.curve)

    def __str__(self) -> str:
        lines = [self.title, headline(self.card)]
        for heading, entries in self.facts.items():
            lines += ["", heading]
            wide = max(len(label) for label, _ in entries) + 4
            for label, value in entries:
                lines += textwrap.wrap(
                    value,
                    WIDTH,
                    initial_indent=f"  {label}".ljust(wide),
                    subsequent_indent=" " * wide,
                    break_on_hyphens=False,
                )
            if heading == "Evaluation" and self.curve:
                lines += ["", *self._table()]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        head = ("step", self.card["evaluation"]["metric"], "95% CI", "median")
        return [
            f"  {k:>4}  {m:>10}  {h:>9}  {d:>10}  {n}"
            for k, m, h, d, n in [
                (*head, "diverged"),
                *((k, m, f"±{h}", d, n) for k, m, h, d, n in self.curve),
            ]
        ]


def model_card(
    path: str | pathlib.Path, *, latency: bool = True, verbose: str | int = "auto"
) -> ModelCard:
    """Reads an export's card, and measures the export's latency on this machine.

    The figures come from `card.json`; a missing one is shown as "not recorded". `adapt`
    is timed in a separate process, for as many steps as the evaluation took, at most
    1,000.

    Args:
        path: folder of an export, or of a run that holds an export.
        latency: bool, whether to measure the latency, in about ten seconds.
        verbose: 0 for silence, else a progress bar while the latency is measured.

    Returns:
        A `ModelCard`; `str()` of it is the text, `.html()` the page.

    Raises:
        FileNotFoundError: if the folder holds no export.
        ValueError: if the card or the SavedModel is damaged, or the export cannot be
            timed, because it does not run on random inputs or takes too long.

    >>> model_card("saved_models/sinusoid", latency=False).title
    '10-shot regression of random sinusoids'
    """
    path = pathlib.Path(path)
    if (path / "export" / "saved_model.pb").exists():
        path = path / "export"
    for name in ("saved_model.pb", "card.json"):
        if not (path / name).exists():
            raise FileNotFoundError(
                "`path` must be an export, a folder with saved_model.pb and card.json. "
                f"Received: {path}, without {name}. Make an export with "
                "`maml-keras export RUN`, or with `maml.export(path)`."
            )
    # The card may come from a stranger, so its texts must not reach the terminal raw.
    card = all_printable(card_file.read(path))
    files = {
        printable(file.relative_to(path).as_posix()): file.stat().st_size
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
    return ModelCard(
        path=path,
        card=card,
        files=files,
        adapting=_adapting(path),
        latency=_latency(path, card, verbose) if latency else None,
    )


def _adapting(path: pathlib.Path) -> int:
    """The number of parameters that `predict_with` takes."""
    from maml_keras.export import reading

    function = getattr(reading.saved_model(path), "predict_with", None)
    if function is None:
        raise ValueError(
            f"`path` must be an export. Received: {path}, a SavedModel without the "
            "function `predict_with`, which another program wrote."
        )
    weights = function.concrete_functions[0].structured_input_signature[0][0]
    # Under some policies `predict_with` also takes the statistics of a task, which are
    # not parameters.
    statistics = "moving_mean", "moving_variance", "query_share"
    return sum(
        int(np.prod(spec.shape))
        for name, spec in weights.items()
        if name.rpartition("/")[-1] not in statistics
    )


def _latency(
    path: pathlib.Path, card: dict[str, Any], verbose: str | int
) -> dict[str, Any]:
    from maml_keras.export.latency import measure

    evaluation = card.get("evaluation") or {}
    steps = (evaluation.get("steps") or [None])[-1]
    if steps is None:
        steps = (card.get("inner_loop") or {}).get("steps") or 1
    queries = evaluation.get("queries_per_task") or None
    # If tasks differ in their number of queries, the largest task is timed.
    most = max(queries) if isinstance(queries, list) else queries
    return measure(
        path,
        # A card may state any number: the measurement must end.
        steps=min(max(1, steps), MOST_STEPS),
        queries=most and min(max(1, most), MOST_QUERIES),
        verbose=verbose,
    )
