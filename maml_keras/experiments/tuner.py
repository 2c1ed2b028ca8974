"""KerasTuner's oracles, and the tuner that runs our trials; needs KerasTuner."""

from __future__ import annotations

import contextlib
import io
import logging
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras_tuner

from maml_keras.experiments import trials
from maml_keras.experiments.search_space import Space
from maml_keras.experiments.trials import Outcome, Training

logger = logging.getLogger(__name__)

# KerasTuner's folder inside the search's.
PROJECT = "trials"
# Settings that the Hyperband oracle adds.
EPOCHS, BEFORE = "tuner/epochs", "tuner/trial_id"


def oracle(
    name: str, space: Space, *, higher: bool, number: int, epochs: int, seed: int
) -> keras_tuner.Oracle:
    """An oracle of KerasTuner, which proposes settings.

    Args:
        name: `"random"`, `"bayesian"` or `"hyperband"`.
        space: the settings to search.
        higher: bool, whether higher scores are better.
        number: int, trials of `"random"` and `"bayesian"`.
        epochs: int, of a whole training, which Hyperband divides.
        seed: int.
    """
    hyperparameters = keras_tuner.HyperParameters()
    for setting, values in space.items():
        values.add_to(hyperparameters, setting)
    shared = {
        "objective": keras_tuner.Objective("score", "max" if higher else "min"),
        "hyperparameters": hyperparameters,
        "seed": seed + 1,  # KerasTuner takes 0 for no seed.
    }
    make: dict[str, Callable[[], keras_tuner.Oracle]] = {
        "random": lambda: keras_tuner.oracles.RandomSearchOracle(
            max_trials=number, **shared
        ),
        "bayesian": lambda: keras_tuner.oracles.BayesianOptimizationOracle(
            max_trials=number, **shared
        ),
        "hyperband": lambda: keras_tuner.oracles.HyperbandOracle(
            max_epochs=epochs, **shared
        ),
    }
    return make[name]()


class Trials(keras_tuner.engine.base_tuner.BaseTuner):
    """Runs the trials that an oracle proposes, each in a folder of its own.

    An interrupted search continues: ended trials keep their outcome, and the trial
    that was running continues after its last epoch. A proposal that was tried already
    takes the outcome of that trial.

    Args:
        oracle: proposes the settings.
        folder: the search's folder.
        training: what all trials share.
        untrained: float, the score of the untrained network.
        stop_bad: bool, whether to stop a trial that is worse than half of the earlier
            trials at the same point.
        announce: called with a line when a trial begins or ends.
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        folder: pathlib.Path,
        training: Training,
        *,
        untrained: float,
        stop_bad: bool,
        announce: Callable[[str], None],
    ) -> None:
        oracle.verbose = 0
        self.training = training
        self.stop_bad = stop_bad
        self.announce = announce
        self.higher = oracle.objective.direction == "max"
        self.untrained = untrained
        with contextlib.redirect_stdout(io.StringIO()):  # It prints what it reloads.
            super().__init__(oracle, directory=str(folder), project_name=PROJECT)

    def searched(self) -> list[Outcome]:
        """Runs all trials that are missing, and returns all outcomes in order."""
        try:
            with _silenced():
                self.search(verbose=0)
        except _Broken as error:
            raise (error.__cause__ or error) from None
        folders = [self._folder(name) for name in self._ids()]
        for folder in folders:
            trials.forget(folder)
        found = [trials.read(folder) for folder in folders]
        return [outcome for outcome in found if outcome is not None]

    def run_trial(self, trial: Any, *_: Any, **__: Any) -> dict[str, float]:
        """Trains the trial, and tells the oracle its score.

        The oracle hears no score that is worse than that of the untrained network: a
        diverged trial counts like one that learnt nothing, and one huge loss does not
        hide the differences between the others.
        """
        try:
            outcome = self._outcome(trial)
        except Exception as error:
            # KerasTuner would count other errors as failed trials, and go on.
            raise _Broken(str(error)) from error
        better = max if self.higher else min
        return {"score": better(outcome.score, self.untrained)}

    def _outcome(self, trial: Any) -> Outcome:
        values = dict(trial.hyperparameters.values)
        changes = {k: v for k, v in values.items() if not k.startswith("tuner/")}
        epochs = values.get(EPOCHS, self.training.epochs)
        folder = self._folder(trial.trial_id)
        number = self._ids().index(trial.trial_id) + 1
        text = ", ".join(f"{k} {_form(v)}" for k, v in changes.items())
        known = trials.read(folder) or self._same(changes, epochs)
        if known is not None:
            trials.write(folder, known)
        else:
            self.announce(f"trial {number}: {text}")
            if (before := values.get(BEFORE)) is not None:
                trials.continue_from(folder, self._folder(before))
            known = self.training.run(
                changes,
                folder,
                epochs=epochs,
                is_bad=self._is_bad(),
                higher_is_better=self.higher,
            )
        if EPOCHS not in values:
            # No later trial continues this one.
            trials.forget(folder)
        self.announce(f"trial {number}: {known.end}, mean {known.mean:.4g}")
        return known

    def _same(self, changes: dict[str, Any], epochs: int) -> Outcome | None:
        """The outcome of an ended trial with the same settings and length."""
        for name in self._ids():
            found = trials.read(self._folder(name))
            if found is None or found.changes != changes:
                continue
            if found.epochs == epochs or found.end != trials.FINISHED:
                return found
        return None

    def _is_bad(self) -> Callable[[int, float], bool]:
        if not self.stop_bad:
            return lambda epochs, score: False
        ended = [(self._folder(i), trials.read(self._folder(i))) for i in self._ids()]
        curves = [
            trials.scores(folder, found, higher=self.higher)
            for folder, found in ended
            if found is not None
        ]
        first = trials.FROM_SHARE * self.training.epochs

        def is_bad(epochs: int, score: float) -> bool:
            if not first <= epochs < self.training.epochs:
                return False
            return trials.is_worse_than_half(score, curves, epochs, higher=self.higher)

        return is_bad

    def _ids(self) -> list[str]:
        return list(self.oracle.start_order)

    def _folder(self, name: str) -> pathlib.Path:
        return pathlib.Path(self.get_trial_dir(name))


class _Broken(keras_tuner.errors.FatalError):
    """An error that ends the search; its cause is the error."""


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Hides KerasTuner's warnings about its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # The optimiser that proposes the next point warns of its poor first guesses.
        warnings.filterwarnings("ignore", module="sklearn")
        yield


def _form(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
