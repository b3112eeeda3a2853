"""How commands report: an error is one paragraph on stderr and exit code 2."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

__all__ = [
    "FOUND_EXIT_CODE",
    "USER_ERROR_EXIT_CODE",
    "ErrorReportingGroup",
    "byte_bar",
    "echo_json",
    "echo_warning",
    "show",
    "stdout_console",
]

#: The exit code when what was checked has faults, for use in continuous integration.
FOUND_EXIT_CODE = 1

#: The exit code when what the user asked for cannot be done; the same as for a misspelt option.
USER_ERROR_EXIT_CODE = 2

#: Columns of tables that go to a file or a pipe, where there is no terminal to fit into.
_PIPE_WIDTH = 160

#: Columns of what is plain: no line is so long that it would be broken.
_UNLIMITED_WIDTH = 10_000

#: Signs in the place of characters that a terminal obeys: names may come from a checkpoint that somebody else has made.
_SIGNS: Final = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}


class ErrorReportingGroup(TyperGroup):
    """A group of commands that shows errors a user can mend without their traceback.

    These are :class:`~phasewire.app.PhasewireError` and Lightning's ``MisconfigurationException`` above it. Anything
    else is a bug and keeps its traceback.
    """

    # Any: the class of the context is click's or typer's own copy of it, by the version of typer.
    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  # as the comment says
        """Run the command.

        Args:
            ctx: The context of the group; its ``debug`` option shows tracebacks.

        Returns:
            What the command returned.

        Raises:
            typer.Exit: With code 2, after an error was reported.
        """
        try:
            return super().invoke(ctx)
        except Exception as error:
            if ctx.params.get("debug") or not _is_mendable(error):
                raise
            typer.secho("Error: ", fg="red", bold=True, nl=False, err=True)
            typer.echo(str(error).translate(_SIGNS), err=True)
            raise typer.Exit(USER_ERROR_EXIT_CODE) from error


def echo_warning(message: str) -> None:
    """Show a warning on stderr.

    Args:
        message: One or more whole sentences.
    """
    typer.secho("Warning: ", fg="yellow", bold=True, nl=False, err=True)
    typer.echo(message.translate(_SIGNS), err=True)


@contextmanager
def byte_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many bytes of how many are done, on stderr, where that is a terminal.

    Args:
        description: What is done.

    Yields:
        Is to be told the two numbers.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    text = TextColumn("{task.description}", markup=False)
    with Progress(
        text, *columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True
    ) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def stdout_console() -> Console:
    """Make the console that tables are printed on.

    Returns:
        A console on stdout, as wide as the terminal, and wide when there is none.
    """
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)


def show(drawn: Table | Tree | Text) -> None:
    """Print a table, a tree or a text: drawn in a terminal; elsewhere plain, whatever the width, for other programs.

    Args:
        drawn: What to print.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if console.is_terminal:
        console.print(_Disarmed(drawn))
        return
    if isinstance(drawn, Table):
        drawn.box, drawn.pad_edge, drawn.title_justify, drawn.caption_justify = None, False, "left", "left"
    plain = Console(width=_UNLIMITED_WIDTH, no_color=True, color_system=None, force_terminal=False)
    with plain.capture() as captured:
        plain.print(_Disarmed(drawn), crop=False, soft_wrap=isinstance(drawn, Text))
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


class _Disarmed:
    """What is drawn, with signs in the place of characters that the terminal would obey; colours stay."""

    def __init__(self, drawn: Table | Tree | Text) -> None:
        self._drawn = drawn

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for segment in console.render(self._drawn, options):
            yield segment if segment.control else Segment(segment.text.translate(_SIGNS), segment.style)


def echo_json(content: object) -> None:
    """Print what a machine reads.

    Args:
        content: What JSON can hold.
    """
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))


def _is_mendable(error: Exception) -> bool:
    # An error of that class cannot come from where its module is not loaded, and loading it takes seconds.
    if "lightning.fabric.utilities.exceptions" not in sys.modules:
        return False
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    return isinstance(error, MisconfigurationException)
