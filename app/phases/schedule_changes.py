"""What a checkpoint records of its schedule, and how another schedule differs from that, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from phasewire.adapters.errors import CheckpointError
from phasewire.app.schedule.values import plain_copy

if TYPE_CHECKING:
    from phasewire.app.schedule.resolved import ResolvedSchedule

__all__ = ["changes_between", "plain", "record_of", "require_resumable"]

# Any: the values are those of the schedule file.
PhaseRecord = dict[str, Any]

_MOST_NAMES: Final = 4
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


def record_of(schedule: ResolvedSchedule) -> list[PhaseRecord]:
    """Give a schedule as a checkpoint records it.

    Args:
        schedule: The resolved schedule.

    Returns:
        One dict for every phase, with the keys of the schedule file and names in full. Plain values only: an object
        among the arguments of a class stands there as text.
    """
    return [{key: plain(value) for key, value in phase.to_dict().items()} for phase in schedule.phases]


def require_resumable(
    saved: Sequence[Mapping[str, Any]],
    now: Sequence[Mapping[str, Any]],
    *,
    depth: int,
    final_depth: int,
    started_by: Mapping[str, int],
) -> None:
    """Make sure that a run can go on in a phase of another schedule.

    Phases up to that one are in the checkpoint's weights and in its optimizer. What comes later may be anything.

    Args:
        saved: The record of the schedule that the checkpoint was written with.
        now: That of the schedule to go on with.
        depth: The phase the checkpoint was written in.
        final_depth: The last phase to train now.
        started_by: ``new_optimizer`` and ``new_lr_scheduler`` to the phase that started the one in the checkpoint.

    Raises:
        CheckpointError: The phase does not exist any more, a phase up to it had other parameters, or one had started an
            optimizer or lr scheduler of another class. All changes are listed.
    """
    changes = changes_between(saved, now)
    listed = f" Changed since then: {_sentence(changes)}" if changes else ""
    if depth > final_depth:
        raise CheckpointError(
            f"The checkpoint was written in phase {depth}, and the last phase to train is {final_depth}.{listed}",
            remedy="Resume with the same schedule and max_depth.",
        )
    other = [number for number in range(depth + 1) if set(saved[number]["params"]) != set(now[number]["params"])]
    if other:
        raise CheckpointError(
            f"Phase {other[0]} of the schedule does not thaw what it did when the checkpoint was written in phase "
            f"{depth}.{listed}",
            remedy="Resume with a schedule whose phases up to that one thaw the same parameters, or load the "
            "checkpoint's weights into the module and start the new schedule without ckpt_path.",
        )

    for key, phase in started_by.items():
        was, is_now = _shown(saved[phase].get(key)), _shown(now[phase].get(key))
        if "none" not in (was, is_now) and was != is_now:
            raise CheckpointError(
                f"The checkpoint holds the state of {was}, which phase {phase} had started ({key}), and the schedule "
                f"starts {is_now} there.{listed}",
                remedy="Resume with the class that the checkpoint was written with.",
            )


def changes_between(saved: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how two schedules differ.

    Args:
        saved: The record of the first.
        now: That of the second.

    Returns:
        A line for every phase that differs. The order of names within a phase makes no difference.
    """
    changes = []
    for depth in range(max(len(saved), len(now))):
        if depth >= len(now):
            changes.append(f"phase {depth} is gone ({_listed(saved[depth]['params'])})")
        elif depth >= len(saved):
            changes.append(f"phase {depth} is new ({_listed(now[depth]['params'])})")
        else:
            differences = [*_names_changed(saved[depth], now[depth]), *_values_changed("", saved[depth], now[depth])]
            if differences:
                changes.append(f"phase {depth}: {', '.join(differences)}")
    return changes


def _names_changed(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = frozenset(saved["params"]), frozenset(now["params"])
    gone = [name for name in saved["params"] if name not in after]
    new = [name for name in now["params"] if name not in before]
    if gone:
        yield f"no longer {_listed(gone)}"
    if new:
        yield f"now also {_listed(new)}"


def _values_changed(key: str, saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*saved, *now]):
        before, after = saved.get(name), now.get(name)
        path = f"{key}.{name}" if key else name
        if path == "params" or before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _values_changed(path, before, after)
        else:
            yield f"{path} {_shown(before)} -> {_shown(after)}"


def _shown(value: object) -> str:
    if value is None or value == -1:
        return "none"
    if isinstance(value, Mapping):
        inner = next((item for item in value.values() if isinstance(item, Mapping)), {})
        return str(value.get("class_path") or inner.get("class_path") or dict(value))
    return str(value)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES]) or "no parameters"
    return f"{shown} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else shown


def _sentence(changes: Sequence[str]) -> str:
    return f"{'; '.join(changes)}."


def plain(value: object) -> object:
    """Turn a value into one that a checkpoint can be trusted with: data stays, everything else becomes text.

    Args:
        value: Whatever it is.

    Returns:
        Plain values, in lists and dicts.
    """
    value = plain_copy(value)
    if isinstance(value, dict):
        return {str(key) if not isinstance(key, int) else key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    # Without the address, which is another one in every process.
    return _ADDRESS.sub("", repr(value))
