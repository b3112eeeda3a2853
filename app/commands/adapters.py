"""``phasewire adapters``: the installed strategy adapters."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from phasewire.app.commands.adapter_check import check_adapter
from phasewire.app.commands.adapter_new import new_adapter
from phasewire.app.commands.reporting import echo_warning, stdout_console
from phasewire.app.commands.wiring import ConfigFiles, container_from

if TYPE_CHECKING:
    from rich.table import Table

    from phasewire.app.adapter_listing import ListedAdapter

__all__ = ["adapters_app"]

adapters_app = typer.Typer(no_args_is_help=True, help="Show, check and begin strategy adapters.")
adapters_app.command("check")(check_adapter)
adapters_app.command("new")(new_adapter)


@adapters_app.command("list")
def list_adapters(
    load: Annotated[
        bool, typer.Option("--load", help="Import every adapter, and report each as ok or with what went wrong.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON, for other programs.")] = False,
    config: ConfigFiles = None,
) -> None:
    """List the adapters that came with Phasewire and with installed packages.

    Without --load only metadata is read, and no package is imported. With --config, the list also shows which
    strategies that configuration uses an adapter for, and which adapters it does not trust.

    Example: `phasewire adapters list --load`
    """
    from phasewire.app.adapter_listing import listed

    container = container_from(config)
    # What is remarked on while looking is shown below the table, as the warnings of this command.
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        rows = listed(
            container.discovery(),
            container.resolver(),
            container.settings().scheduler.custom_strategy_adapters,
            load=load,
        )
    if as_json:
        typer.echo(json.dumps([row.to_dict() for row in rows], indent=2))
    else:
        stdout_console().print(_table(rows))
    said = [str(remark.message) for remark in remarks]
    said += [row.conflict for row in rows if row.conflict]
    said += [f"{row.name}: {row.problem}" for row in rows if row.problem]
    for message in dict.fromkeys(said):
        echo_warning(message)


@adapters_app.command("show")
def show_adapter(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The adapter: its name, name@distribution, or module:Class.")
    ],
    config: ConfigFiles = None,
) -> None:
    """Show what an adapter says of itself: its options, the hooks it overrides, its contract version. Imports it.

    Example: `phasewire adapters show transformerbridge`
    """
    from phasewire.app.adapter_listing import described

    found = described(container_from(config).resolver().record_of(name, where="phasewire adapters show"))
    record = found.record
    origin = record.distribution or "a class path"
    lines = [
        f"{record.name} ({record.value}), of {origin}{f' {record.version}' if record.version else ''}",
        f"Contract:  {found.api_version}",
        f"Options:   {', '.join(found.options) or 'none'}",
        f"Overrides: {', '.join(found.hooks) or 'nothing'}",
    ]
    if found.documentation:
        lines += ["", found.documentation]
    typer.echo("\n".join(lines))


def _table(rows: Sequence[ListedAdapter]) -> Table:
    from rich.table import Table

    table = Table(title="Strategy adapters")
    for heading in ("Name", "Distribution", "Version", "Value", "Source", "Used for", "State"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(
            row.name,
            row.distribution or "-",
            row.version or "-",
            row.value,
            row.source,
            ", ".join(row.used_for) or "-",
            row.state,
        )
    return table
