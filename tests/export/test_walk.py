"""The walk folds, leaves loops, keeps checks apart, and names what it refuses."""

import numpy as np
import pytest
import tensorflow as tf
from lowered_operation import draw, written

from maml_keras.export.lowering import NotLoweredError, lowered


def operations(function, name=None):
    """The operations of a function's graph, or of a function in its library."""
    definition = function.graph.as_graph_def()
    if name is None:
        return [node.op for node in definition.node]
    return [
        n.op
        for f in definition.library.function
        for n in f.node_def
        if name in f.signature.name
    ]


def test_a_loop_computes_what_does_not_change_once_and_before():
    def function(x, steps):
        def body(k, w):
            return k + 1, w + 0.1 * tf.tanh(tf.matmul(x, x))

        return tf.while_loop(lambda k, w: k < steps, body, (0, x))[1]

    specs = [tf.TensorSpec([3, 3]), tf.TensorSpec([], tf.int32)]
    original, again, _ = written(function, specs)
    assert "MatMul" in operations(again)
    assert "MatMul" not in operations(again, "body")
    for steps in (0, 1, 3):
        arguments = tf.constant(draw(3, 3)), tf.constant(steps)
        np.testing.assert_allclose(again(*arguments)[0], original(*arguments))


def test_known_numbers_are_folded_but_large_results_are_not_stored():
    def function(x):
        small = tf.reduce_sum(tf.sin(tf.range(10.0)))
        return x * small + tf.zeros([100, 100])

    original, again, _ = written(function, [tf.TensorSpec([100, 100])])
    assert "Sin" not in operations(again)
    assert "Fill" in operations(again)
    x = tf.constant(draw(100, 100))
    np.testing.assert_allclose(again(x)[0], original(x), rtol=1e-6)


def test_branches_are_walked():
    def function(x):
        return tf.cond(
            tf.reduce_sum(x) > 0,
            lambda: tf.nn.softsign(x),
            lambda: tf.math.xdivy(x, 2.0),
        )

    original, again, replaced = written(function, [tf.TensorSpec([2])])
    assert {"Softsign", "Xdivy"} <= set(replaced)
    for x in ([1.0, 2.0], [-1.0, -2.0]):
        np.testing.assert_allclose(again(tf.constant(x))[0], original(tf.constant(x)))


def test_checks_become_one_truth_value():
    @tf.function(input_signature=[tf.TensorSpec([None])], autograph=False)
    def function(x):
        checks = [tf.debugging.Assert(tf.shape(x)[0] > 0, ["no example"])]
        with tf.control_dependencies(checks):
            return tf.debugging.check_numerics(x * 2, "not finite")

    concrete = function.get_concrete_function()

    @tf.function(input_signature=[tf.TensorSpec([None])], autograph=False)
    def valid(x):
        return lowered(concrete, [x]).valid

    for x, expected in (([1.0], True), ([], False), ([np.nan], False), ([2e38], False)):
        assert bool(valid(tf.constant(x, tf.float32))) is expected


def test_variables_are_read_and_written():
    variable = tf.Variable([1.0, 2.0])

    @tf.function(input_signature=[tf.TensorSpec([2])], autograph=False)
    def function(x):
        after = variable + x
        variable.assign(after)
        return tf.reduce_sum(after)

    concrete = function.get_concrete_function()

    @tf.function(input_signature=[tf.TensorSpec([2])], autograph=False)
    def again(x):
        found = lowered(concrete, [x], lambda handle: tf.constant([5.0, 6.0]))
        return found.outputs[0], *found.assigned.values()

    total, assigned = again(tf.constant([10.0, 20.0]))
    assert float(total) == 41.0
    np.testing.assert_array_equal(assigned, [15.0, 26.0])
    np.testing.assert_array_equal(variable, [1.0, 2.0])


def test_a_table_is_refused_by_the_name_of_operation_and_layer():
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(["a"], [1]), default_value=0
    )

    def function(x):
        with tf.name_scope("model"), tf.name_scope("words"):
            return table.lookup(x)

    with pytest.raises(NotLoweredError, match=r"LookupTableFindV2 of 'model/words"):
        written(function, [tf.TensorSpec([None], tf.string)])
