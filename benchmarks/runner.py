"""Measures a workload for all peers: checks gradients, picks settings, takes times."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.peers import PEERS
from benchmarks.process import (
    NotInstalledError,
    OverTimeError,
    PeerError,
    Process,
    python_of,
)

TOLERANCE = 1e-6  # Relative, in float64 on a smooth network.
TUNING_SLICE = 2.0  # Seconds.
AS_FAST = 0.97  # A later setting must be faster by more than noise.


@dataclass(frozen=True)
class Plan:
    """Settings of a run.

    Attributes:
        peers: keys of `PEERS`.
        peer_python: path of the interpreter for all peers but our own.
        rounds: int, number of time slices of each peer.
        seconds: float, length of a time slice.
        cap: float, seconds allowed for the trial of one setting, start included.
        log: called with each line of news.
        listing: the worker's command that lists the settings to try.
        fixed: dict, settings of every process, such as the device.
        until: float, the time of `time.monotonic` from which on no further setting is
            tried, but for the first of each peer.
    """

    peers: list[str]
    peer_python: str
    rounds: int
    seconds: float
    cap: float
    log: Callable[[str], None]
    listing: str = "variants"
    fixed: dict[str, Any] = field(default_factory=dict)
    until: float = math.inf

    def open(self, peer: str, workload: str, variant: dict[str, Any]) -> Process:
        """A worker with the time limit of a trial."""
        python = python_of(peer, self.peer_python)
        return Process(python, peer, workload, variant | self.fixed, limit=self.cap)


def run(workload: str, plan: Plan) -> dict[str, dict[str, Any]]:
    """Measures one workload.

    Returns:
        For each peer a dict with `title`, `status` ("timed", or the reason why not),
        and as far as known `versions`, `check`, `variants`, `chosen`, `ms`,
        `first_seconds`, ...
    """
    results: dict[str, dict[str, Any]] = {
        peer: {"title": PEERS[peer][2], "status": "timed"} for peer in plan.peers
    }

    def each(do: Callable[[str, dict[str, Any]], None]) -> None:
        for peer, result in results.items():
            if result["status"] != "timed":
                continue
            try:
                do(peer, result)
            except NotInstalledError as error:
                result["status"] = f"not installed ({error})"
            except PeerError as error:
                result["status"] = f"failed ({error})"
            if result["status"] != "timed":
                plan.log(f"{workload} {result['title']}: {result['status']}")

    with tempfile.TemporaryDirectory() as folder:
        gradients: dict[str, np.ndarray] = {}

        def check(peer: str, process: Process) -> dict[str, Any]:
            path = os.path.join(folder, "gradient.npy")
            loss = float(process.ask("check", path))
            gradients[peer] = np.load(path)
            return {"loss": loss}

        def check_first(peer: str, result: dict[str, Any]) -> None:
            with plan.open(peer, workload, {}) as process:
                result["versions"] = process.ask("versions")
                listed = process.ask(plan.listing)
                if not listed:
                    raise PeerError("no settings for this device")
                result["variants"] = [{"variant": v} for v in listed]
                first = listed[0]
                if not first:
                    result["check"] = check(peer, process)
                    return
            with plan.open(peer, workload, first) as process:
                result["check"] = check(peer, process)

        def check_chosen(peer: str, result: dict[str, Any]) -> None:
            if result["chosen"] != result["variants"][0]["variant"]:
                with plan.open(peer, workload, result["chosen"]) as process:
                    result["check"] = check(peer, process)

        def tune(peer: str, result: dict[str, Any]) -> None:
            for i, trial in enumerate(result["variants"]):
                if i and time.monotonic() > plan.until:
                    trial["failure"] = "left out, no time"
                    continue
                _try(peer, workload, plan, trial)
            result["chosen"] = _fastest(result["variants"])

        each(check_first)
        _compare(results, gradients)
        each(tune)
        each(check_chosen)
        _compare(results, gradients)

    with contextlib.ExitStack() as stack:
        processes: dict[str, Process] = {}

        def start(peer: str, result: dict[str, Any]) -> None:
            python = python_of(peer, plan.peer_python)
            limit = plan.cap + plan.rounds * max(plan.cap, 2 * plan.seconds)
            variant = result["chosen"] | plan.fixed
            process = Process(python, peer, workload, variant, limit=limit)
            processes[peer] = stack.enter_context(process)
            result.update(process.ask("start"), ms=[])

        def slice_of(peer: str, result: dict[str, Any]) -> None:
            result["ms"].append(processes[peer].ask("slice", plan.seconds)["ms"])

        def finish(peer: str, result: dict[str, Any]) -> None:
            result.update(processes[peer].ask("memory"))
            median = statistics.median(result["ms"])
            plan.log(f"{workload} {result['title']}: {median:.4g} ms")

        each(start)
        for _ in range(plan.rounds):
            each(slice_of)
        each(finish)
    return results


def _try(peer: str, workload: str, plan: Plan, trial: dict[str, Any]) -> None:
    try:
        with plan.open(peer, workload, trial["variant"]) as process:
            process.ask("start")
            seconds = min(plan.seconds, TUNING_SLICE)
            trial["ms"] = process.ask("slice", seconds)["ms"]
            outcome = f"{trial['ms']:.4g} ms"
    except OverTimeError:
        outcome = trial["failure"] = f"stopped after {plan.cap:g} s"
    except PeerError as error:
        outcome = trial["failure"] = str(error)
    plan.log(f"{workload} {PEERS[peer][2]} {trial['variant']}: {outcome}")


def _fastest(trials: list[dict[str, Any]]) -> dict[str, Any]:
    finished = [t for t in trials if "ms" in t]
    if not finished:
        raise PeerError(f"no setting ran: {trials[0]['failure']}")
    best = min(t["ms"] for t in finished)
    chosen = next(t for t in finished if AS_FAST * t["ms"] <= best)
    variant: dict[str, Any] = chosen["variant"]
    return variant


def _compare(
    results: dict[str, dict[str, Any]], gradients: dict[str, np.ndarray]
) -> None:
    """Refuses peers that differ from the majority; records the largest differences."""
    peers = [p for p in gradients if results[p]["status"] == "timed"]
    losses = {p: results[p]["check"]["loss"] for p in peers}

    def errors(peer: str, other: str) -> tuple[float, float]:
        a, b = gradients[peer], gradients[other]
        if a.shape != b.shape:
            return np.inf, np.inf
        return (
            abs(losses[peer] - losses[other]) / abs(losses[other]),
            float(np.linalg.norm(a - b) / np.linalg.norm(b)),
        )

    def agrees(peer: str, other: str) -> bool:
        return max(errors(peer, other)) <= TOLERANCE

    def independent(peer: str) -> list[str]:
        return [q for q in peers if PEERS[q][0] != PEERS[peer][0]]

    majority = max(
        peers, key=lambda p: sum(agrees(p, q) for q in independent(p)), default=""
    )
    for peer in peers:
        others = [q for q in independent(peer) if agrees(q, majority)]
        if not others:
            continue
        pairs = [errors(peer, q) for q in others]
        loss, gradient = (max(each) for each in zip(*pairs))
        results[peer]["check"].update(loss_error=loss, gradient_error=gradient)
        if not agrees(peer, majority):
            results[peer]["status"] = (
                f"refused (its gradient differs by {gradient:.1e}, its loss by "
                f"{loss:.1e})"
            )
