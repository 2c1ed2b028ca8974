"""Monitoring of a run: TensorBoard's scalars and pictures, diagnoses in plain words,
and the log of epochs."""

from maml_keras.monitoring import diagnoses, pictures, views
from maml_keras.monitoring.adaptation_curves import AdaptationCurves, write_curve
from maml_keras.monitoring.tensorboard_layout import Layout
from maml_keras.monitoring.watch import Watch

__all__ = [
    "AdaptationCurves",
    "Layout",
    "Watch",
    "diagnoses",
    "pictures",
    "views",
    "write_curve",
]
