"""`TaskFamily`: a distribution over tasks, as a pure function of a seed."""

import abc
from typing import Any

import tensorflow as tf

from maml_keras.data import class_numbers
from maml_keras.data.class_numbers import ClassNumbers
from maml_keras.data.seeds import as_seed

Episode = tuple[dict[str, Any], Any]


class TaskFamily(abc.ABC):
    """A distribution over tasks.

    `(task, query_y) = sample(seed)`

    To write your own family, subclass `TaskFamily` and define `sample`. `sample` must
    consist of TensorFlow operations and draw all random numbers from `seed` with the
    `tf.random.stateless_*` functions. Then episode i is the same in each process and
    run.

    Overriding `sample_many`, `plan` and `fill` can make a family faster. `episodes`
    calls `plan` for `chunk` tasks at once, re-batches the plans, and calls `fill` on
    each batch. So a family with large examples plans row numbers and fills in the
    examples.

    Attributes:
        chunk: int, how many tasks `episodes` plans in one call. `chunk` is part of the
            definition of episode i, because one seed serves one chunk.

    >>> class Lines(TaskFamily):
    ...     "y = slope * x"
    ...     def sample(self, seed):
    ...         x = tf.random.stateless_uniform([6, 1], seed)
    ...         y = x * tf.random.stateless_normal([], tf.random.fold_in(seed, 1))
    ...         task = {"support_x": x[:3], "support_y": y[:3], "query_x": x[3:]}
    ...         return task, y[3:]
    >>> task, query_y = Lines().sample_many([0, 1], 4)
    >>> task["support_x"].shape, query_y.shape
    (TensorShape([4, 3, 1]), TensorShape([4, 3, 1]))
    """

    chunk: int = 64

    @abc.abstractmethod
    def sample(self, seed: Any) -> Episode:
        """One task.

        Args:
            seed: int tensor `[2]`.

        Returns:
            `({"support_x", "support_y", "query_x"}, query_y)`, each a tensor
            `[examples, ...]` whose shape does not depend on the seed.
        """

    def sample_many(self, seed: Any, count: int) -> Episode:
        """Many independent tasks from one seed.

        Args:
            seed: int tensor `[2]`.
            count: int.

        Returns:
            The nest that `sample` returns, each tensor `[count, examples, ...]`.
        """
        signature = tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape, t.dtype), self._traced()
        )
        seeds = tf.random.split(as_seed(seed), count)
        episodes: Episode = tf.map_fn(self.sample, seeds, fn_output_signature=signature)
        return episodes

    def plan(self, seed: Any, count: int) -> Any:
        """A compact form of many tasks: all random choices, but not the examples.

        Args:
            seed: int tensor `[2]`.
            count: int.

        Returns:
            A nest of tensors `[count, ...]`; by default the tasks themselves.
        """
        return self.sample_many(seed, count)

    def fill(self, plan: Any) -> Episode:
        """The tasks of a plan, row by row: `sample_many = fill(plan(seed, count))`.

        Args:
            plan: rows of the nest that `plan` returned, in batches of any size.

        Returns:
            The nest that `sample` returns, each tensor `[rows, examples, ...]`.
        """
        episodes: Episode = plan
        return episodes

    def class_numbers(self) -> ClassNumbers:
        """The same tasks with labels that mean the same class in every task.

        By default the family must hold one other family as an attribute, whose class
        numbers it hands on, and must not change labels. Other families of classes
        define this method to be compared with networks that were trained on all
        classes together.

        Raises:
            ValueError: if the class numbers cannot be known.
        """
        return class_numbers.of_wrapper(self)

    def distinct_tasks(self) -> int | None:
        """How many different support sets there are; None if that is not known.

        By default the number of the one family that this family holds as an attribute.
        """
        inner = [v for v in vars(self).values() if isinstance(v, TaskFamily)]
        return inner[0].distinct_tasks() if len(inner) == 1 else None

    def _traced(self) -> Episode:
        """Symbolic outputs of `sample`, after checking that it depends on the seed.

        Raises:
            TypeError: if `sample` reads the value of the seed, as NumPy does.
            ValueError: if `sample` does not read the seed. Random numbers from outside
                TensorFlow would be drawn once, so all tasks would be the same.
        """
        name = f"{type(self).__name__}.sample"
        how = (
            "The method is compiled, so write it with TensorFlow operations and draw "
            "from `seed` with `tf.random.stateless_*`. To train on tasks made in "
            "Python, pass `fit` a `keras.utils.PyDataset` or a "
            "`tf.data.Dataset.from_generator`."
        )
        try:
            trace = tf.function(self.sample, autograph=False).get_concrete_function(
                tf.TensorSpec([2], tf.int64)
            )
        except (AttributeError, NotImplementedError, TypeError) as error:
            raise TypeError(
                f"`{name}` must be a function of tensors. Received: "
                f"{type(error).__name__}{_first_line(error)}. {how}"
            ) from error
        if not trace.graph.inputs[0].consumers():
            raise ValueError(
                f"`{name}` must draw its tasks from `seed`. Received: a method that "
                f"does not read `seed`, so all tasks would be the same. {how}"
            )
        episodes: Episode = trace.structured_outputs
        return episodes


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f": {text.splitlines()[0]}" if text else ""


def first_row(episodes: Episode) -> Episode:
    """The first of many tasks.

    Args:
        episodes: the result of `TaskFamily.sample_many`, tensors `[count, ...]`.

    Returns:
        The same nest without the leading axis.
    """
    row: Episode = tf.nest.map_structure(lambda t: t[0], episodes)
    return row
