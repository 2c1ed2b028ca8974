"""Writes TensorBoard's page HParams for a comparison: one run for each contender."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from maml_keras.evaluation.result import Evaluation
from maml_keras.outer.maml import MAML


def settings_of(maml: MAML) -> dict[str, Any]:
    """The settings that distinguish a contender, as plain values.

    >>> from maml_keras import InnerLoop, MetaSGD, models
    >>> settings_of(MAML(models.mlp(), InnerLoop("mse", MetaSGD(0.5), steps=3)))
    {'rule': 'MetaSGD', 'inner rate': 0.5, 'inner steps': 3, 'meta-gradient': \
'Backprop, second order', 'batch norm': 'transductive'}
    """
    rate = maml.rule.fixed_rate
    if rate is None:  # For learned rates, show their initial value.
        rate = getattr(maml.rule, "learning_rate", float("nan"))
    return {
        "rule": maml.rule.title,
        "inner rate": float(rate),
        "inner steps": maml.inner.steps,
        "meta-gradient": maml.meta_gradient.title(maml.inner),
        "batch norm": maml.learner.batch_norm.name,
    }


def write_contenders(
    folder: str | pathlib.Path,
    settings: Mapping[str, Mapping[str, Any]],
    results: Mapping[str, Evaluation],
    seconds: Mapping[str, float],
) -> None:
    """Writes a run for each contender: its settings and its results on test tasks.

    The axis of `test/<metric>` has adaptation steps, so that the page Scalars shows
    the adaptation of all contenders in one chart. HParams shows the last step.

    Args:
        folder: a folder below TensorBoard's, for this page alone; its content is
            replaced.
        settings: values by name, by contender.
        results: an `Evaluation` by contender.
        seconds: training time by contender.
    """
    # Imported here, because the import takes a second.
    from tensorboard.plugins.hparams import api

    folder = pathlib.Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    first = next(iter(results.values()))
    metric = f"test/{first.metric}"
    # The most important metrics come first: the page cuts off what does not fit.
    shown = {
        metric: f"{first.metric} after the last step",
        "test/first": f"{first.metric} after the first step",
        "test/before": f"{first.metric} before adaptation",
        "test/half_width": "± 95% after the last step",
        "test/diverged": "diverged tasks",
        "train/seconds": "training, seconds",
    }
    # The algorithm is the name of the trial.
    names = list(dict.fromkeys(k for s in settings.values() for k in s))
    top = tf.summary.create_file_writer(str(folder))
    with top.as_default(step=0):
        api.hparams_config(
            hparams=[api.HParam(name) for name in names],
            metrics=[api.Metric(tag, display_name=text) for tag, text in shown.items()],
        )
    top.close()
    for name, result in results.items():
        writer = tf.summary.create_file_writer(str(folder / name))
        with writer.as_default(step=0):
            api.hparams(dict(settings[name]), trial_id=name)
            tf.summary.scalar("test/before", result.curve[0])
            tf.summary.scalar("test/first", result.curve[min(1, result.steps)])
            tf.summary.scalar("test/half_width", result.half_width)
            tf.summary.scalar("test/diverged", result.diverged[-1])
            tf.summary.scalar("train/seconds", seconds[name])
            for k, value in enumerate(result.curve):
                tf.summary.scalar(metric, value, step=k, description=result.caption)
        writer.close()
