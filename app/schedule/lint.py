"""What in a schedule is likely not meant so, though it may be valid."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from phasewire.adapters.lightning_seams import unwrapped_name
from phasewire.app.schedule.pattern_reading import closed, dots_escaped
from phasewire.app.schedule.problems import joined

if TYPE_CHECKING:
    from phasewire.app.schedule.explain import ExplainedPattern, Explanation
    from phasewire.app.schedule.model import Phase, Schedule

__all__ = ["LINT_RULES", "Finding", "lint_schedule"]

#: The rules, with what each finds.
LINT_RULES: Final = {
    "no-match": "a pattern that matches nothing",
    "overlap": "patterns that match the same names",
    "no-change": "a phase that changes nothing",
    "never-thawed": "modules that no phase thaws",
    "unescaped-dot": "a dot that stands for any character, so that a pattern matches more than it seems to",
    "open-end": "a pattern that ends within a name, and also matches longer ones: layer.1 takes layer.10",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found."""

    rule: str
    """The rule; one of :data:`LINT_RULES`, or ``schedule`` for what the validator says."""
    where: str
    """File, line, phase and index, as far as there are any."""
    message: str
    """What is so, and what to do."""
    depth: int | None = None
    """The phase, where it is of one."""
    names: tuple[str, ...] = ()
    """The names it is about."""


def lint_schedule(schedule: Schedule, explained: Explanation) -> list[Finding]:
    """Look for what is likely not meant so.

    Args:
        schedule: The schedule.
        explained: What its patterns match.

    Returns:
        The findings in the order of the phases, and what is about the whole schedule at the end.
    """
    found = [
        *_no_match(explained),
        *_overlaps(explained),
        *_no_change(schedule, explained),
        *_wider_than_they_seem(explained),
    ]
    return [*sorted(found, key=lambda each: each.depth or 0), *_never_thawed(explained)]


def _where(pattern: ExplainedPattern, explained: Explanation) -> str:
    return explained.places.phase(pattern.depth, "params", pattern.index)


def _no_match(explained: Explanation) -> Iterator[Finding]:
    for pattern in explained.patterns:
        if pattern.problem is not None:
            yield Finding("no-match", _where(pattern, explained), pattern.problem, pattern.depth)


def _overlaps(explained: Explanation) -> Iterator[Finding]:
    # By place: the hash of a pattern is that of all its names.
    shared: dict[tuple[int, int, int, int], tuple[ExplainedPattern, ExplainedPattern, list[str]]] = {}
    for name, (first, *others) in explained.takers.items():
        for second in others:
            place = (first.depth, first.index, second.depth, second.index)
            shared.setdefault(place, (first, second, []))[2].append(name)
    for first, second, names in shared.values():
        same_phase = first.depth == second.depth
        consequence = "names are taken once" if same_phase else "no parameter may stand in two phases"
        listed = joined(explained.groups.of(names))
        yield Finding(
            "overlap",
            _where(second, explained),
            f"'{second.pattern}' matches {listed}, which '{first.pattern}' in "
            f"{'the same phase' if same_phase else f'phase {first.depth}'} matches, too: {consequence}.",
            second.depth,
            tuple(names),
        )


def _no_change(schedule: Schedule, explained: Explanation) -> Iterator[Finding]:
    thawing = {pattern.depth for pattern in explained.patterns if pattern.names}
    for depth, phase in zip(schedule.depths, schedule.phases, strict=True):
        if depth not in thawing and not _starts_anew(phase):
            reason = "matches nothing that is not thawed already" if phase.params else "has no params"
            yield Finding(
                "no-change",
                explained.places.phase(depth),
                f"The phase {reason} and starts no new optimizer or lr scheduler, so it changes nothing.",
                depth,
            )
        elif depth > 0 and phase.lr == 0 and phase.new_lr_scheduler is None:
            yield Finding(
                "no-change",
                explained.places.phase(depth, "lr"),
                "The learning rate of what the phase thaws is 0, so it stays as it is.",
                depth,
            )


def _starts_anew(phase: Phase) -> bool:
    return phase.new_optimizer is not None or phase.new_lr_scheduler is not None


def _wider_than_they_seem(explained: Explanation) -> Iterator[Finding]:
    for pattern in explained.patterns:
        if pattern.is_name or pattern.problem is not None:
            continue
        dots = dots_escaped(pattern.pattern)
        whole = closed(dots)
        for rule, seems, why in (
            ("unescaped-dot", dots, r"A dot stands for any character. Write \. for the dot of a name"),
            ("open-end", whole, "A pattern may end within a name. Say where it ends"),
        ):
            more = _not_matched(pattern.names, seems)
            # Where nothing is left, that is not what was meant either.
            if more and len(more) < len(pattern.names):
                yield Finding(
                    rule,
                    _where(pattern, explained),
                    f"'{pattern.pattern}' matches {len(more):,} more than it seems to, such as "
                    f"{joined(map(repr, more[:2]))}. {why}: {whole}",
                    pattern.depth,
                    tuple(more),
                )
                break


def _not_matched(names: Sequence[str], pattern: str) -> list[str]:
    expression = re.compile(pattern)
    return [name for name in names if not expression.match(unwrapped_name(name))]


def _never_thawed(explained: Explanation) -> Iterator[Finding]:
    never = explained.never_thawed
    if not never:
        return
    yield Finding(
        "never-thawed",
        explained.places.whole() or "the schedule",
        f"No phase thaws {joined(explained.groups.of(never))}: {len(never):,} of {len(explained.names):,} "
        "parameters stay as they are.",
        None,
        tuple(never),
    )
