"""``phasewire adapters check``: the rules of the contract, one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from phasewire.app.commands.reporting import stdout_console
from phasewire.app.commands.wiring import ConfigFiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phasewire.app.adapter_checks import Outcome

__all__ = ["check_adapter"]


def check_adapter(
    adapter: Annotated[
        str, typer.Argument(metavar="NAME_OR_PATH", help="The name of an installed adapter, or module:Class.")
    ],
    cfg: Annotated[
        str | None, typer.Option(metavar="YAML", help="The adapter's options, as YAML or JSON text: '{prefix: acme}'.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS_PATH",
            help="What makes the LightningModule to check with, without arguments; it is trained without data. A small "
            "one by default.",
        ),
    ] = None,
    config: ConfigFiles = None,
) -> None:
    """Check a strategy adapter against the adapter contract, rule by rule.

    The adapter is built, asked for names and schedules, and takes part in short fits on the CPU in a temporary folder.
    The exit code is 1 when it breaks a rule.

    Example: `phasewire adapters check my_adapter --cfg '{prefix: acme}'`
    """
    from phasewire.app.adapter_checks import State, checker_from_text

    checker = checker_from_text(adapter, cfg=cfg, model=model, config_files=config or (), options="--")
    try:
        outcomes = list(checker.outcomes())
    finally:
        checker.close()
    _report(outcomes)
    if any(outcome.state is State.BROKEN for outcome in outcomes):
        raise typer.Exit(1)


def _report(outcomes: Sequence[Outcome]) -> None:
    from phasewire.app.adapter_checks import State

    console = stdout_console()
    width = max(len(outcome.rule.name) for outcome in outcomes)
    for outcome in outcomes:
        # The line has the name of the rule already.
        found = outcome.message.removeprefix(f"rule {outcome.rule.name}: ")
        told = outcome.rule.sentence if outcome.state is State.KEPT else found
        line = f"{outcome.state.value:<11}  {outcome.rule.name:<{width}}  {told}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    broken = sum(outcome.state is State.BROKEN for outcome in outcomes)
    unchecked = sum(outcome.state is State.NOT_CHECKED for outcome in outcomes)
    console.print(f"{len(outcomes)} rules: {broken} broken, {unchecked} not checked.", highlight=False)
