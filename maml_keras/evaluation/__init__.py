"""Evaluation of adaptation: accuracy and loss step by step over many new tasks, with
intervals, tables and plots."""

from maml_keras.evaluation.calibration import Calibration
from maml_keras.evaluation.ensemble import Ensemble, evaluate_ensemble
from maml_keras.evaluation.evaluate import evaluate_episodes
from maml_keras.evaluation.over_seeds import SeedMean
from maml_keras.evaluation.plots import plot_curves, plot_fits, plot_task
from maml_keras.evaluation.rate_curve import RateCurve, rate_curve
from maml_keras.evaluation.reliability_plot import plot_reliability
from maml_keras.evaluation.result import Evaluation, half_width
from maml_keras.evaluation.task_tables import task_text
from maml_keras.evaluation.trace import InnerTrace, trace_inner_loop

__all__ = [
    "Calibration",
    "Ensemble",
    "Evaluation",
    "InnerTrace",
    "RateCurve",
    "SeedMean",
    "evaluate_ensemble",
    "evaluate_episodes",
    "half_width",
    "plot_curves",
    "plot_fits",
    "plot_reliability",
    "plot_task",
    "rate_curve",
    "task_text",
    "trace_inner_loop",
]
