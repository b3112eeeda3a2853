"""``phasewire schedule explain`` and ``lint``: what a schedule says of a model, and what is likely not meant so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phasewire.app.commands.planning import Planner
from phasewire.app.commands.reporting import FOUND_EXIT_CODE, echo_json, show
from phasewire.app.commands.wiring import (
    AsJson,
    Attribute,
    BuiltAs,
    ConfigFiles,
    InitArgs,
    ModelOption,
    OnCpu,
    ScheduleFile,
    container_from,
)

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from phasewire.app.schedule.explain import ExplainedPattern, Explanation
    from phasewire.app.schedule.lint import Finding
    from phasewire.app.schedule.model import Schedule

__all__ = ["explain", "lint"]

#: What the validator says of phases that the rule no-change finds.
_NO_CHANGE = "no params, and so thaw"


def explain(
    file: ScheduleFile,
    model: ModelOption = None,
    init_args: InitArgs = None,
    built_as: BuiltAs = None,
    attribute: Attribute = None,
    config: ConfigFiles = None,
    every_name: Annotated[bool, typer.Option("--all", help="List every name, instead of whole modules.")] = False,
    as_json: AsJson = False,
    on_cpu: OnCpu = False,
) -> None:
    """Show which pattern of a schedule matches which parameters, and which matches none.

    Patterns that are wrong are shown as such, and those after them all the same.

    Example: `phasewire schedule explain my.yaml --model my_project.models.Classifier`
    """
    _, explained = _explained(
        Planner(
            container_from(config),
            model,
            needed_by="schedule explain --model",
            init_args=init_args,
            built_as=built_as,
            attribute=attribute,
            on_cpu=on_cpu,
        ),
        file,
    )
    if as_json:
        echo_json(_as_json(explained))
    else:
        show(_tree(explained, str(file), every_name=every_name))


def lint(
    file: ScheduleFile,
    model: ModelOption = None,
    init_args: InitArgs = None,
    built_as: BuiltAs = None,
    attribute: Attribute = None,
    config: ConfigFiles = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE", help="A rule that does not count, such as never-thawed. May be given several times."
        ),
    ] = None,
    as_json: AsJson = False,
    on_cpu: OnCpu = False,
) -> None:
    r"""Look for what in a schedule is likely not meant so; exit with 1 if there is something.

    The rules: `no-match` (a pattern matches nothing), `overlap` (patterns match the same names), `no-change` (a phase
    changes nothing), `never-thawed` (modules that no phase thaws), `unescaped-dot` (`layer.1.*` takes `layer.10`),
    `open-end` (so does `layer\.1`), and `schedule` for whatever else the validator says.

    Example: `phasewire schedule lint my.yaml --model my_project.models.Classifier --ignore never-thawed`
    """
    ignored = _known_rules(ignore or [])
    planner = Planner(
        container_from(config),
        model,
        needed_by="schedule lint --model",
        init_args=init_args,
        built_as=built_as,
        attribute=attribute,
        on_cpu=on_cpu,
    )
    found = [finding for finding in _findings(planner, file) if finding.rule not in ignored]
    if as_json:
        echo_json(
            [
                {
                    "rule": each.rule,
                    "where": each.where,
                    "phase": each.depth,
                    "message": each.message,
                    "names": each.names,
                }
                for each in found
            ]
        )
    for finding in () if as_json else found:
        typer.echo(f"{finding.where}: {finding.message} [{finding.rule}]")
    if found:
        raise typer.Exit(FOUND_EXIT_CODE)
    if not as_json:
        typer.echo(f"{file}: nothing found.")


def _explained(planner: Planner, file: Path) -> tuple[Schedule, Explanation]:
    from phasewire.app.schedule.explain import explain_schedule
    from phasewire.app.schedule.files import load_schedule

    schedule = load_schedule(file)
    return schedule, explain_schedule(schedule, *planner.names())


def _findings(planner: Planner, file: Path) -> list[Finding]:
    """Give what the rules find, and what the validator says that no rule does."""
    from phasewire.adapters.errors import ScheduleError
    from phasewire.app.schedule.lint import Finding, lint_schedule

    schedule, explained = _explained(planner, file)
    found = lint_schedule(schedule, explained)
    try:
        plan = planner.plan(file)
    except ScheduleError as error:
        if error.where not in {each.where for each in found}:
            found.insert(0, Finding("schedule", error.where or str(file), error.problem))
        return found
    return [*found, *(_said(each, file) for each in plan.schedule_warnings if _NO_CHANGE not in each)]


def _said(warning: str, file: Path) -> Finding:
    from phasewire.app.schedule.lint import Finding

    place, separator, message = warning.partition(": ")
    return (
        Finding("schedule", place, message)
        if separator and place.startswith(str(file))
        else Finding("schedule", str(file), warning)
    )


def _known_rules(ignored: list[str]) -> frozenset[str]:
    from phasewire.adapters.errors import ConfigError, did_you_mean
    from phasewire.app.schedule.lint import LINT_RULES

    known = (*LINT_RULES, "schedule")
    for rule in ignored:
        if rule not in known:
            raise ConfigError(
                f"There is no rule {rule!r}. {did_you_mean(rule, known)}".rstrip(),
                where="--ignore",
                remedy=f"The rules are {', '.join(known)}.",
            )
    return frozenset(ignored)


def _tree(explained: Explanation, name: str, *, every_name: bool) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(name))
    for depth in explained.depths:
        branch = tree.add(Text(f"phase {depth}", style="bold"))
        for pattern in explained.of_phase(depth):
            leaf = branch.add(_headline(pattern))
            for line in _lines(pattern.names, explained, every_name=every_name):
                leaf.add(Text(line))
            for second in pattern.second_names:
                leaf.add(Text(f"{second}: the second name of a tied parameter, left out", style="yellow"))
        along = explained.along_with(depth)
        if along:
            leaf = branch.add(Text(f"thawed along: {_count(len(along))}", style="cyan"))
            for line in _lines(along, explained, every_name=every_name):
                leaf.add(Text(line))
    if explained.never_thawed:
        leaf = tree.add(Text(f"in no phase: {_count(len(explained.never_thawed))}", style="bold yellow"))
        for line in _lines(explained.never_thawed, explained, every_name=every_name):
            leaf.add(Text(line))
    return tree


def _headline(pattern: ExplainedPattern) -> Text:
    from rich.text import Text

    if pattern.problem is not None:
        return Text.assemble(f"{pattern.pattern}  ", (pattern.problem, "bold red"))
    kind = "a full name" if pattern.is_name else f"matches {_count(len(pattern.names))}"
    return Text.assemble((pattern.pattern, "cyan"), f"  {kind}")


def _lines(names: Sequence[str], explained: Explanation, *, every_name: bool) -> list[str]:
    return list(names) if every_name else [str(group) for group in explained.groups.of(names)]


def _count(names: int) -> str:
    return "1 parameter" if names == 1 else f"{names:,} parameters"


# Any: what JSON can hold.
def _as_json(explained: Explanation) -> dict[str, Any]:
    return {
        "phases": [
            {
                "phase": depth,
                "patterns": [
                    {
                        "pattern": pattern.pattern,
                        "is_name": pattern.is_name,
                        "names": pattern.names,
                        "second_names": pattern.second_names,
                        "problem": pattern.problem,
                    }
                    for pattern in explained.of_phase(depth)
                ],
                "thawed_along": explained.along_with(depth),
            }
            for depth in explained.depths
        ],
        "never_thawed": explained.never_thawed,
    }
