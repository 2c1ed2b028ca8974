"""`Transformed` and `Rotated`: tasks whose images are changed at random."""

from typing import Any, Literal, final

import keras
import numpy as np
import tensorflow as tf

from maml_keras.data.family import Episode, TaskFamily, first_row
from maml_keras.data.seeds import as_seed

PARTS: dict[str, tuple[str, ...]] = {
    "support": ("support_x",),
    "query": ("query_x",),
    "both": ("support_x", "query_x"),
}

# What `fold_in` adds to a task's seed, so that its draws are not those of its family.
SALT = 20_817


@final
class Transformed(TaskFamily):
    """Tasks whose inputs pass through a Keras layer, such as random augmentation.

    The layer's random numbers come from the seed of the episode, so episode i stays a
    pure function of `(seed, i)`: the state of each `keras.random.SeedGenerator` of the
    layer is set for each task and part. Each example has a change of its own. The
    layer is called with `training=True`, and nothing in it changes.

    Args:
        tasks: the family; its labels, classes and order stay the same.
        layer: a `keras.layers.Layer`, such as `RandomFlip()` or a `Pipeline`.
        on: `"support"`, `"query"` or `"both"`.

    Raises:
        ValueError: if `on` is unknown, or the layer changes its own state or draws
            random numbers from elsewhere.

    >>> from maml_keras.data import NWayKShot, from_arrays
    >>> x = np.random.default_rng(0).random([20, 8, 8, 1])
    >>> tasks = NWayKShot(from_arrays(x, np.arange(20) % 4), ways=2, shots=1, queries=2)
    >>> flipped = Transformed(tasks, keras.layers.RandomFlip(), on="support")
    >>> flipped.sample([0, 1])[0]["support_x"].shape
    TensorShape([2, 8, 8, 1])
    """

    def __init__(
        self,
        tasks: TaskFamily,
        layer: keras.layers.Layer,
        *,
        on: Literal["support", "query", "both"] = "support",
    ) -> None:
        if on not in PARTS:
            raise ValueError(f"`on` must be one of {list(PARTS)}. Received: on={on!r}.")
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(
                "`layer` must be a Keras layer, such as `keras.layers.RandomFlip()`. "
                f"Received: {layer!r}. Wrap a function with `keras.layers.Lambda`."
            )
        self.tasks = tasks
        self.layer = layer
        self.on = on
        self.chunk = tasks.chunk
        example = tasks.sample([0, 1])[0][PARTS[on][0]]
        if not layer.built:
            layer(example)  # Creates the layer's variables.
        _check_pure(layer, example)
        self._change = tf.function(
            self._of_each_task, autograph=False, reduce_retracing=True
        )

    def __repr__(self) -> str:
        return f"Transformed({self.tasks!r}, {self.layer.name!r}, on={self.on!r})"

    def sample(self, seed: Any) -> Episode:
        """One task: the first of `sample_many(seed, 1)`."""
        return first_row(self.sample_many(seed, 1))

    def sample_many(self, seed: Any, count: int) -> Episode:
        """Many tasks of the family, transformed."""
        return self.fill(self.plan(seed, count))

    def plan(self, seed: Any, count: int) -> dict[str, Any]:
        """The plan of the family, and a seed for each task."""
        seeds = tf.random.split(tf.random.fold_in(as_seed(seed), SALT), count)
        return {"tasks": self.tasks.plan(seed, count), "seeds": seeds}

    def fill(self, plan: Any) -> Episode:
        """The tasks of a plan, transformed task by task."""
        task, query_y = self.tasks.fill(plan["tasks"])
        for place, part in enumerate(PARTS[self.on]):
            task = {**task, part: self._change(task[part], plan["seeds"], place)}
        return task, query_y

    def _of_each_task(self, x: Any, seeds: Any, place: int) -> Any:
        """Inputs `[tasks, examples, ...]` after the layer."""

        def one(row: tuple[Any, Any]) -> Any:
            inputs, seed = row
            return called(self.layer, inputs, tf.random.fold_in(seed, place))[0]

        row = tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape[1:], t.dtype), (x, seeds)
        )
        like = tf.function(one, autograph=False).get_concrete_function(row)
        spec = tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape, t.dtype), like.structured_outputs
        )
        return tf.map_fn(one, (x, seeds), fn_output_signature=spec)


