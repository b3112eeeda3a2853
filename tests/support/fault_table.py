"""The faults, each with what is injected and what must hold afterwards: the one table of them.

``fault_runs.py`` injects them, ``tests/faults/test_faults.py`` asserts what came of it, and ``fault_page.py`` writes
the table into docs/reliability.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import fault_adapters as adapters
import fault_injections as inject
import fault_processes as processes
from fault_scene import JOB, Scene
from resuming import Job, Moment

Act = Callable[[Scene], Any]

FIRST_PHASE_SAVED = Moment("epoch saved", 1)
STEPS = range(12)
TRANSITION = [Moment(hook, number) for number in (0, 1) for hook in ("restoring", "thawing", "thawed")]


@dataclass(frozen=True)
class Fault:
    """One fault, in one or more cases."""

    id: str
    injected: str
    """What is injected, for people."""
    holds: str
    """What must hold afterwards, for people: beyond what holds for every fault."""
    cases: Sequence[tuple[Moment | None, Act]]
    """The moments at which it strikes, and what it does then; with no moment, on a run that was cut off."""
    ends: str
    """How the run ends that it strikes: ``whole``, ``error``, ``killed``, or ``exit``."""
    says: tuple[str, ...] = ()
    """What the error must say: patterns for the cause and for the remedy."""
    goes_on: str = "newest"
    """Where the run can go on: its ``newest`` checkpoint, an ``earlier`` one, the newest from ``before`` the fault, or
    the ``start``; or one of several. Nowhere if empty."""
    job: Job = JOB
    needs: str = ""
    """What not every machine allows."""
    also: Callable[[Any], list[str]] | None = None
    """Says what else is wrong with a run that ends whole."""
    train: Callable[[Scene, Moment | None, Act], object] = Scene.train
    """Trains, where that takes more than one process."""


NOT_WRITTEN = ("cannot be written", "resume from")
NOT_READ = ("The checkpoint cannot be read|is damaged", "another checkpoint|there and whole")


def at(moment: Moment | None, act: Act) -> list[tuple[Moment | None, Act]]:
    return [(moment, act)]


FAULTS: list[Fault] = [
    # -- saving ------------------------------------------------------------------------------------------------------
    Fault(
        "disk-full",
        "The file system has no room left (a small tmpfs, filled), before each of the checkpoints of epoch 1",
        "The error names the file and ENOSPC; every checkpoint from before is whole, and no half file is left",
        [(Moment("validation ends", 1), inject.fill_disk), (Moment("epoch saved", 0), inject.fill_disk)],
        "error",
        ("No space left on device", *NOT_WRITTEN),
        needs="mounts",
        train=processes.train_on_small_disk,
    ),
    Fault(
        "file-too-large",
        "A limit on the size of files (RLIMIT_FSIZE) that stops a checkpoint after 0, 900 and 5000 bytes",
        "As above; torch alone would say `unexpected pos`",
        [(Moment("epoch saved", 0), inject.limit_file_size(size)) for size in (0, 900, 5000)],
        "error",
        ("File too large", *NOT_WRITTEN),
    ),
    Fault(
        "sync-fails",
        "The disk reports an error when the file is flushed (EIO from fsync)",
        "The file before it stays; the new one never gets its name",
        at(Moment("epoch saved", 0), inject.failing("fsync")),
        "error",
        ("Input/output error", *NOT_WRITTEN),
    ),
    Fault(
        "rename-fails",
        "The finished file cannot be renamed (EBUSY)",
        "The file before it stays; the new one never gets its name",
        at(Moment("epoch saved", 0), inject.failing("replace")),
        "error",
        ("Device or resource busy", *NOT_WRITTEN),
    ),
    Fault(
        "too-many-open-files",
        "No further file can be opened (RLIMIT_NOFILE)",
        "The error names the cause; files stay whole",
        at(Moment("epoch saved", 0), inject.limit_open_files),
        "error",
        ("Too many open files", *NOT_WRITTEN),
    ),
    Fault(
        "read-only-folder",
        "The checkpoint folders lose the right to be written to",
        "The error names the folder; files stay whole",
        at(Moment("epoch saved", 0), inject.forbid_writing),
        "error",
        ("Permission denied", *NOT_WRITTEN),
        needs="dropped rights",
    ),
    Fault(
        "read-only-from-the-start",
        "The folder of the run cannot be written to when it starts",
        "The run is refused before it trains: the schedule that it uses cannot be saved",
        at(Moment("never", 0), inject.forbid_writing_to_run),
        "error",
        ("cannot be written: Permission denied", "another place"),
        goes_on="start",
        needs="dropped rights",
        train=processes.train_after,
    ),
    Fault(
        "read-only-file-system",
        "The file system is remounted read-only",
        "The error names the cause; files stay whole",
        at(Moment("epoch saved", 0), inject.remount_read_only),
        "error",
        ("Read-only file system", *NOT_WRITTEN),
        needs="mounts",
        train=processes.train_on_small_disk,
    ),
    Fault(
        "folder-becomes-file",
        "A file stands where the folder of the recovery checkpoints was",
        "The error names it; the run starts again in the same place when it is gone",
        at(Moment("epoch saved", 0), inject.put_file_for_folder),
        "error",
        ("File exists|Not a directory", *NOT_WRITTEN),
        goes_on="start",
    ),
    Fault(
        "unpicklable-state",
        "A callback puts something into the checkpoint that cannot be saved",
        "The error names what it is; files stay whole",
        at(Moment("epoch saved", 0), inject.put_unpicklable),
        "error",
        ("cannot be written", "pickle|lambda"),
    ),
    Fault(
        "killed-while-saving",
        "SIGKILL when half of a checkpoint is written, for each of the first six",
        "No half file goes by the name of a checkpoint, and the next save removes what is left",
        [(Moment("epoch starts", 0), inject.half_written(number, "SIGKILL")) for number in range(6)],
        "killed",
        goes_on="newest or start",
    ),
    Fault(
        "interrupted-while-saving",
        "SIGINT when half of a checkpoint is written, for each of the first six",
        "Nothing is left of the half file",
        [(Moment("epoch starts", 0), inject.half_written(number, "SIGINT")) for number in range(6)],
        "exit",
        goes_on="newest or start",
    ),
    # -- the best checkpoint, between phases -------------------------------------------------------------------------
    Fault(
        "best-truncated",
        "The best checkpoint is cut to half, to no byte, and by its last byte, before a transition restores it",
        "The transition is refused, and taken back; the run goes on from an earlier checkpoint",
        [(FIRST_PHASE_SAVED, inject.truncate_best(part)) for part in (0.5, 0.0, 0.999)],
        "error",
        NOT_READ,
        goes_on="earlier",
    ),
    Fault(
        "best-bit-flipped",
        "One bit of the best checkpoint is flipped: in a weight, in the optimizer's state, in what describes them",
        "torch loads flipped weights without a word; here their checksums are compared, and the transition refused",
        [(FIRST_PHASE_SAVED, inject.flip_bit_of_best(member)) for member in ("data/0", "data/9", "data.pkl")],
        "error",
        ("is damaged", "another checkpoint"),
        goes_on="earlier",
    ),
    Fault(
        "best-replaced-by-folder",
        "A folder stands where the best checkpoint was",
        "The transition is refused, and taken back",
        at(FIRST_PHASE_SAVED, inject.replace_best_by_folder),
        "error",
        NOT_READ,
        goes_on="earlier",
    ),
    Fault(
        "best-deleted",
        "The best checkpoint is deleted",
        "The transition is refused, and taken back",
        at(FIRST_PHASE_SAVED, inject.delete_best),
        "error",
        NOT_READ,
        goes_on="earlier",
    ),
    Fault(
        "best-replaced-by-text",
        "A web page stands where the best checkpoint was",
        "The transition is refused, and taken back",
        at(FIRST_PHASE_SAVED, inject.replace_best_by_text),
        "error",
        NOT_READ,
        goes_on="earlier",
    ),
    Fault(
        "best-of-another-module",
        "The best checkpoint is replaced by one of another module, and by weights alone",
        "The transition is refused, and taken back",
        [(FIRST_PHASE_SAVED, inject.replace_best_by_other(kind)) for kind in ("module", "weights")],
        "error",
        ("does not|failed with|holds no state", "wrong weights|fit|another checkpoint"),
        goes_on="earlier",
    ),
    Fault(
        "best-unreadable",
        "The right to read the best checkpoint is taken away",
        "The transition is refused; with the right back, the run goes on",
        at(FIRST_PHASE_SAVED, inject.forbid_reading_best),
        "error",
        ("Permission denied", *NOT_READ),
        needs="dropped rights",
    ),
    Fault(
        "run-folder-deleted",
        "The whole folder of the run is deleted while it trains",
        "The next transition says that its checkpoint is gone; a new start in the same place works",
        at(FIRST_PHASE_SAVED, inject.delete_run),
        "error",
        NOT_READ,
        goes_on="start",
    ),
    # -- the checkpoint to resume from -------------------------------------------------------------------------------
    Fault(
        "resume-from-damaged",
        "The newest recovery checkpoint is truncated, bit-flipped, a folder, or gone, when a run resumes from it",
        "The resume is refused before anything is trained or written; an earlier one works",
        [
            (None, act)
            for act in (
                inject.truncate_newest,
                inject.flip_bit_of_newest,
                inject.replace_newest_by_folder,
                inject.delete_newest,
            )
        ],
        "error",
        NOT_READ,
        goes_on="newest or earlier",
    ),
    # -- signals -----------------------------------------------------------------------------------------------------
    Fault(
        "sigkill-at-every-step",
        "SIGKILL before every one of the 12 steps",
        "The run goes on from the step before, or from the start",
        [(Moment("batch starts", step), inject.send("SIGKILL")) for step in STEPS],
        "killed",
        goes_on="newest or start",
        job=inject.EVERY_STEP,
    ),
    Fault(
        "sigterm-at-every-step",
        "SIGTERM before every one of the 12 steps",
        "Lightning ends the run after the step; it goes on from there",
        [(Moment("batch starts", step), inject.send("SIGTERM")) for step in STEPS],
        "exit",
        goes_on="newest or start",
        job=inject.EVERY_STEP,
    ),
    Fault(
        "sigint-at-every-step",
        "SIGINT (Ctrl+C) before every one of the 12 steps",
        "Lightning stops the run gracefully; it goes on from the step before",
        [(Moment("batch starts", step), inject.send("SIGINT")) for step in STEPS],
        "exit",
        goes_on="newest or start",
        job=inject.EVERY_STEP,
    ),
    Fault(
        "sigkill-in-transition",
        "SIGKILL within both transitions: weights restored, before the thaw, after it",
        "The transition is done again, in full",
        [(moment, inject.send("SIGKILL")) for moment in TRANSITION],
        "killed",
    ),
    Fault(
        "sigterm-in-transition",
        "SIGTERM within both transitions, at the same moments",
        "The transition and one step are finished, then the run ends; it goes on",
        [(moment, inject.send("SIGTERM")) for moment in TRANSITION],
        "exit",
    ),
    Fault(
        "sigint-in-transition",
        "SIGINT within both transitions, at the same moments",
        "The transition is taken back; it is done again, in full",
        [(moment, inject.send("SIGINT")) for moment in TRANSITION],
        "exit",
    ),
    # -- metrics -----------------------------------------------------------------------------------------------------
    Fault(
        "nan-metric",
        "The monitored loss is NaN in phase 1, under early stopping",
        "Training stops at once, in any phase, and a warning says why; the best checkpoint is the one before",
        at(Moment("validation starts", 3), inject.lose_numbers),
        "whole",
        ("'val_loss' is nan", "resume"),
        goes_on="before",
    ),
    Fault(
        "nan-weights",
        "The weights become NaN in phase 0, and phases end by epochs alone",
        "The transition restores finite weights, and the run ends with finite ones",
        at(Moment("batch starts", 3), inject.poison_weights),
        "whole",
        goes_on="before",
        job=inject.BY_EPOCHS,
        also=lambda outcome: [] if inject.is_finite(outcome) else ["the weights are not finite"],
    ),
    Fault(
        "metric-never-logged",
        "The monitored metric is not logged in the first epoch",
        "The error names the metric and those that are logged",
        at(Moment("validation starts", 0), inject.log_nothing(from_epoch=0)),
        "error",
        ("val_loss", "logged"),
        goes_on="start",
    ),
    Fault(
        "metric-missing-for-epochs",
        "The monitored metric is not logged in epochs 2 and 3",
        "Lightning keeps the last value, so a missing one counts as no improvement: the phase ends by patience",
        at(Moment("validation starts", 2), inject.log_nothing(from_epoch=2, to_epoch=4)),
        "whole",
        goes_on="before earlier",
    ),
    # -- adapters ----------------------------------------------------------------------------------------------------
    *(
        Fault(
            f"adapter-raises-in-{hook}" + ("-in-transition" if in_transition else ""),
            f"The adapter raises in `{hook}`"
            + (", in the transition" if in_transition else ", when it is first called"),
            "The error names the hook, the adapter and what to do"
            + ("; the transition is taken back" if in_transition else ""),
            at(Moment("never", 0), inject.nothing),
            "error",
            (
                f"{adapters.NAME}.*{hook}|{hook}.*{adapters.NAME}",
                "the disk is on fire",
                "[Mm]end|Nothing was|No checkpoint",
            ),
            goes_on="newest" if in_transition else "start",
            job=adapters.job_raising_in(hook, in_transition=in_transition),
        )
        for hook, in_transition in adapters.HOOKS
    ),
    Fault(
        "memory-error-in-transition",
        "Memory runs out while the optimizer of a phase is extended",
        "The transition is taken back, and done again by the run that goes on",
        at(Moment("epoch saved", 1), inject.exhaust_memory),
        "error",
        ("MemoryError", "Phase 1 did not begin"),
    ),
    # -- the world ---------------------------------------------------------------------------------------------------
    Fault(
        "clock-goes-backwards",
        "The clock goes back by an hour at every look, and files are dated so",
        "Nothing is decided by the clock: the run ends as ever, and resumes from its newest link",
        at(Moment("epoch starts", 0), inject.turn_clock_back),
        "whole",
        job=inject.LINKING,
    ),
    Fault(
        "two-runs-in-one-folder",
        "Two runs start in one folder at once, and save at the same moments",
        "Both end as if alone, each with its own best checkpoint; a warning tells of the other",
        at(Moment("epoch starts", 0), inject.nothing),
        "whole",
        ("Another run", "folder of its own"),
        goes_on="",  # each went on by itself
        train=processes.train_two_runs,
    ),
    # -- several processes -------------------------------------------------------------------------------------------
    Fault(
        "rank-killed-in-transition",
        "One of two processes is killed within a transition, the first one or the second",
        "The other stops with an error within 30 seconds; both go on together from the newest checkpoint",
        [(TRANSITION[2 * (1 - rank)], inject.on_rank(rank, inject.send("SIGKILL"))) for rank in (0, 1)],
        "error",
        ("process . of 2", "another process has failed"),
        train=processes.train_in_two_processes,
        job=processes.DDP,
    ),
    Fault(
        "rank-raises-in-transition",
        "The adapter of one of two processes raises within a transition",
        "Both stop with an error within 30 seconds; both go on together from the newest checkpoint",
        at(TRANSITION[1], inject.on_rank(1, inject.fail)),
        "error",
        ("Phase 1 did not begin",),
        train=processes.train_in_two_processes,
        job=processes.DDP,
    ),
    Fault(
        "rank-hangs-in-transition",
        "One of two processes stops (SIGSTOP) within a transition",
        "The other stops with an error when the time limit of the process group is over (3 seconds here)",
        at(TRANSITION[2], inject.on_rank(1, inject.send("SIGSTOP"))),
        "error",
        ("process 0 of 2", "another process has failed or hangs"),
        train=processes.train_in_two_processes,
        job=processes.DDP,
    ),
]
