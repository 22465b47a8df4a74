"""Typer's app and group, with a help that shows no value after a flag.

Typer (0.29) prints `<bool>` after each flag, as if a value were required.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

F = TypeVar("F", bound=Callable[..., Any])


class _BareFlags:
    """Mixin for a command or a group, to stand before typer's class."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - typer's own click, which has no public types
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if isinstance(param, TyperOption) and param.is_bool_flag:
                param.metavar = ""
        return params


class _Command(_BareFlags, TyperCommand):
    pass


class Group(_BareFlags, TyperGroup):
    """A group of commands."""


class TyperApp(typer.Typer):
    """`typer.Typer` whose commands and groups print flags without a value."""

    def __init__(self, cls: type[Group] = Group, **options: Any) -> None:  # noqa: ANN401 - the arguments of typer
        super().__init__(cls=cls, **options)

    def command(self, *names: Any, **options: Any) -> Callable[[F], F]:  # noqa: ANN401 - the arguments of typer
        return super().command(*names, cls=_Command, **options)
