"""``phasewire adapters``: the installed strategy adapters."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from phasewire.app.commands.reporting import echo_warning, stdout_console
from phasewire.app.commands.wiring import ConfigFiles, container_from

if TYPE_CHECKING:
    from rich.table import Table

    from phasewire.adapters.errors import AdapterError
    from phasewire.app.discovery import AdapterRecord

__all__ = ["adapters_app"]

adapters_app = typer.Typer(no_args_is_help=True, help="Show the strategy adapters that can be named.")


@adapters_app.command("list")
def list_adapters(
    load: Annotated[
        bool, typer.Option("--load", help="Import every adapter, and report each as ok or with what went wrong.")
    ] = False,
    config: ConfigFiles = None,
) -> None:
    """List the adapters that came with Phasewire and with installed packages.

    Without --load only metadata is read, and no package is imported.

    Example: `phasewire adapters list --load`
    """
    discovery = container_from(config).discovery()
    # What is remarked on while looking is shown below the table, as the warnings of this command.
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        records = discovery.records()
        chosen = {record: discovery.find(record.name) == record for record in records}
        errors = {record: _load_error(record) for record in records} if load else None
    stdout_console().print(_table(records, chosen, errors))
    for message in dict.fromkeys(str(remark.message) for remark in remarks):
        echo_warning(message)
    for error in (errors or {}).values():
        if error is not None:
            echo_warning(str(error))


def _table(
    records: Sequence[AdapterRecord],
    chosen: dict[AdapterRecord, bool],
    errors: dict[AdapterRecord, AdapterError | None] | None,
) -> Table:
    from rich.table import Table

    table = Table(title="Strategy adapters")
    for heading in ("Name", "Distribution", "Version", "Value", "Source", "State"):
        table.add_column(heading, overflow="fold")
    for record in records:
        table.add_row(
            record.name if chosen[record] else f"{record.name}@{record.distribution}",
            record.distribution or "-",
            record.version or "-",
            record.value,
            "native" if record.native else "entry point",
            "not loaded" if errors is None else _state(errors[record]),
        )
    return table


def _state(error: AdapterError | None) -> str:
    return "ok" if error is None else "does not load"


def _load_error(record: AdapterRecord) -> AdapterError | None:
    from phasewire.adapters.errors import AdapterError

    try:
        record.load()
    except AdapterError as error:
        return error
    return None
