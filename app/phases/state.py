"""What a run knows of its progress through the schedule, in memory and in checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from phasewire.adapters.errors import CheckpointError
from phasewire.adapters.tensor_pieces import CHANGED
from phasewire.app.checkpoint import FORMAT_VERSION

__all__ = ["OptimizationState", "PhaseState", "installed_versions"]


@dataclass(slots=True)
class OptimizationState:
    """What a checkpoint must tell of optimizer and lr schedulers, so that their states can be loaded from it."""

    groups: list[list[str]] = field(default_factory=list)
    """The parameter names of every optimizer group."""
    optimizer_phase: int = 0
    """The phase that started the optimizer; 0 for the one that the module configures."""
    lr_scheduler_phase: int = 0
    """The phase that started the lr scheduler; 0 for those that the module configures."""
    lr_scheduler_groups: int = 0
    """How many groups the optimizer had when a phase started the lr scheduler."""
    without_decay: list[int] = field(default_factory=list)
    """The numbers of the groups that were exempt from weight decay when a phase started the optimizer."""


@dataclass(slots=True)
class PhaseState:
    """Where a run stands in its schedule. Plain values only, so that it loads with ``weights_only=True``."""

    depth: int = 0
    """The phase being trained, from 0."""
    started_at_epoch: int = 0
    """The epoch in which the phase began."""
    # Any, here and below: the values of a schedule, and of a checkpoint, are whatever was put there.
    schedule: list[dict[str, Any]] = field(default_factory=list)
    """The phases of the schedule, as :func:`~phasewire.app.phases.schedule_changes.record_of` gives them."""
    loop: dict[str, Any] = field(default_factory=dict)
    """What is left to do in the training loop; see :class:`~phasewire.app.phases.catch_up.CatchUp`."""
    put_off: list[str] = field(default_factory=list)
    """Files that are to be removed; see :class:`~phasewire.app.phases.kept_files.KeptFiles`."""
    versions: dict[str, str] = field(default_factory=dict)
    """The versions of the packages that write the state, by :func:`installed_versions`."""
    begun: bool = False
    """Whether training had begun; a learning-rate finder saves and restores before it does."""
    criteria: list[dict[str, Any]] = field(default_factory=list)
    """The transition criteria; see :class:`~phasewire.app.phases.phase_criteria.PhaseCriteria`."""
    optimization: OptimizationState = field(default_factory=OptimizationState)
    """The optimizer and the lr schedulers, when the state was written."""

    def to_dict(self) -> dict[str, Any]:
        """Give the state as it is stored in a checkpoint.

        Returns:
            A dict of plain values, with the version of its format.
        """
        return {
            "format": FORMAT_VERSION,
            "depth": self.depth,
            "started_at_epoch": self.started_at_epoch,
            "schedule": self.schedule,
            "loop": self.loop,
            "put_off": self.put_off,
            "versions": self.versions,
            "begun": self.begun,
            "criteria": self.criteria,
            **asdict(self.optimization),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], *, where: str | None = None) -> PhaseState:
        """Read a state from a checkpoint.

        Args:
            saved: What :meth:`to_dict` gave.
            where: The checkpoint, for messages.

        Returns:
            The state.

        Raises:
            CheckpointError: It has another format, lacks a field, or names a phase that its schedule does not have.
        """
        if not isinstance(saved, Mapping):
            raise _unreadable(f"it is a {type(saved).__name__}", where)
        written_as = saved.get("format")
        if not isinstance(written_as, int) or written_as != FORMAT_VERSION:
            raise CheckpointError(
                f"The scheduler's state has format {written_as!r}, and this release of Phasewire reads "
                f"{FORMAT_VERSION}.",
                where=where,
                remedy="Resume with the release that wrote the checkpoint.",
            )
        try:
            state = cls(
                depth=int(saved["depth"]),
                started_at_epoch=int(saved["started_at_epoch"]),
                schedule=[{**phase, "params": _names(phase["params"])} for phase in saved["schedule"]],
                loop={
                    "metrics": dict(saved["loop"]["metrics"]),
                    "validation_follows": bool(saved["loop"]["validation_follows"]),
                },
                put_off=_names(saved["put_off"]),
                versions=dict(zip(_names(saved["versions"]), _names(saved["versions"].values()), strict=True)),
                begun=bool(saved["begun"]),
                criteria=[_criterion(entry) for entry in saved["criteria"]],
                optimization=OptimizationState(
                    groups=[_names(names) for names in saved["groups"]],
                    optimizer_phase=int(saved["optimizer_phase"]),
                    lr_scheduler_phase=int(saved["lr_scheduler_phase"]),
                    lr_scheduler_groups=int(saved["lr_scheduler_groups"]),
                    without_decay=[int(index) for index in saved["without_decay"]],
                ),
            )
        except Exception as error:  # a file that was changed may hold tensors, which raise anything
            raise _unreadable(f"{type(error).__name__}: {error}", where) from error
        optimization = state.optimization
        for depth in (state.depth, optimization.optimizer_phase, optimization.lr_scheduler_phase):
            if depth not in range(len(state.schedule)):
                raise _unreadable(f"phase {depth}, of {len(state.schedule)} phases", where)
        return state


def installed_versions() -> dict[str, str]:
    """Give the versions of the packages that decide how training goes on.

    Returns:
        Name of the distribution to version; one that was not installed as a distribution is left out.
    """
    versions = {}
    for name in ("phasewire", "lightning", "torch"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


# Any: as above.
def _criterion(saved: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": str(saved["name"]),
        "distribution": saved["distribution"],
        "options": dict(saved["options"]),
        "over": bool(saved["over"]),
        "state": dict(saved["state"]),
    }


def _names(values: Iterable[object]) -> list[str]:
    names = list(values)
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None or isinstance(values, str):
        raise TypeError(f"{wrong if wrong is not None else values!r} stands where a list of text is expected")
    return cast("list[str]", names)


def _unreadable(reason: str, where: str | None) -> CheckpointError:
    return CheckpointError(
        f"The state of the FinetuningScheduler, which tells the phase to go on in, cannot be read ({reason}).",
        where=where,
        remedy=CHANGED,
    )
