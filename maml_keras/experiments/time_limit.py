"""Training for a given time in place of a number of meta-steps."""

from __future__ import annotations

import time
from typing import Any

import keras

from maml_keras.experiments.preset import Preset
from maml_keras.monitoring.epoch_log import Stopwatch
from maml_keras.outer.maml import MAML

# Looks at validation tasks in the time: points of a learning curve.
LOOKS = 20
# A probe ends after so many seconds, or so many epochs of so many meta-steps.
LONGEST_PROBE = 5.0
PROBE_EPOCHS, PROBE_STEPS = 20, 20


class Clock(keras.callbacks.Callback):
    """Ends training when its time is used up; the outer rate follows the time used.

    After a share s of the time the rate is `schedule(s * iterations)`: a schedule that
    falls to zero is there when time is up, however fast the machine was meanwhile.
    What counts as time is the stopwatch's affair: put it before the clock.

    Args:
        seconds: float, positive.
        stopwatch: the `Stopwatch` of the same `fit`.
        schedule: the outer rate by meta-step, or None to leave the rate alone.
        iterations: int, meta-steps of the whole schedule.
        verbose: 0 for silence, else a bar of the seconds, in place of `fit`'s own.

    Raises:
        ValueError: if there is no time.
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
        """The share of the time that is used, at most 1."""
        return min(1.0, self.stopwatch.elapsed() / self.seconds)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Shows the bar: the call that compiles may take long."""
        if self._bar.verbose:
            self._bar.update(round(self.stopwatch.elapsed(), 1))

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Sets the rate."""
        if self.schedule is not None:
            rate = self.schedule(self.share() * self.iterations)
            self.model.optimizer.learning_rate = rate

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Stops `fit` if time is up."""
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
        """Ends the bar's line where training ended before its time."""
        if self._bar.verbose and not self._ended:
            self._bar.update(self._shown, finalize=True)


class Paced(keras.callbacks.Callback):
    """Calls another at the end of an epoch at most `LOOKS` times until time is up.

    Epochs turn out shorter than they were planned if the machine is faster than the
    plan; what looks at validation tasks would then do little else. Where a look takes
    long there are fewer: they never have more time than training had, but for the
    first and the last.

    Args:
        callback: the other one.
        clock: the `Clock` of the same `fit`, before this.
    """

    def __init__(self, callback: keras.callbacks.Callback, clock: Clock) -> None:
        super().__init__()
        self.callback = callback
        self.clock = clock
        self._next = 1
        self._spent = 0.0

    def set_params(self, params: dict[str, Any]) -> None:
        """Passes them on."""
        self.callback.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        """Passes it on."""
        super().set_model(model)
        self.callback.set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Passes it on."""
        self.callback.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Passes it on."""
        self.callback.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Passes it on if another share of the time has passed, and at the end."""
        # A plan that was right ends its epochs a little before or after the share.
        share = round(self.clock.share() * LOOKS, 1)
        due = share >= self._next and self._spent <= self.clock.stopwatch.elapsed()
        if due or self.model.stop_training:
            self._next = int(share) + 1
            begun = time.perf_counter()
            self.callback.on_epoch_end(epoch, logs)
            self._spent += time.perf_counter() - begun

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Passes it on."""
        self.callback.on_train_end(logs)


def take_schedule(maml: MAML) -> Any:
    """Gives a compiled model's optimizer a plain rate, and returns its schedule.

    Args:
        maml: a compiled model; it is compiled anew if it has a schedule.

    Returns:
        The `keras.optimizers.schedules.LearningRateSchedule`, or None if the rate was
        plain already.
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
    """About how many meta-steps fit, by a short run of a model that is thrown away.

    Args:
        preset: what is to be trained.
        algorithm: str, the name of a recipe.
        seconds: float, the time.
        where: keywords `data_dir` and `download`.
        verbose: 0 for silence, else bars of the data's preparation and of the seconds.

    Returns:
        A multiple of `LOOKS`, at least that.
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
    keras.utils.clear_session()  # Which takes the user's policy with it.
    keras.config.set_dtype_policy(policy)
    epoch = max(1, int(stopwatch.steps_a_second * seconds) // LOOKS)
    # Round, because what XLA runs in one call must divide it.
    round_to = 100 if epoch >= 200 else 10 if epoch >= 20 else 1
    return LOOKS * (epoch - epoch % round_to)
