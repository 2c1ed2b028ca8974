"""Replaces functions of Keras or TensorFlow in a `with` block, in one thread only."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Entries:
    """The entries of a dict as attributes, so that `ScopedOverride` can replace one.

    >>> entries = Entries({"one": 1})
    >>> entries.one += 1
    >>> entries.one
    2
    """

    def __init__(self, entries: dict[str, Any]) -> None:
        self.__dict__ = entries


class ScopedOverride:
    """Replaces one attribute of a module or class while a scope is open.

    If no scope is open, the attribute is the original object itself. Inside a scope,
    only the thread that opened the scope uses the replacement; other threads still
    call the original.

    Args:
        owner: the module or class that holds the attribute.
        name: str, the name of the attribute.
        replacement: called as `replacement(value, original, *args, **kwargs)`, where
            `value` is the value of the innermost open scope.

    >>> import types
    >>> box = types.SimpleNamespace(double=lambda x: 2 * x)
    >>> override = ScopedOverride(box, "double", lambda v, original, x: original(x) + v)
    >>> with override.scope(1):
    ...     box.double(10)
    21
    >>> box.double(10)
    20
    """

    def __init__(self, owner: Any, name: str, replacement: Callable[..., Any]) -> None:
        self._owner = owner
        self._name = name
        self._replacement = replacement
        self._lock = threading.Lock()
        self._local = threading.local()
        self._open_scopes = 0
        self._original: Any = None

    @contextlib.contextmanager
    def scope(self, value: Any = None) -> Iterator[None]:
        """Opens a scope in this thread, in which the replacement receives `value`."""
        values = self._values()
        self._acquire()
        values.append(value)
        try:
            yield
        finally:
            values.pop()
            self._release()

    def _values(self) -> list[Any]:
        if not hasattr(self._local, "values"):
            self._local.values = []
        values: list[Any] = self._local.values
        return values

    def _acquire(self) -> None:
        with self._lock:
            if self._open_scopes == 0:
                self._original = getattr(self._owner, self._name)
                setattr(self._owner, self._name, self._dispatcher(self._original))
            self._open_scopes += 1

    def _release(self) -> None:
        with self._lock:
            self._open_scopes -= 1
            if self._open_scopes == 0:
                setattr(self._owner, self._name, self._original)

    def _dispatcher(self, original: Callable[..., Any]) -> Callable[..., Any]:
        # `wraps` keeps the signature, because a Keras layer that is created in another
        # thread meanwhile inspects the signature.
        @functools.wraps(original)
        def dispatch(*args: Any, **kwargs: Any) -> Any:
            values = self._values()
            if not values:
                return original(*args, **kwargs)
            return self._replacement(values[-1], original, *args, **kwargs)

        return dispatch
