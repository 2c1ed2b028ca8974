"""One thread uses the replacement; all other code uses the original object."""

import threading
import types

import pytest

from maml_keras.backend.overrides import ScopedOverride


def original(x):
    return 2 * x


@pytest.fixture
def box():
    return types.SimpleNamespace(double=original)


@pytest.fixture
def override(box):
    return ScopedOverride(box, "double", lambda value, call, x: call(x) + value)


def in_other_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_inside_the_replacement_gets_value_and_original(box, override):
    with override.scope(1):
        assert box.double(10) == 21


def test_outside_a_scope_the_attribute_is_the_original_object(box, override):
    assert box.double is original
    with override.scope(1):
        assert box.double is not original
    assert box.double is original


def test_exception_restores_the_original(box, override):
    with pytest.raises(KeyError), override.scope(1):
        raise KeyError
    assert box.double is original
    with override.scope(2):
        assert box.double(10) == 22


def test_the_innermost_scope_gives_the_value(box, override):
    with override.scope(1):
        with override.scope(5):
            assert box.double(10) == 25
        assert box.double(10) == 21
    assert box.double is original


def test_another_thread_sees_the_original(box, override):
    with override.scope(1):
        assert in_other_thread(lambda: box.double(10)) == 20
        assert box.double(10) == 21


def test_a_scope_in_another_thread_does_not_close_this_scope(box, override):
    def elsewhere():
        with override.scope(7):
            return box.double(10)

    with override.scope(1):
        assert in_other_thread(elsewhere) == 27
        assert box.double(10) == 21
    assert box.double is original


def test_overlapping_scopes_restore_the_original_at_the_end(box, override):
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with override.scope(7):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(10)
    with override.scope(1):
        pass
    assert box.double is not original
    assert box.double(10) == 20
    leave.set()
    thread.join()
    assert box.double is original


def test_value_defaults_to_none(box):
    seen = []
    override = ScopedOverride(box, "double", lambda value, call, x: seen.append(value))
    with override.scope():
        box.double(1)
    assert seen == [None]
