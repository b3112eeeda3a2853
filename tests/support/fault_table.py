"""The faults, each with what is injected and what must hold afterwards: the one table of them.

``fault_runs.py`` injects them, ``tests/faults/test_faults.py`` asserts what came of it, and ``fault_page.py`` writes
the table into docs/reliability.md.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import fault_adapters as adapters
import fault_claims as claims
import fault_injections as inject
import fault_processes as processes
from fault_claims import Claim
from fault_scene import JOB, Place, Scene
from resuming import Job, Moment, differences

Act = Callable[[Scene], Any]

FIRST_PHASE_SAVED = Moment("epoch saved", 1)
STEPS = range(12)
#: Moments of the first transition, and of the second; each asks twice for the names of what is thawed.
TRANSITION = [Moment("restoring", 0), Moment("thawing", 0), Moment("thawed", 0)]
NEXT_TRANSITION = [Moment("restoring", 1), Moment("thawing", 2), Moment("thawed", 1)]
#: The same, each with how many steps were made.
TRANSITIONS = [(moment, 4) for moment in TRANSITION] + [(moment, 10) for moment in NEXT_TRANSITION]
START = Place("start")


def newest(step: int) -> Place:
    return Place("newest", step)


@dataclass(frozen=True)
class Case:
    """One moment at which a fault strikes, with what is only so then."""

    moment: Moment | None
    """When it strikes; with none, on a run that was cut off."""
    act: Act
    """What it does then."""
    goes_on: Place | None = None
    """Where the run goes on, if not where the other cases do."""
    claims: tuple[Claim, ...] = ()
    """What must hold besides."""
    ends: str = ""
    """How the run ends, if not as in the other cases."""
    says: tuple[str, ...] = ()
    """What the error must say besides."""
    leaves_draft: bool = False
    """A half file stays: none of that name is saved again."""


@dataclass(frozen=True)
class Fault:
    """One fault, in one or more cases."""

    id: str
    injected: str
    """What is injected, for people."""
    holds: str
    """What must hold afterwards, for people: beyond what holds for every fault. The fields below assert all of it."""
    cases: Sequence[Case]
    ends: str
    """How the run ends that it strikes: ``whole``, ``error``, ``killed``, or ``exit``."""
    says: tuple[str, ...] = ()
    """What the error must say: patterns for the cause and for the remedy."""
    goes_on: Place | None = None
    """Where the run goes on; nowhere if this is ``None`` and that of the case is."""
    claims: tuple[Claim, ...] = ()
    """What must hold besides, when the run has ended that it strikes."""
    job: Job = JOB
    needs: str = ""
    """What not every machine allows."""
    also: tuple[Callable[[Scene, Any], list[str]], ...] = ()
    """Say what else is wrong with a run that ends whole."""
    train: Callable[[Scene, Moment | None, Any], object] = Scene.train
    """Trains, where that takes more than one process."""


NOT_WRITTEN = ("cannot be written", "resume from the newest checkpoint")
NOT_READ = ("The checkpoint cannot be read|is damaged", "another checkpoint|there and whole")
#: The checkpoints of epoch 1, as an error names them.
BEST, RECOVERY = "best/epoch=1-step=4.ckpt", "recovery/epoch=1-step=4.ckpt"
NAMES_BEST, NAMES_RECOVERY = (re.escape(name) for name in (BEST, RECOVERY))
#: What is saved in the first epochs, in turn.
SAVED_IN_TURN = [
    f"{folder}/epoch={epoch}-step={2 * epoch + 2}.ckpt" for epoch in range(3) for folder in ("best", "recovery")
]
#: Where a run goes on that was cut off while it saved one of these.
AFTER_CUT_SAVE = [START, Place("best", 2), newest(2), newest(2), newest(4), newest(4)]
OLD_FILES_STAY = claims.still_there("best/epoch=0-step=2.ckpt", "recovery/epoch=0-step=2.ckpt")
NEW_BEST_UNNAMED = (OLD_FILES_STAY, claims.never_there(BEST))
REFUSED = (claims.taken_back(4),)


def at(moment: Moment | None, act: Act) -> list[Case]:
    return [Case(moment, act)]


def check(problem: str, holds: Callable[[Any], bool]) -> Callable[[Scene, Any], list[str]]:
    return lambda _, outcome: [] if holds(outcome) else [problem]


def ended_as_ever(scene: Scene, outcome: Any) -> list[str]:
    return differences(scene.whole.everything(), outcome.everything())


FAULTS: list[Fault] = [
    # -- saving ------------------------------------------------------------------------------------------------------
    Fault(
        "disk-full",
        "The file system has no room left (a small tmpfs, filled), before each of the checkpoints of epoch 1",
        "The error names the file and ENOSPC; every checkpoint from before is whole, and no half file is left",
        [
            Case(Moment("validation ends", 1), inject.fill_disk, claims=NEW_BEST_UNNAMED, says=(NAMES_BEST,)),
            Case(
                Moment("epoch saved", 0),
                inject.fill_disk_after_one_checkpoint,
                claims=(OLD_FILES_STAY, claims.there(BEST), claims.never_there(RECOVERY)),
                says=(NAMES_RECOVERY,),
            ),
        ],
        "error",
        ("No space left on device", *NOT_WRITTEN),
        newest(2),
        needs="mounts",
        train=processes.train_on_small_disk,
    ),
    Fault(
        "file-too-large",
        "A limit on the size of files (RLIMIT_FSIZE) that stops a checkpoint after 0, 900 and 5000 bytes",
        "The error names the file and EFBIG; every checkpoint from before is whole, and no half file is left",
        [Case(Moment("epoch saved", 0), inject.limit_file_size(size)) for size in (0, 900, 5000)],
        "error",
        ("File too large", NAMES_BEST, *NOT_WRITTEN),
        newest(2),
        claims=NEW_BEST_UNNAMED,
    ),
    Fault(
        "sync-fails",
        "The disk reports an error when the file is flushed (EIO from fsync)",
        "The file before it stays; the new one never gets its name",
        at(Moment("epoch saved", 0), inject.failing("fsync")),
        "error",
        ("Input/output error", NAMES_BEST, *NOT_WRITTEN),
        newest(2),
        claims=NEW_BEST_UNNAMED,
    ),
    Fault(
        "rename-fails",
        "The finished file cannot be renamed (EBUSY)",
        "The file before it stays; the new one never gets its name",
        at(Moment("epoch saved", 0), inject.failing("replace")),
        "error",
        ("Device or resource busy", NAMES_BEST, *NOT_WRITTEN),
        newest(2),
        claims=NEW_BEST_UNNAMED,
    ),
    Fault(
        "too-many-open-files",
        "No further file can be opened (RLIMIT_NOFILE)",
        "The error names the file and the cause; files stay whole",
        at(Moment("epoch saved", 0), inject.limit_open_files),
        "error",
        ("Too many open files", NAMES_BEST, *NOT_WRITTEN),
        newest(2),
        claims=NEW_BEST_UNNAMED,
    ),
    Fault(
        "read-only-folder",
        "The checkpoint folders lose the right to be written to",
        "The error names the file and the cause; files stay whole",
        at(Moment("epoch saved", 0), inject.forbid_writing),
        "error",
        ("Permission denied", NAMES_BEST, *NOT_WRITTEN),
        newest(2),
        claims=NEW_BEST_UNNAMED,
        needs="dropped rights",
    ),
    Fault(
        "read-only-from-the-start",
        "The folder of the run cannot be written to when it starts",
        "The run is refused before it trains: the schedule that it uses cannot be saved",
        at(Moment("never", 0), inject.forbid_writing_to_run),
        "error",
        ("schedule.* cannot be written: Permission denied", "another place"),
        START,
        claims=(claims.nothing_trained,),
        needs="dropped rights",
        train=processes.train_after,
    ),
    Fault(
        "read-only-file-system",
        "The file system is remounted read-only",
        "The error names the file and the cause; files stay whole",
        at(Moment("epoch saved", 0), inject.remount_read_only),
        "error",
        ("Read-only file system", NAMES_BEST, *NOT_WRITTEN),
        newest(2),
        claims=NEW_BEST_UNNAMED,
        needs="mounts",
        train=processes.train_on_small_disk,
    ),
    Fault(
        "folder-becomes-file",
        "A file stands where the folder of the recovery checkpoints was",
        "The error names it; when it is gone, the run goes on from what is left, in the same place",
        at(Moment("epoch saved", 0), inject.put_file_for_folder),
        "error",
        ("File exists|Not a directory", NAMES_RECOVERY, *NOT_WRITTEN),
        Place("best", 4),
    ),
    Fault(
        "unpicklable-state",
        "A callback puts something into the checkpoint that cannot be saved",
        "The error names what it is; files stay whole",
        at(Moment("epoch saved", 0), inject.put_unpicklable),
        "error",
        ("cannot be written", "lambda", "Remove .* what cannot be pickled"),
        newest(2),
        claims=NEW_BEST_UNNAMED,
    ),
    Fault(
        "killed-while-saving",
        "SIGKILL when half of a checkpoint is written, for each of the first six",
        "No half file goes by the name of a checkpoint, and the next save of that name removes what is left",
        [
            Case(
                Moment("epoch starts", 0),
                inject.half_written(number, "SIGKILL"),
                AFTER_CUT_SAVE[number],
                (claims.never_there(SAVED_IN_TURN[number]),),
                leaves_draft=number == 1,  # what goes on from the best checkpoint has that epoch behind it
            )
            for number in range(6)
        ],
        "killed",
        claims=(claims.half_file_is_left,),
    ),
    Fault(
        "interrupted-while-saving",
        "SIGINT when half of a checkpoint is written, for each of the first six",
        "Nothing is left of the half file",
        [
            Case(
                Moment("epoch starts", 0),
                inject.half_written(number, "SIGINT"),
                AFTER_CUT_SAVE[number],
                (claims.never_there(SAVED_IN_TURN[number]),),
            )
            for number in range(6)
        ],
        "exit",
    ),
    # -- the best checkpoint, between phases -------------------------------------------------------------------------
    Fault(
        "best-truncated",
        "The best checkpoint is cut to half, to no byte, and by its last byte, before a transition restores it",
        "The transition is refused, and taken back",
        [Case(FIRST_PHASE_SAVED, inject.truncate_best(part)) for part in (0.5, 0.0, 0.999)],
        "error",
        NOT_READ,
        Place("previous", 2),
        claims=REFUSED,
    ),
    Fault(
        "best-bit-flipped",
        "One bit of the best checkpoint is flipped: in a weight, in the optimizer's state, in what describes them",
        "torch loads flipped weights and states without a word; here the transition is refused, and taken back",
        [
            *[
                Case(FIRST_PHASE_SAVED, inject.flip_bit_of_best(member), claims=(claims.torch_loads_best,))
                for member in ("data/0", "data/9")
            ],
            Case(FIRST_PHASE_SAVED, inject.flip_bit_of_best("data.pkl")),
        ],
        "error",
        ("is damaged", "another checkpoint"),
        Place("previous", 2),
        claims=REFUSED,
    ),
    Fault(
        "best-replaced-by-folder",
        "A folder stands where the best checkpoint was",
        "The transition is refused, and taken back",
        at(FIRST_PHASE_SAVED, inject.replace_best_by_folder),
        "error",
        NOT_READ,
        Place("previous", 2),
        claims=REFUSED,
    ),
    Fault(
        "best-deleted",
        "The best checkpoint is deleted",
        "The transition is refused, and taken back",
        at(FIRST_PHASE_SAVED, inject.delete_best),
        "error",
        ("FileNotFoundError", *NOT_READ),
        Place("previous", 2),
        claims=REFUSED,
    ),
    Fault(
        "best-replaced-by-text",
        "A web page stands where the best checkpoint was",
        "The transition is refused, and taken back",
        at(FIRST_PHASE_SAVED, inject.replace_best_by_text),
        "error",
        NOT_READ,
        Place("previous", 2),
        claims=REFUSED,
    ),
    Fault(
        "best-of-another-module",
        "The best checkpoint is replaced by one of another module, and by weights alone",
        "The transition is refused, and taken back",
        [Case(FIRST_PHASE_SAVED, inject.replace_best_by_other(kind)) for kind in ("module", "weights")],
        "error",
        ("does not|failed with|holds no state", "wrong weights|fit|another checkpoint"),
        Place("previous", 2),
        claims=REFUSED,
    ),
    Fault(
        "best-unreadable",
        "The right to read the best checkpoint is taken away",
        "The transition is refused, and taken back; with the right back, it is done",
        at(FIRST_PHASE_SAVED, inject.forbid_reading_best),
        "error",
        ("Permission denied", NAMES_BEST, *NOT_READ),
        newest(4),
        claims=REFUSED,
        needs="dropped rights",
    ),
    Fault(
        "run-folder-deleted",
        "The whole folder of the run is deleted while it trains",
        "The next transition says that its checkpoint is gone; a new start in the same place works",
        at(FIRST_PHASE_SAVED, inject.delete_run),
        "error",
        ("FileNotFoundError", *NOT_READ),
        START,
        claims=REFUSED,
    ),
    # -- the checkpoint to resume from -------------------------------------------------------------------------------
    Fault(
        "resume-from-damaged",
        "The newest recovery checkpoint is truncated, bit-flipped, a folder, or gone, when a run resumes from it",
        "The resume is refused before anything is trained or written; an earlier one works",
        [
            Case(None, act)
            for act in (
                inject.truncate_newest,
                inject.flip_bit_of_newest,
                inject.replace_newest_by_folder,
                inject.delete_newest,
            )
        ],
        "error",
        NOT_READ,
        Place("previous", 4),
        claims=(claims.nothing_trained, claims.nothing_written),
    ),
    # -- signals -----------------------------------------------------------------------------------------------------
    Fault(
        "sigkill-at-every-step",
        "SIGKILL before every one of the 12 steps",
        "The run goes on from the step before; only before the first one was nothing saved",
        [Case(Moment("batch starts", step), inject.send("SIGKILL"), newest(step) if step else START) for step in STEPS],
        "killed",
        job=inject.EVERY_STEP,
    ),
    Fault(
        "sigterm-at-every-step",
        "SIGTERM before every one of the 12 steps",
        "Lightning ends the run after the step; it goes on from there",
        [
            Case(
                Moment("batch starts", step),
                inject.send("SIGTERM"),
                newest(step + 1),
                (claims.stands_as_after(step + 1),),
            )
            for step in STEPS
        ],
        "exit",
        job=inject.EVERY_STEP,
    ),
    Fault(
        "sigint-at-every-step",
        "SIGINT (Ctrl+C) before every one of the 12 steps",
        "Lightning ends the run before the step; it goes on from there; only before the first one was nothing saved",
        [
            Case(
                Moment("batch starts", step),
                inject.send("SIGINT"),
                newest(step) if step else START,
                (claims.stands_before_batch(step),),
            )
            for step in STEPS
        ],
        "exit",
        job=inject.EVERY_STEP,
    ),
    Fault(
        "sigkill-in-transition",
        "SIGKILL within both transitions: weights restored, before the thaw, after it",
        "The transition is done again, in full",
        [Case(moment, inject.send("SIGKILL"), newest(step)) for moment, step in TRANSITIONS],
        "killed",
    ),
    Fault(
        "sigterm-in-transition",
        "SIGTERM within both transitions, at the same moments",
        "The transition and one step are finished, then the run ends; it goes on",
        [
            Case(moment, inject.send("SIGTERM"), newest(step), (claims.stands_as_after(step + 1),))
            for moment, step in TRANSITIONS
        ],
        "exit",
    ),
    Fault(
        "sigint-in-transition",
        "SIGINT within both transitions, at the same moments",
        "The transition is taken back; it is done again, in full",
        [Case(moment, inject.send("SIGINT"), newest(step), (claims.taken_back(step),)) for moment, step in TRANSITIONS],
        "exit",
    ),
    # -- metrics -----------------------------------------------------------------------------------------------------
    Fault(
        "nan-metric",
        "The monitored loss is NaN in one epoch of each phase, under early stopping",
        "Training stops at once, in any phase, and a warning says why; the best checkpoint is one of before",
        [
            Case(
                Moment("validation starts", epoch),
                inject.lose_numbers,
                Place("before", 2 * epoch),
                (
                    claims.stands_as_after(2 * epoch + 2),
                    claims.still_there(f"best/epoch={best}-step={2 * best + 2}.ckpt"),
                ),
            )
            for epoch, best in ((1, 0), (3, 2), (5, 2))
        ],
        "whole",
        ("'val_loss' is nan", "resume"),
        also=(check("the best checkpoint is another", inject.has_best_of_before),),
    ),
    Fault(
        "nan-weights",
        "The weights become NaN in phase 0, and phases end by epochs alone",
        "The transition restores finite weights, and the run ends with finite ones",
        at(Moment("batch starts", 3), inject.poison_weights),
        "whole",
        goes_on=Place("before", 2),
        job=inject.BY_EPOCHS,
        also=(
            check("the weights are not finite", inject.is_finite),
            check("the transition restored no finite weights", inject.were_restored_finite),
        ),
    ),
    Fault(
        "metric-never-logged",
        "The monitored metric is not logged in the first epoch, but another one",
        "The error names the metric and those that are logged",
        at(Moment("validation starts", 0), inject.log_nothing(from_epoch=0)),
        "error",
        ("'val_loss', which is not logged", "Logged metrics: 'another_loss'", "Log it"),
        START,
    ),
    Fault(
        "metric-missing-for-epochs",
        "The monitored metric is not logged in epochs 2 and 3",
        "Lightning keeps the last value, so a missing one counts as no improvement: the phase ends by patience",
        at(Moment("validation starts", 2), inject.log_nothing(from_epoch=2, to_epoch=4)),
        "whole",
        goes_on=Place("previous to before", 2),
        also=(check("the phase does not end by patience", lambda outcome: outcome.knife.seen.batches[8][1] == 2),),
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
            newest(4) if in_transition else START,
            claims=REFUSED if in_transition else (),
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
        newest(4),
        claims=REFUSED,
    ),
    # -- the world ---------------------------------------------------------------------------------------------------
    Fault(
        "clock-goes-backwards",
        "The clock goes back by an hour at every look, and files are dated so",
        "Nothing is decided by the clock: the run ends as ever, and one that is killed goes on from its newest link",
        [
            Case(Moment("epoch starts", 0), inject.turn_clock_back, newest(12)),
            Case(Moment("epoch starts", 0), inject.turn_clock_back_and_kill, Place("link", 2), ends="killed"),
        ],
        "whole",
        also=(ended_as_ever,),
        job=inject.LINKING,
    ),
    Fault(
        "two-runs-in-one-folder",
        "Two runs start in one folder at once, and save at the same moments",
        "Both end as if alone, each with its own best checkpoint; a warning tells of the other",
        at(Moment("epoch starts", 0), inject.nothing),
        "whole",
        ("Another run", "folder of its own"),
        goes_on=None,  # each went on by itself
        train=processes.train_two_runs,
    ),
    # -- several processes -------------------------------------------------------------------------------------------
    Fault(
        "rank-killed-in-transition",
        "One of two processes is killed within a transition, the first one or the second",
        "The other stops with an error within 30 seconds; both go on together",
        [
            Case(moment, inject.OnRank(rank, inject.send("SIGKILL"), -signal.SIGKILL))
            for rank, moment in ((0, TRANSITION[2]), (1, TRANSITION[0]))
        ],
        "error",
        ("process . of 2", "another process has failed"),
        newest(4),
        train=processes.train_in_two_processes,
        job=processes.DDP,
    ),
    Fault(
        "rank-raises-in-transition",
        "The adapter of one of two processes raises within a transition",
        "Both stop with an error within 30 seconds, the transition taken back; both go on together",
        at(TRANSITION[1], inject.OnRank(1, inject.fail, 1, says=("the disk is on fire", "Phase 1 did not begin"))),
        "error",
        ("process 0 of 2", "another process has failed"),
        newest(4),
        claims=(claims.taken_back(4, rank=0), claims.taken_back(4, rank=1)),
        train=processes.train_in_two_processes,
        job=processes.DDP,
    ),
    Fault(
        "rank-hangs-in-transition",
        "One of two processes stops (SIGSTOP) within a transition",
        "The other stops with an error when the time limit of the process group is over (3 seconds here)",
        at(TRANSITION[0], inject.OnRank(1, inject.send("SIGSTOP"), None)),
        "error",
        ("process 0 of 2", "another process has failed or hangs", "[Tt]ime(out|d out)"),
        newest(4),
        claims=REFUSED,
        train=processes.train_in_two_processes,
        job=processes.DDP,
    ),
    Fault(
        "rank-raises-with-metrics-to-reduce",
        "The first of two processes raises at the end of an epoch, with a metric logged that both must reduce; the "
        "other one is elsewhere",
        "It stops with its own error, and waits for no other: the metrics that its record tells of that epoch are none",
        at(
            Moment("epoch ends", 1),
            inject.OnRank(0, inject.log_together_and_fail, 1, ("the disk is on fire",), otherwise=inject.be_elsewhere),
        ),
        "error",
        ("process 1 of 2", "another process has failed"),
        newest(2),
        claims=(claims.recorded_without_metrics,),
        train=processes.train_in_two_processes,
        job=processes.DDP,
    ),
]
