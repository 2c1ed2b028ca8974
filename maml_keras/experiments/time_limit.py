"""Training for a given time in place of a number of meta-steps."""

from __future__ import annotations

import time
from typing import Any

import keras

from maml_keras.experiments.preset import Preset
from maml_keras.monitoring.epoch_log import Stopwatch
from maml_keras.outer.maml import MAML

# How often a run by time looks at validation tasks: the points of its learning curve.
LOOKS = 20
# A probe ends after `LONGEST_PROBE` seconds, or after `PROBE_EPOCHS` epochs of
# `PROBE_STEPS` meta-steps.
LONGEST_PROBE = 5.0
PROBE_EPOCHS, PROBE_STEPS = 20, 20


class Clock(keras.callbacks.Callback):
    """Ends training when its time is used up; the outer rate follows the time used.

    After a share s of the time the rate is `schedule(s * iterations)`. A schedule that
    falls to zero thus reaches zero when the time is up, at any speed of the machine.
    The stopwatch decides which time counts; list it before the clock in `callbacks`.

    Args:
        seconds: float, positive.
        stopwatch: the `Stopwatch` of the same `fit`.
        schedule: the outer rate by meta-step, or None to leave the rate unchanged.
        iterations: int, meta-steps of the whole schedule.
        verbose: 0 for silence, else a bar of the seconds, in place of `fit`'s own.

    Raises:
        ValueError: if `seconds` is not positive.
    """

    def __init__(
        self,
        seconds: float,
        stopwatch: Stopwatch,
        *,
        schedule: Any = None,
        iterations: int = 0,
        verbose: str | int = 0,
    ) -> None:
        super().__init__()
        if not float(seconds) > 0.0:
            raise ValueError(f"`seconds` must be positive. Received: {seconds}.")
        self.seconds = float(seconds)
        self.stopwatch = stopwatch
        self.schedule = schedule
        self.iterations = iterations
        self._shown, self._ended = 0.0, False
        self._bar = keras.utils.Progbar(
            self.seconds, verbose=1 if verbose else 0, unit_name="second"
        )

    def share(self) -> float:
        """The used share of the time, at most 1."""
        return min(1.0, self.stopwatch.elapsed() / self.seconds)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Shows the bar at once, because the first call compiles and may take long."""
        if self._bar.verbose:
            self._bar.update(round(self.stopwatch.elapsed(), 1))

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Sets the outer rate."""
        if self.schedule is not None:
            rate = self.schedule(self.share() * self.iterations)
            self.model.optimizer.learning_rate = rate

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Stops `fit` if the time is up."""
        elapsed = self.stopwatch.elapsed()
        over = elapsed >= self.seconds
        if over:
            self.model.stop_training = True
        if self._bar.verbose:
            values = [(name, float(value)) for name, value in (logs or {}).items()]
            self._bar.stateful_metrics = {name for name, _ in values}
            self._shown = min(self.seconds, round(elapsed, 1))
            self._bar.update(self._shown, values, finalize=over)
            self._ended = over

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends the bar's line if training ended before its time."""
        if self._bar.verbose and not self._ended:
            self._bar.update(self._shown, finalize=True)


class Paced(keras.callbacks.Callback):
    """Limits how often another callback looks at validation tasks.

    The other callback's `on_epoch_end` is called about `LOOKS` times in a run, and
    always at the end of training. If the machine is faster than planned, epochs are
    short, and a look after each of them would take most of the time. Looks together
    never take more time than training, except for the first and the last.

    Args:
        callback: the other callback.
        clock: the `Clock` of the same `fit`; list it before this callback.
    """

    def __init__(self, callback: keras.callbacks.Callback, clock: Clock) -> None:
        super().__init__()
        self.callback = callback
        self.clock = clock
        self._next = 1
        self._spent = 0.0

    def set_params(self, params: dict[str, Any]) -> None:
        """Passes the parameters to the other callback."""
        self.callback.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        """Passes the model to the other callback."""
        super().set_model(model)
        self.callback.set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Passes the call to the other callback."""
        self.callback.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Passes the call to the other callback."""
        self.callback.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Passes the call on if another share of the time has passed, or at the end."""
        # With a good plan an epoch ends shortly before or after its share of the time,
        # so the share is rounded.
        share = round(self.clock.share() * LOOKS, 1)
        due = share >= self._next and self._spent <= self.clock.stopwatch.elapsed()
        if due or self.model.stop_training:
            self._next = int(share) + 1
            begun = time.perf_counter()
            self.callback.on_epoch_end(epoch, logs)
            self._spent += time.perf_counter() - begun

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Passes the call to the other callback."""
        self.callback.on_train_end(logs)


def take_schedule(maml: MAML) -> Any:
    """Replaces the schedule of a model's outer rate by a constant, and returns it.

    Args:
        maml: a compiled model; a model with a schedule is compiled again.

    Returns:
        The `keras.optimizers.schedules.LearningRateSchedule`, or None if the rate was
        constant already.
    """
    config = maml.get_compile_config()
    settings = config["optimizer"]["config"]
    if not isinstance(settings["learning_rate"], dict):
        return None
    schedule = keras.optimizers.schedules.deserialize(settings["learning_rate"])
    settings["learning_rate"] = float(schedule(0))
    maml.compile_from_config(config)
    return schedule


def steps_within(
    preset: Preset,
    algorithm: str,
    seconds: float,
    where: dict[str, Any],
    verbose: str | int = 0,
) -> int:
    """Estimates how many meta-steps fit in the time, by a short training run.

    Args:
        preset: the experiment.
        algorithm: str, the name of a recipe.
        seconds: float, the time.
        where: keywords `data_dir` and `download` of `Preset.families`.
        verbose: 0 for silence, else bars for the data's preparation and the seconds.

    Returns:
        A multiple of `LOOKS`, at least `LOOKS`.
    """
    families = preset.families(**where, verbose=verbose)
    maml = preset.build(algorithm)
    stopwatch = Stopwatch()
    limit = Clock(min(LONGEST_PROBE, seconds / LOOKS), stopwatch, verbose=verbose)
    maml.fit(
        preset.episodes(algorithm, families, 0),
        steps_per_epoch=PROBE_STEPS,
        epochs=PROBE_EPOCHS,
        verbose=0,
        callbacks=[stopwatch, limit],
    )
    policy = keras.config.dtype_policy()
    keras.utils.clear_session()  # Keras also resets the dtype policy here.
    keras.config.set_dtype_policy(policy)
    epoch = max(1, int(stopwatch.steps_a_second * seconds) // LOOKS)
    # An epoch of a round number of meta-steps can be divided into equal calls of
    # several meta-steps each.
    round_to = 100 if epoch >= 200 else 10 if epoch >= 20 else 1
    return LOOKS * (epoch - epoch % round_to)
