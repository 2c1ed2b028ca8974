"""Exports: writes SavedModels, ONNX and LiteRT files and model cards, and reads exports
back as Keras models."""

from maml_keras.export.card import ModelCard, model_card
from maml_keras.export.conversion import convert, convert_file
from maml_keras.export.file_adaptation import adapt_file
from maml_keras.export.latency import measure
from maml_keras.export.learner_files import LearnerConversion
from maml_keras.export.predictor_files import Conversion
from maml_keras.export.reading import fine_tune, preparation, to_keras, warm_start

__all__ = [
    "Conversion",
    "LearnerConversion",
    "ModelCard",
    "adapt_file",
    "convert",
    "convert_file",
    "fine_tune",
    "measure",
    "model_card",
    "preparation",
    "to_keras",
    "warm_start",
]
