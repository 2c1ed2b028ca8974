"""Starts a worker process, sends it commands, and reports how it ended."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Any


class PeerError(Exception):
    """A peer failed; the message is the last line of its error."""


class NotInstalledError(PeerError):
    """A peer's packages cannot be imported."""


class OverTimeError(PeerError):
    """A peer used up its time."""


class Process:
    """A worker for one peer, workload and variant; a context manager.

    Args:
        python: path of the interpreter that has the peer's packages.
        peer: str, key of `PEERS`.
        workload: str.
        variant: dict.
        limit: float, seconds that all its answers may take together.
        module: str, the module that answers.

    Raises:
        NotInstalledError: if the peer cannot be imported.
        PeerError: if the worker fails for another reason.
    """

    def __init__(
        self,
        python: str,
        peer: str,
        workload: str,
        variant: dict[str, Any],
        *,
        limit: float,
        module: str = "benchmarks.worker",
    ) -> None:
        # The file outlives this method; `close` closes it.
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._limit = limit
        command = [python, "-m", module]
        self._process = subprocess.Popen(
            [*command, peer, workload, json.dumps(variant)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self._reader = selectors.DefaultSelector()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._reader.register(self._stdout, selectors.EVENT_READ)
        self._unread = b""
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, command: str, *values: Any) -> Any:
        """Calls a method of the worker.

        Raises:
            OverTimeError: if the limit is used up.
            PeerError: if the peer raised or died.
        """
        try:
            self._stdin.write(json.dumps([command, *values]).encode() + b"\n")
            self._stdin.flush()
        except BrokenPipeError:
            raise PeerError(self._last_error()) from None
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()
        self._errors.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self) -> Any:
        begun = time.monotonic()
        while b"\n" not in self._unread:
            left = self._limit - (time.monotonic() - begun)
            if left <= 0 or not self._reader.select(left):
                raise OverTimeError("over the time limit")
            read = os.read(self._stdout.fileno(), 1 << 16)
            if not read:
                raise PeerError(self._last_error())
            self._unread += read
        self._limit -= time.monotonic() - begun
        line, _, self._unread = self._unread.partition(b"\n")
        answer = json.loads(line)
        if "missing" in answer:
            raise NotInstalledError(answer["missing"])
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer["value"]

    def _last_error(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f"exit code {code}: {lines[-1] if lines else 'no message'}"


def python_of(peer: str, peer_python: str) -> str:
    """The interpreter of a peer; our own library runs in this interpreter."""
    return sys.executable if peer.startswith("ours") else peer_python
