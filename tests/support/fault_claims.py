"""What must hold after some faults beside what holds after all of them: each says what does not.

They look at what is left when the run has ended that was hit, before another goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import torch

from fault_scene import Scene, digest_of, files_of
from resuming import differences

Claim = Callable[[Scene], list[str]]

RECORD = "phasewire_run.jsonl"


def stands_as_after(step: int, *, rank: int = 0, weights: bool = True) -> Claim:
    """The run stands as one that was not hit stood after that step: same phase, trained parameters, groups,
    rates and lr schedulers.

    Args:
        step: The step.
        rank: The process that is looked at.
        weights: Whether its weights are the same, too. A transition that is taken back does not undo the restore.
    """

    def claim(scene: Scene) -> list[str]:
        there, _ = scene.ended(rank)
        expected, found = dict(vars(scene.whole.knife.seen.after[step])), dict(vars(there))
        if not weights:
            del expected["weights"], found["weights"]
        return differences(expected, found, "where it ended")

    return claim


def taken_back(step: int, *, rank: int = 0) -> Claim:
    """A transition was taken back that began after that step."""
    return stands_as_after(step, rank=rank, weights=False)


def stands_before_batch(step: int) -> Claim:
    """The run stands as one that was not hit stood when the batch of that step began."""

    def claim(scene: Scene) -> list[str]:
        there, _ = scene.ended()
        _, *expected = scene.whole.knife.seen.batches[step]
        found = [there.depth, there.trained, there.groups, there.rates]
        return differences(expected, found, "where it ended") + ([] if there.step == step else [f"it is {there.step}"])

    return claim


def nothing_trained(scene: Scene) -> list[str]:
    _, batches = scene.ended()
    return [f"{batches} batches were trained"] if batches else []


def nothing_written(scene: Scene) -> list[str]:
    now = {str(path.relative_to(scene.run)): digest_of(path) for path in files_of(scene.run)}
    return [
        f"{name} was written"
        for name, digest in now.items()
        if name not in scene.damaged
        if scene.before.get(name) != digest
    ]


def half_file_is_left(scene: Scene) -> list[str]:
    return [] if scene.drafts() else ["there is no half file, so none can be removed"]


def never_there(*names: str) -> Claim:
    """No file got one of these names."""
    return lambda scene: [f"{name} is there" for name in names if (scene.run / name).exists()]


def still_there(*names: str) -> Claim:
    """These files were there before and are; that no byte changed holds after every fault."""
    return lambda scene: [
        f"{name} is gone" for name in names if name not in scene.before or not (scene.run / name).is_file()
    ]


def there(*names: str) -> Claim:
    """These files are there."""
    return lambda scene: [f"{name} is not there" for name in names if not (scene.run / name).is_file()]


def torch_loads_best(scene: Scene) -> list[str]:
    """torch alone does not see the damage."""
    torch.load(scene.best, weights_only=True)
    return []


def recorded_without_metrics(scene: Scene) -> list[str]:
    """The record of the run tells of the epoch that ended and of the failure, and asked no process for metrics."""
    events = [json.loads(line) for line in (scene.run / RECORD).read_text().splitlines()]
    told = [(event["event"], event.get("metrics"), event.get("how")) for event in events[-2:]]
    expected = [("epoch_ended", {}, None), ("fit_ended", None, "failed")]
    return [] if told == expected else [f"the record ends with {told}, not {expected}"]
