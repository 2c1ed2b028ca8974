"""Task families, pools of examples, and `tf.data` pipelines of episodes."""

from maml_keras.data.arrays import from_arrays
from maml_keras.data.audit import audit
from maml_keras.data.audit_report import AuditReport
from maml_keras.data.class_numbers import ClassNumbers
from maml_keras.data.clients import Clients
from maml_keras.data.disk_pool import open_pool, to_disk
from maml_keras.data.episodes import episodes
from maml_keras.data.family import TaskFamily
from maml_keras.data.few_examples import FewExamples
from maml_keras.data.few_shot import NWayKShot
from maml_keras.data.folders import from_folder
from maml_keras.data.glyphs import glyphs
from maml_keras.data.image_preparation import ImagePreparation
from maml_keras.data.image_sets import cifar_fs, fc100, mini_imagenet
from maml_keras.data.image_splits import cub, meta_dataset, tiered_imagenet
from maml_keras.data.meta_album import meta_album
from maml_keras.data.mixture import Mixture
from maml_keras.data.omniglot import omniglot
from maml_keras.data.omniglot_splits import split_omniglot
from maml_keras.data.padding import check_padding
from maml_keras.data.pool import Pool
from maml_keras.data.preparation import Preparation
from maml_keras.data.series import from_series
from maml_keras.data.shots_draws import ImbalancedShots
from maml_keras.data.sinusoid import Sinusoid, SinusoidOracle
from maml_keras.data.split import split_classes, split_tasks
from maml_keras.data.table_preparation import TablePreparation
from maml_keras.data.tables import from_table
from maml_keras.data.task_table import TaskTable
from maml_keras.data.text_preparation import TextPreparation
from maml_keras.data.tfds import DatasetNotFoundError, from_tfds
from maml_keras.data.transformed import Rotated, Transformed
from maml_keras.data.without_replacement import WithoutReplacement

__all__ = [
    "AuditReport",
    "ClassNumbers",
    "Clients",
    "DatasetNotFoundError",
    "FewExamples",
    "ImagePreparation",
    "ImbalancedShots",
    "Mixture",
    "NWayKShot",
    "Pool",
    "Preparation",
    "Rotated",
    "Sinusoid",
    "SinusoidOracle",
    "TablePreparation",
    "TaskFamily",
    "TaskTable",
    "TextPreparation",
    "Transformed",
    "WithoutReplacement",
    "audit",
    "check_padding",
    "cifar_fs",
    "cub",
    "episodes",
    "fc100",
    "from_arrays",
    "from_folder",
    "from_series",
    "from_table",
    "from_tfds",
    "glyphs",
    "meta_album",
    "meta_dataset",
    "mini_imagenet",
    "omniglot",
    "open_pool",
    "split_classes",
    "split_omniglot",
    "split_tasks",
    "tiered_imagenet",
    "to_disk",
]
