"""Task families, pools of examples, and `tf.data` pipelines of episodes."""

from maml_keras.data.class_numbers import ClassNumbers
from maml_keras.data.episodes import episodes
from maml_keras.data.family import TaskFamily
from maml_keras.data.few_shot import NWayKShot
from maml_keras.data.folders import from_folder
from maml_keras.data.image_sets import cifar_fs, mini_imagenet
from maml_keras.data.omniglot import omniglot
from maml_keras.data.pool import Pool, from_arrays
from maml_keras.data.sinusoid import Sinusoid, SinusoidOracle
from maml_keras.data.split import split_classes
from maml_keras.data.tfds import DatasetNotFoundError, from_tfds

__all__ = [
    "ClassNumbers",
    "DatasetNotFoundError",
    "NWayKShot",
    "Pool",
    "Sinusoid",
    "SinusoidOracle",
    "TaskFamily",
    "cifar_fs",
    "episodes",
    "from_arrays",
    "from_folder",
    "from_tfds",
    "mini_imagenet",
    "omniglot",
    "split_classes",
]
