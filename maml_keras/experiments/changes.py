"""Changes of a preset's settings, as text: `inner_rate=0.3 steps=5`."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import keras

from maml_keras import recipes
from maml_keras.experiments.algorithm_settings import Variation
from maml_keras.outer.maml import MAML

# The settings of every algorithm, and their types.
COMMON: dict[str, type] = {
    "inner_rate": float,
    "steps": int,
    "outer_rate": float,
    "evaluation_steps": int,
}
PLAIN: dict[str, type] = {"bool": bool, "float": float, "int": int, "str": str}
WORDS = {"true": True, "false": False, "none": None}


def kinds(algorithm: str) -> dict[str, type]:
    """The settings of an algorithm that can be changed, and their types.

    Args:
        algorithm: str, the name of a recipe.

    Returns:
        The inner rate, the inner steps in training, the outer rate, the adaptation
        steps of evaluations, and each argument of the recipe or of `MAML` that is a
        number, a text, or true or false.

    >>> kinds("imaml")["cg_steps"]
    <class 'int'>
    """
    found = dict(COMMON)
    for function in (recipes.get(algorithm), MAML.__init__):
        for parameter in inspect.signature(function).parameters.values():
            words = set(str(parameter.annotation).replace("|", " ").split())
            plain = [kind for name, kind in PLAIN.items() if name in words]
            only = parameter.kind is inspect.Parameter.KEYWORD_ONLY
            if plain and only and parameter.name != "seed":
                found.setdefault(parameter.name, plain[0])
    return found


def value_of(text: str) -> Any:
    """A value from its text: a number, `true`, `false` or `none`, else the text.

    >>> value_of("5"), value_of("1e-3"), value_of("true"), value_of("support")
    (5, 0.001, True, 'support')
    """
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def text_of(value: Any) -> str:
    """The text that `value_of` reads.

    >>> text_of(0.001), text_of(True)
    ('0.001', 'true')
    """
    return (
        str(value).lower() if isinstance(value, bool) or value is None else str(value)
    )


def pairs(text: str, option: str) -> dict[str, str]:
    """The names and the texts behind them in `NAME=TEXT NAME=TEXT ...`.

    Args:
        text: str, what the user gave.
        option: str, where, for the message.

    Raises:
        ValueError: if a part has another form, or a name comes twice.

    >>> pairs("inner_rate=0.3 steps=5", "--changes")
    {'inner_rate': '0.3', 'steps': '5'}
    """
    parts = [part.partition("=") for part in text.split()]
    found = {name: value for name, _, value in parts}
    if not parts or len(found) < len(parts) or not all(n and v for n, _, v in parts):
        raise ValueError(
            f"`{option}` must be NAME=VALUE with spaces between such pairs, each name "
            f"once. Received: {text!r}. Example: 'inner_rate=0.3 steps=5'."
        )
    return found


def read(text: str | None, algorithm: str) -> dict[str, Any]:
    """The changes that a text states.

    Args:
        text: str, such as `"inner_rate=0.3 steps=5"`; None for no change.
        algorithm: str, the name of a recipe.

    Raises:
        ValueError: if the text has another form, a name is unknown, or a value has
            another type.
    """
    if text is None:
        return {}
    given = {name: value_of(value) for name, value in pairs(text, "changes").items()}
    return checked(given, algorithm)


def write(changes: Mapping[str, Any]) -> str | None:
    """The text of changes; None if there are none.

    >>> write({"inner_rate": 0.3, "steps": 5})
    'inner_rate=0.3 steps=5'
    """
    return " ".join(f"{k}={text_of(v)}" for k, v in changes.items()) or None


def checked(changes: Mapping[str, Any], algorithm: str) -> dict[str, Any]:
    """The changes, with whole numbers as floats where a float is wanted.

    Raises:
        ValueError: if a name is unknown, or a value has another type.
    """
    known = kinds(algorithm)
    for name, value in changes.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(
                f"Settings of {algorithm} that can be changed are "
                f"{', '.join(sorted(known))}. Received: '{name}'.{hint}"
            )
        kind = known[name]
        fits = (int, float) if kind is float else (kind,)
        if value is None and name not in COMMON:
            continue
        if not isinstance(value, fits) or isinstance(value, bool) != (kind is bool):
            raise ValueError(
                f"`{name}` must be of type {kind.__name__}. Received: {name}={value!r}."
            )
    return {
        name: float(v) if known[name] is float and v is not None else v
        for name, v in changes.items()
    }


def applied(
    variation: Variation,
    changes: Mapping[str, Any],
    optimizer: Callable[[int], keras.optimizers.Optimizer],
) -> Variation:
    """The variation with changes.

    Args:
        variation: an algorithm's settings.
        changes: as `checked` returns them.
        optimizer: `f(iterations)` returns the outer optimizer without changes.
    """
    options = {name: v for name, v in changes.items() if name not in COMMON}
    clause = "; ".join(filter(None, [variation.protocol, f"with {write(changes)}"]))
    make = variation.optimizer
    if "outer_rate" in changes:
        make = functools.partial(_with_rate, optimizer, changes["outer_rate"])
    return replace(
        variation,
        learning_rate=changes.get("inner_rate", variation.learning_rate),
        steps=changes.get("steps", variation.steps),
        evaluation_steps=changes.get("evaluation_steps", variation.evaluation_steps),
        options={**variation.options, **options},
        optimizer=make,
        protocol=clause,
        changes={**variation.changes, **changes},
    )


def _with_rate(
    make: Callable[[int], keras.optimizers.Optimizer], rate: float, iterations: int
) -> keras.optimizers.Optimizer:
    """The outer optimizer with another rate; a schedule begins at that rate.

    Raises:
        ValueError: if a schedule has no initial rate.
    """
    optimizer = make(iterations)
    config = optimizer.get_config()
    schedule = config["learning_rate"]
    if not isinstance(schedule, dict):
        config["learning_rate"] = rate
    elif "initial_learning_rate" in schedule["config"]:
        schedule["config"]["initial_learning_rate"] = rate
    else:
        raise ValueError(
            "`outer_rate` needs a constant rate, or a schedule with an "
            f"`initial_learning_rate`. Received: {schedule['class_name']}. Leave "
            "`outer_rate` out."
        )
    return type(optimizer).from_config(config)
