"""Numbers of a plan in words, the same wherever they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from phasewire.app.planning.values import Plan, PlannedPhase

__all__ = [
    "byte_text",
    "byte_unit",
    "phase_count",
    "printable",
    "rate_text",
    "remarks",
    "share_text",
    "short_path",
    "summary",
]

_BYTES_IN_UNIT: Final = 1024
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_LEAST_SHOWN: Final = 0.0005
_MOST_RATES: Final = 3
_UNKNOWN: Final = "?"


def byte_text(size: int | None) -> str:
    """Write a number of bytes.

    Args:
        size: The bytes; ``None`` where they are not known.

    Returns:
        Such as ``"1.5 GiB"``.
    """
    if size is None:
        return _UNKNOWN
    unit, name = byte_unit(size)
    return f"{size} B" if unit == 1 else f"{size / unit:.1f} {name}"


def byte_unit(size: int) -> tuple[int, str]:
    """Choose a unit.

    Args:
        size: A number of bytes.

    Returns:
        The largest unit that it is at least one of: how many bytes it is, and its name.
    """
    power = 0
    while size >= _BYTES_IN_UNIT ** (power + 1) and power + 1 < len(_UNITS):
        power += 1
    return _BYTES_IN_UNIT**power, _UNITS[power]


def share_text(part: int, whole: int) -> str:
    """Write a share.

    Args:
        part: The part.
        whole: What it is a part of.

    Returns:
        Such as ``"12.5%"``.
    """
    if not whole:
        return "-"
    return "<0.1%" if 0 < part / whole < _LEAST_SHOWN else f"{part / whole:.1%}"


def rate_text(phase: PlannedPhase) -> str:
    """Write the learning rates that a phase begins with.

    Args:
        phase: The phase.

    Returns:
        Those of its groups, each once; and those of all groups where the phase sets them anew.
    """
    if phase.all_rates is not None:
        return f"all groups: {_rates(phase.all_rates)}"
    if phase.group_rates:
        return _rates(phase.group_rates)
    return "the optimizer's" if phase.depth == 0 else "-"


def phase_count(count: int) -> str:
    """Write how many phases there are.

    Args:
        count: The number.

    Returns:
        Such as ``"3 phases"``.
    """
    return "1 phase" if count == 1 else f"{count:,} phases"


def summary(plan: Plan) -> str:
    """Say what the numbers of a plan hold for.

    Args:
        plan: The plan.

    Returns:
        One line: precision, optimizer and the memory of the weights.
    """
    return (
        f"Precision {plan.precision}, optimizer {plan.optimizer or 'not known'}, weights "
        f"{byte_text(plan.weight_bytes)}. Gradients and optimizer: of all that is thawed so far."
    )


def remarks(plan: Plan) -> list[str]:
    """Say what was assumed or left out.

    Args:
        plan: The plan.

    Returns:
        Whole sentences.
    """
    said = []
    if plan.assumes_optimizer:
        said.append(f"{plan.model} configures no optimizer: {plan.optimizer} is assumed; --optimizer names another.")
    if plan.may_count_buffers:
        said.append(
            "The checkpoint names no class, so that buffers cannot be told from parameters, and count as such; name it "
            "with --class."
        )
    if plan.never_trained:
        said.append(
            f"{plan.never_trained:,} parameters are left out: joint projections, which the bridge splits into the "
            "parts that it computes with, and which get no gradient."
        )
    if plan.untrained_phases:
        last = f"{plan.untrained_phases} phases" if plan.untrained_phases > 1 else "phase"
        said.append(f"max_depth leaves out the last {last} of the schedule.")
    return said


def printable(name: str) -> str:
    """Make a name fit for a picture, whose fonts have no signs for what moves a cursor or belongs to no language.

    Args:
        name: Any text.

    Returns:
        The same with a question mark for each such character.
    """
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def short_path(path: str, width: int) -> str:
    """Shorten the path of a module in its middle, where it says least.

    Args:
        path: The path.
        width: How many characters there may be.

    Returns:
        The path, with an ellipsis where something was left out.
    """
    if len(path) <= width:
        return path
    end = max(1, (width - 1) * 2 // 3)
    return f"{path[: width - 1 - end]}…{path[-end:]}"


def _rates(rates: Sequence[float]) -> str:
    shown = [f"{rate:g}" for rate in dict.fromkeys(rates)]
    if len(shown) > _MOST_RATES:
        shown[_MOST_RATES - 1 :] = ["…", shown[-1]]
    return ", ".join(shown)
