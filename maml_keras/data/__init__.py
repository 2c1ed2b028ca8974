"""Task families and the `tf.data` pipelines of episodes drawn from them."""

from maml_keras.data.episodes import episodes
from maml_keras.data.family import TaskFamily
from maml_keras.data.few_shot import NWayKShot
from maml_keras.data.omniglot import omniglot
from maml_keras.data.pool import Pool, from_arrays
from maml_keras.data.sinusoid import Sinusoid
from maml_keras.data.sources import DatasetNotFoundError, from_tfds
from maml_keras.data.split import split_classes

__all__ = [
    "DatasetNotFoundError",
    "NWayKShot",
    "Pool",
    "Sinusoid",
    "TaskFamily",
    "episodes",
    "from_arrays",
    "from_tfds",
    "omniglot",
    "split_classes",
]
