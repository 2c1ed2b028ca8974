"""One algorithm of a comparison: checked, and trained or loaded."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from typing import Any

import keras

from maml_keras.backend import documents
from maml_keras.experiments import baselines, run_folder, runs
from maml_keras.experiments.own_settings import Choice
from maml_keras.experiments.preset import Families, Preset
from maml_keras.experiments.time_limit import LOOKS, Clock
from maml_keras.monitoring.epoch_log import Stopwatch
from maml_keras.outer.maml import MAML

# A trained baseline's settings and training time, in a file beside its model.
BASELINE = "baseline.json"
FACTS = {
    "preset": documents.TEXT,
    "seed": documents.WHOLE,
    "iterations": documents.WHOLE,
    "seconds": documents.NUMBER,
    "chosen": dict.fromkeys(Choice._fields, documents.NUMBER),
}


class Contender:
    """One algorithm of a comparison, trained now or loaded from its folder."""

    def __init__(
        self,
        preset: Preset,
        name: str,
        folder: pathlib.Path,
        seed: int,
        where: dict[str, Any],
        verbose: str | int,
    ) -> None:
        self.preset = preset
        self.name = name
        self.folder = folder
        self.seed = seed
        self.where = where
        self.verbose = verbose
        self.iterations = 0
        self.seconds = 0.0
        self.choice: Choice | None = None

    @property
    def own_steps(self) -> int:
        """The steps that a baseline chose; 0 without a choice."""
        return self.choice.steps if self.choice else 0

    @staticmethod
    def check(
        preset: Preset,
        name: str,
        where: dict[str, Any],
        iterations: int | None,
        seconds: float | None,
    ) -> None:
        """Refuses an algorithm or a length that does not suit the preset.

        Raises:
            ValueError: if the algorithm or the length does not suit it.
        """
        if name not in baselines.BASELINES:
            preset.build(name)
            if seconds is None:
                epoch_length(
                    preset, preset.iterations if iterations is None else iterations
                )
        else:
            baselines.check(name, preset, **where)

    def trained(
        self, iterations: int | None, seconds: float | None, command: str
    ) -> tuple[MAML, Families]:
        """The trained model, and the task families to test it on."""
        if (self.folder / run_folder.CONFIG).exists():
            # This run has begun already, so it keeps the length it began with.
            begun = run_folder.read_config(self.folder, "preset", "iterations")
            self._match(begun)
            iterations, seconds = int(begun["iterations"]), begun.get("seconds")
        elif seconds is not None:
            iterations = None
        if self.name in baselines.BASELINES:
            return self._baseline(iterations, seconds)
        return self._recipe(iterations, seconds, command)

    def _baseline(
        self, iterations: int | None, seconds: float | None
    ) -> tuple[MAML, Families]:
        kept = self.folder / BASELINE
        if kept.exists():
            facts = _facts(kept)
            self._match(facts)
            chosen = facts.get("chosen")
            # A baseline of an earlier version has not chosen its settings.
            if chosen or self.name not in baselines.CHOOSING:
                self.seconds, self.iterations = facts["seconds"], facts["iterations"]
                self.choice = chosen and Choice(**chosen)
                maml = self._loaded_baseline()
                where = {**self.where, "verbose": self.verbose}
                return maml, baselines.families(self.name, self.preset, **where)
        stopwatch = Stopwatch()
        callbacks: list[Any] = [stopwatch]
        verbose = self.verbose
        if seconds is not None:
            callbacks.append(Clock(seconds, stopwatch, verbose=verbose))
            # The clock ends this run, so the number of steps is without limit.
            iterations, verbose = sys.maxsize, 0
        trained = baselines.BASELINES[self.name](
            self.preset,
            iterations=iterations,
            seed=self.seed,
            verbose=verbose,
            callbacks=callbacks,
            **self.where,
        )
        self.seconds, self.iterations = stopwatch.seconds, stopwatch.steps
        if self.name in baselines.CHOOSING:
            self.choice = Choice.of(trained[0])
        self.folder.mkdir(parents=True, exist_ok=True)
        trained[0].save(self.folder / runs.MODEL)
        facts = {
            "preset": self.preset.name,
            "seed": self.seed,
            "iterations": self.iterations,
            "seconds": self.seconds,
            **({"chosen": self.choice._asdict()} if self.choice else {}),
        }
        # Written last and renamed: its presence proves that the model file is complete.
        unfinished = kept.with_name(f"new-{BASELINE}")
        unfinished.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(kept)
        return trained

    def _loaded_baseline(self) -> MAML:
        path = self.folder / runs.MODEL
        try:
            # A baseline never uses its outer optimizer: do not load one.
            maml: MAML = keras.saving.load_model(path, compile=False)
        except Exception as error:
            raise ValueError(
                f"{path} cannot be loaded: {documents.reason(error)}. Remove "
                f"{self.folder}, and the comparison trains '{self.name}' again."
            ) from error
        return maml

    def _match(self, begun: dict[str, Any]) -> None:
        """Refuses a run that began with another preset or seed."""
        wanted = {"preset": self.preset.name, "seed": self.seed}
        found = {key: begun.get(key) for key in wanted}
        if found != wanted:
            raise ValueError(
                f"The run in {self.folder} must have {wanted} to be compared. "
                f"Received: {found}. Move the run away, or choose another folder."
            )

    def _recipe(
        self, iterations: int | None, seconds: float | None, command: str
    ) -> tuple[MAML, Families]:
        preset = self.preset
        if seconds is None:
            iterations = preset.iterations if iterations is None else iterations
            preset = dataclasses.replace(preset, epoch=epoch_length(preset, iterations))
        maml = runs.finished(self.folder)
        if maml is None:
            runs.train(
                preset,
                self.folder,
                algorithm=self.name,
                iterations=iterations,
                seconds=seconds,
                seed=self.seed,
                resume=(self.folder / run_folder.CONFIG).exists(),
                verbose=self.verbose,
                command=command,
                **self.where,
            )
            # Loaded, so that a resumed comparison evaluates the same object.
            maml = keras.saving.load_model(self.folder / runs.MODEL)
        # Without a readable history, the training time is not known.
        rows = runs.history(self.folder) or [{}]
        self.seconds = rows[-1].get("seconds", float("nan"))
        self.iterations = int(maml.optimizer.iterations.numpy())
        return maml, preset.families(**self.where, verbose=self.verbose)


def _facts(path: pathlib.Path) -> dict[str, Any]:
    """The checked content of a `baseline.json`."""
    facts: dict[str, Any] = documents.read_json(path)
    documents.check(path, facts, FACTS)
    chosen = facts.get("chosen")
    missing = FACTS.keys() - {"chosen"} - facts.keys()
    # A baseline of an earlier version has not chosen a regularisation.
    required = {*Choice._fields} - {*Choice._field_defaults}
    fits = not chosen or required <= chosen.keys() <= {*Choice._fields}
    if missing or not fits:
        raise ValueError(
            f"{path} must hold {', '.join(FACTS)}. Received: {facts}. Remove "
            f"{path.parent}, and the comparison trains the baseline again."
        )
    return facts


def epoch_length(preset: Preset, iterations: int) -> int:
    """Meta-steps in an epoch, such that a run has at least `LOOKS` epochs if it can.

    Each epoch ends with a point of the learning curve.

    Raises:
        ValueError: if whole epochs do not fill `iterations`.
    """
    if iterations >= 1:
        for epochs in (max(LOOKS, iterations // preset.epoch), LOOKS):
            if iterations % epochs == 0:
                return iterations // epochs
        if iterations % min(preset.epoch, iterations) == 0:
            return preset.epoch
    raise ValueError(
        f"`iterations` must be a multiple of {LOOKS} or of {preset.epoch}. Received: "
        f"{iterations}. Take {max(1, iterations // LOOKS) * LOOKS}."
    )