def called(layer: Any, x: Any, seed: Any) -> tuple[Any, Any]:
    """The layer's output with all its generators seeded, and the scope of the call.

    Args:
        layer: a built layer.
        x: its input.
        seed: int tensor `[2]`.
    """
    mapping = []
    for place, variable in enumerate(layer.variables):
        value = tf.convert_to_tensor(variable.value)
        if _is_seed(variable):
            drawn = tf.random.stateless_uniform(
                [2], tf.random.fold_in(seed, place), 0, tf.int32.max, tf.int32
            )
            value = tf.cast(drawn, value.dtype)
        mapping.append((variable, value))
    with keras.StatelessScope(state_mapping=mapping) as scope:
        return layer(x, training=True), (scope, mapping)


def _check_pure(layer: Any, x: Any) -> None:
    """Refuses a layer whose output is no function of its input and the seed."""
    seed = tf.constant([0, 1], tf.int64)
    first, (scope, mapping) = called(layer, x, seed)
    known = {id(variable) for variable, _ in mapping}
    state = [v for v, given in mapping if scope.get_current_value(v) is not given]
    changed = [v.path for v in state if not _is_seed(v)]
    if changed:
        raise ValueError(
            f"`layer` must not change its own state. Received: '{layer.name}', which "
            f"assigns '{changed[0]}'. Use a layer without such a variable."
        )
    again, _ = called(layer, x, seed)
    same = all(
        np.array_equal(a, b)
        for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(again))
    )
    if set(scope.state_mapping) - known or not same:
        raise ValueError(
            f"`layer` must draw its random numbers from a generator of its own. "
            f"Received: '{layer.name}', whose numbers do not come from the seed of the "
            "episode. Make `self.seeds = keras.random.SeedGenerator(1)` in `__init__`, "
            "and pass `seed=self.seeds` to the functions of `keras.random`."
        )


def _is_seed(variable: Any) -> bool:
    return variable.name == "seed_generator_state" and tuple(variable.shape) == (2,)


@final
class Rotated(TaskFamily):
    """Tasks whose images are all turned by one random multiple of 90 degrees.

    All images of a task turn together, so the classes stay what they are. With
    `NWayKShot(rotate_classes=True)` each class of a task turns by itself, which makes
    four classes of one.

    Args:
        tasks: a family with square images `[examples, height, width, channels]`.

    Raises:
        ValueError: if the inputs are no square images.

    >>> from maml_keras.data import NWayKShot, from_arrays
    >>> x = np.zeros([20, 8, 8, 1])
    >>> tasks = NWayKShot(from_arrays(x, np.arange(20) % 4), ways=2, shots=1, queries=2)
    >>> Rotated(tasks).sample([0, 1])[0]["query_x"].shape
    TensorShape([4, 8, 8, 1])
    """

    def __init__(self, tasks: TaskFamily) -> None:
        self.tasks = tasks
        self.chunk = tasks.chunk
        shape = tasks.sample([0, 1])[0]["support_x"].shape
        if shape.rank != 4 or shape[1] != shape[2]:
            raise ValueError(
                "`tasks` must have square images [examples, height, width, channels]. "
                f"Received: support_x of shape {tuple(shape)}."
            )

    def __repr__(self) -> str:
        return f"Rotated({self.tasks!r})"

    def sample(self, seed: Any) -> Episode:
        """One task: the first of `sample_many(seed, 1)`."""
        return first_row(self.sample_many(seed, 1))

    def sample_many(self, seed: Any, count: int) -> Episode:
        """Many tasks of the family, turned."""
        return self.fill(self.plan(seed, count))

    def plan(self, seed: Any, count: int) -> dict[str, Any]:
        """The plan of the family, and the quarter turns of each task."""
        drawn = tf.random.fold_in(as_seed(seed), SALT)
        turns = tf.random.stateless_uniform([count], drawn, 0, 4, tf.int32)
        return {"tasks": self.tasks.plan(seed, count), "turns": turns}

    def fill(self, plan: Any) -> Episode:
        """The tasks of a plan, turned."""
        task, query_y = self.tasks.fill(plan["tasks"])
        turned = {name: _turned(task[name], plan["turns"]) for name in PARTS["both"]}
        return {**task, **turned}, query_y


def _turned(x: Any, turns: Any) -> Any:
    """Images `[tasks, examples, h, h, channels]` turned by `turns` quarters."""
    turns = turns[:, None, None, None, None]
    # One turn is a transposition and a flip of the rows; two turns flip both axes.
    x = tf.where(turns % 2 == 1, tf.transpose(x, [0, 1, 3, 2, 4]), x)
    x = tf.where((turns == 1) | (turns == 2), tf.reverse(x, [2]), x)
    return tf.where(turns >= 2, tf.reverse(x, [3]), x)
