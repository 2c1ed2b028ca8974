"""Options from a TOML file: the `config.toml` of a run, or a file of the user."""

from __future__ import annotations

import difflib
import pathlib
import sys
import typing
from typing import Annotated, Any

import typer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The table of `config.toml` with a run's command and versions, which are not settings.
RECORD = "record"
# Options that concern one call only and do not change what is computed.
NOT_SETTINGS = {"out", "resume", "config", "quiet", "verbose", "help", "more"}


def read_config(ctx: typer.Context, path: pathlib.Path | None) -> pathlib.Path | None:
    """Makes the file's values the command's defaults; options override them.

    Raises:
        typer.BadParameter: if the file cannot be read, or has a key that the command
            does not know, or a value of another type.
    """
    if path is None or ctx.resilient_parsing:
        return path
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise typer.BadParameter(f"{path} cannot be read as TOML: {error}") from error
    settings.pop(RECORD, None)
    known = {str(p.name) for p in ctx.command.params} - NOT_SETTINGS
    for key in settings.keys() - known:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise typer.BadParameter(
            f"{path} has an unknown key '{key}'. {ctx.info_name} knows "
            f"{', '.join(sorted(known))}.{hint}"
        )
    ctx.default_map = {
        key: _typed(ctx, path, key, value) for key, value in settings.items()
    }
    return path


def as_begun(context: typer.Context, folder: pathlib.Path, *names: str) -> list[Any]:
    """Options of a resumed run: the given ones, else those that the run began with."""
    # Imported here, because the import is slow and `--help` must not wait for it.
    from maml_keras.experiments import run_folder

    begun = run_folder.read_config(folder)

    def value(name: str) -> Any:
        source = context.get_parameter_source(name)
        given = source is not None and source.name != "DEFAULT"
        own = context.params[name]
        return own if given else begun.get(name, own)

    return [value(name) for name in names]


def _typed(ctx: typer.Context, path: pathlib.Path, key: str, value: Any) -> Any:
    """The value of an option as the program reads it, checked against its type."""
    if key == "algorithms" and isinstance(value, list):
        value = ",".join(map(str, value))
    hints = typing.get_type_hints(ctx.command.callback)
    types = set(typing.get_args(hints[key]) or (hints[key],)) - {type(None)}
    number = bool(types & {int, float})
    word, fitting = (
        ("true or false", bool)
        if bool in types
        else ("a number", (int, float, str))
        if number
        else ("a text in quotes", str)
    )
    if not isinstance(value, fitting) or isinstance(value, bool) != (bool in types):
        raise typer.BadParameter(
            f"{path}: `{key}` must be {word}. Received: {value!r}."
        )
    if isinstance(value, bool):
        return value
    # As text, a value passes the same checks as on the command line: 40.5 is refused
    # as a whole number, where the number 40.5 would be cut to 40.
    (parameter,) = (p for p in ctx.command.params if p.name == key)
    try:
        parameter.process_value(ctx, str(value))
    except typer.BadParameter as error:
        raise typer.BadParameter(f"{path}: `{key}`: {error.message}") from error
    return str(value)


Config = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="TOML file with settings, such as the `config.toml` of a run. Options on "
        "the command line override the file.",
        show_default="none",
        is_eager=True,
        callback=read_config,
    ),
]
