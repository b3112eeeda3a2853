"""Trains phases under FSDP in two processes in many ways, and compares with one process.

``python fsdp_run.py FOLDER`` runs all scenes, and with ``finetuning_scheduler`` behind it those in which that package
fails, with its callbacks. Rank 0 leaves ``results.json``: what every scene found, by its name. The checkpoints of the
scenes stay in the folder.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fsdp_on_cpu import in_two_processes
from fsdp_parts import (
    EPOCHS,
    SCHEDULE,
    BuiltOnMeta,
    NoDecay,
    Prefixed,
    SavesRightAfterThaw,
    SplitModule,
    Watches,
    Weights,
    WrapsChildren,
    WrapsLayersTogether,
    WrapsOne,
    largest_difference,
    plain_sgd,
    seeded,
    strategy,
    train,
)
from phasewire.app import FinetuningScheduler
from tuning import Batches, make_trainer

REINIT = {
    0: SCHEDULE[0],
    1: SCHEDULE[1]
    | {"new_optimizer": {"optimizer_init": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}}}},
    2: SCHEDULE[2]
    | {
        "new_lr_scheduler": {
            "lr_scheduler_init": {
                "class_path": "torch.optim.lr_scheduler.StepLR",
                "init_args": {"step_size": 1, "gamma": 0.5},
            },
            "pl_lrs_cfg": {"interval": "epoch", "frequency": 1},
        }
    },
}


class Scenes:
    """Runs scenes in both processes, and notes on rank 0 what they found."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder, self.rank = folder, rank
        self.results: dict[str, Any] = {}
        self._expected: dict[str, list[Weights]] = {}

    def expected(self, name: str, module: Callable[[], SplitModule] = SplitModule, **options: Any) -> list[Weights]:
        """What one process makes of it."""
        if name not in self._expected:
            torch.manual_seed(0)
            place = self.folder / f"one process {self.rank}" / name
            self._expected[name] = train(place, "auto", module(), **options).ends
        return self._expected[name]

    def note(self, name: str, scene: Callable[[], Any]) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found: Any = scene()
            except Exception as error:  # noqa: BLE001 - the tests assert on what it says
                found = {"error": type(error).__name__, "text": str(error), "traceback": traceback.format_exc()}
                found |= {"awp_overrides": list(getattr(error, "awp_overrides", []))}
        ours = [str(each.message) for each in caught if "/phasewire" in each.filename or "FSDP" in str(each.message)]
        self.results[name] = {"found": found, "warnings": ours}


def told(watches: Watches, expected: Sequence[Weights]) -> dict[str, Any]:
    """What a test asserts on: the difference in every epoch, and how the run went."""
    pairs = zip(watches.ends, expected[-len(watches.ends) :], strict=True)
    return {
        "differences": [largest_difference([ours], [theirs]) for ours, theirs in pairs],
        "depths": watches.depths,
        "units": watches.units,
        "module_is_wrapped": watches.module_is_wrapped,
    }


def work(rank: int) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    scenes = Scenes(Path(sys.argv[1]), rank)
    (_of_the_peer if len(sys.argv) > 2 else _of_ours)(scenes)
    if rank == 0:
        (scenes.folder / "results.json").write_text(json.dumps(scenes.results))


def _of_the_peer(scenes: Scenes) -> None:
    whole = scenes.expected("whole")
    peer = {"package": sys.argv[2]}
    for orig in (True, False):
        place = scenes.folder / f"thaw {orig}"
        scenes.note(
            f"thaw orig={orig}", lambda orig=orig, place=place: told(train(place, strategy(orig=orig), **peer), whole)
        )
    scenes.note(
        "sharded", lambda: told(train(scenes.folder / "shards", strategy(orig=True, kind="sharded"), **peer), whole)
    )
    stateless = seeded(optimizer=plain_sgd)
    scenes.note(
        "stateless", lambda: told(train(scenes.folder / "stateless", strategy(orig=True), stateless, **peer), whole)
    )
    run = strategy(orig=True, policy=False)
    scenes.note("WrapsOne", lambda: told(train(scenes.folder / "one", run, seeded(WrapsOne), **peer), whole))


def _of_ours(scenes: Scenes) -> None:
    whole = scenes.expected("whole")
    changes = [torch.stack([(whole[-1][name] - seeded().state_dict()[name]).abs().max() for name in whole[0]]).min()]
    scenes.note("smallest change of a parameter", lambda: float(min(changes)))
    for orig in (True, False):
        for kind in ("full", "sharded"):
            _train_resume_and_validate(scenes, orig=orig, kind=kind)
    for kind in ("full", "sharded"):
        _mixed_units(scenes, kind)
    _best_of_an_earlier_phase(scenes)
    _flat_parameters_that_phases_share(scenes)
    _wrapped_by_the_user(scenes)
    _ways_to_shard(scenes)
    _other_strategies(scenes)
    _optimizers(scenes)
    _names(scenes)


def _train_resume_and_validate(scenes: Scenes, *, orig: bool, kind: str) -> None:
    whole, what = scenes.expected("whole"), f"orig={orig} {kind}"
    place = scenes.folder / what
    run = {"orig": orig, "kind": kind}
    scenes.note(f"train {what}", lambda: told(train(place, strategy(**run), None, SavesRightAfterThaw()), whole))
    for saved in ("begins 1.ckpt", "begins 3.ckpt", "epoch=1.ckpt", "epoch=3.ckpt"):
        scenes.note(
            f"resume {what} {saved}",
            lambda saved=saved: told(train(place / "resumed", strategy(**run), ckpt_path=place / saved), whole),
        )

    def validate() -> dict[str, float]:
        module = SplitModule(whole_validation=True)
        trainer = make_trainer(place, FinetuningScheduler(SCHEDULE), strategy=strategy(**run), devices=2)
        (found,) = trainer.validate(module, Batches(1), ckpt_path=place / f"epoch={EPOCHS - 1}.ckpt", verbose=False)
        by_hand = SplitModule()
        by_hand.load_state_dict(whole[-1])
        losses = [nn.functional.mse_loss(by_hand(x), y).item() for x, y in Batches(1)]
        return {"val_loss": found["val_loss"], "by_hand": sum(losses) / len(losses)}

    scenes.note(f"validate {what}", validate)


def _mixed_units(scenes: Scenes, kind: str) -> None:
    whole, place = scenes.expected("whole"), scenes.folder / f"mixed {kind}"
    run = {"orig": True, "kind": kind, "policy": False}
    scenes.note(f"mixed {kind}", lambda: told(train(place, strategy(**run), None, SavesRightAfterThaw()), whole))
    scenes.note(
        f"mixed {kind}, resumed right after a thaw",
        lambda: told(train(place / "resumed", strategy(**run), ckpt_path=place / "begins 1.ckpt"), whole),
    )


def _best_of_an_earlier_phase(scenes: Scenes) -> None:
    best_is_the_first = {"scores": [1.0, 2.0, 2.0, 2.0, 2.0]}
    expected = scenes.expected("the first is the best", lambda: SplitModule(**best_is_the_first))
    for orig, policy in ((True, True), (True, False), (False, True)):
        for kind in ("full", "sharded"):
            what = f"orig={orig} policy={policy} {kind}"
            run = {"orig": orig, "policy": policy, "kind": kind}
            scenes.note(
                f"the first is the best {what}",
                lambda what=what, run=run: told(
                    train(scenes.folder / f"first {what}", strategy(**run), seeded(**best_is_the_first)), expected
                ),
            )


def _flat_parameters_that_phases_share(scenes: Scenes) -> None:
    whole, place = scenes.expected("whole"), scenes.folder / "shared"
    run = {"orig": False, "policy": False}
    scenes.note("shared", lambda: told(train(place, strategy(**run)), whole))
    proposed = scenes.results["shared"]["found"]["awp_overrides"]
    scenes.note(
        "shared, mended",
        lambda: told(train(place, strategy(**run), strategy_adapter_cfg={"awp_overrides": proposed}), whole),
    )


def _wrapped_by_the_user(scenes: Scenes) -> None:
    whole = scenes.expected("whole")
    for orig in (True, False):
        run = {"orig": orig, "policy": False}
        for kind in (WrapsChildren, WrapsLayersTogether):
            place = scenes.folder / f"{kind.__name__} {orig}"
            scenes.note(
                f"{kind.__name__} orig={orig}",
                lambda place=place, run=run, kind=kind: told(train(place, strategy(**run), seeded(kind)), whole),
            )
    scenes.note("WrapsOne", lambda: told(train(scenes.folder / "one", strategy(orig=True), seeded(WrapsOne)), whole))


def _ways_to_shard(scenes: Scenes) -> None:
    whole = scenes.expected("whole")

    def ignoring() -> dict[str, Any]:
        module = seeded()
        run = strategy(orig=True, ignored_modules=[module.layers[1]])
        return told(train(scenes.folder / "ignored", run, module), whole)

    scenes.note("ignored", ignoring)
    for orig in (True, False):
        place = scenes.folder / f"SHARD_GRAD_OP {orig}"
        run = {"orig": orig, "sharding_strategy": "SHARD_GRAD_OP"}
        scenes.note(
            f"SHARD_GRAD_OP orig={orig}",
            lambda place=place, run=run: told(train(place, strategy(**run)), whole),
        )
        scenes.note(
            f"meta orig={orig}",
            lambda orig=orig: changes_of(train(scenes.folder / f"meta {orig}", strategy(orig=orig), BuiltOnMeta())),
        )


def changes_of(watches: Watches) -> list[list[str]]:
    """Which parameters each epoch after the first changed."""
    return [
        sorted(name for name in after if not torch.equal(before[name], after[name]))
        for before, after in itertools.pairwise(watches.ends)
    ]


def _other_strategies(scenes: Scenes) -> None:
    whole = scenes.expected("whole")
    of_one = scenes.folder / "one process 0" / "whole"
    for orig in (True, False):
        written = scenes.folder / f"orig={orig} full"
        place = scenes.folder / f"moved {orig} {scenes.rank}"
        shared = scenes.folder / f"moved {orig}"
        run = {"orig": orig}
        scenes.note(
            f"from one device to orig={orig}",
            lambda shared=shared, run=run: told(
                train(shared, strategy(**run), ckpt_path=of_one / "epoch=2.ckpt"), whole
            ),
        )
        scenes.note(
            f"from orig={orig} to one device",
            lambda written=written, place=place: told(train(place, "auto", ckpt_path=written / "epoch=2.ckpt"), whole),
        )
        scenes.note(
            f"from orig={orig} to orig={not orig}",
            lambda written=written, shared=shared, run=run: told(
                train(shared, strategy(orig=not run["orig"]), ckpt_path=written / "epoch=2.ckpt"), whole
            ),
        )


def _optimizers(scenes: Scenes) -> None:
    reinit = scenes.expected("reinit", schedule=REINIT)
    for orig in (True, False):
        place, run = scenes.folder / f"reinit {orig}", {"orig": orig}
        scenes.note(
            f"reinit orig={orig}",
            lambda place=place, run=run: told(train(place, strategy(**run), schedule=REINIT), reinit),
        )
        scenes.note(
            f"reinit orig={orig}, resumed",
            lambda place=place, run=run: told(
                train(place / "resumed", strategy(**run), schedule=REINIT, ckpt_path=place / "epoch=2.ckpt"), reinit
            ),
        )
    stateless = scenes.expected("stateless", lambda: SplitModule(optimizer=plain_sgd))
    for kind in ("full", "sharded"):
        scenes.note(
            f"an optimizer without a state, {kind}",
            lambda kind=kind: told(
                train(
                    scenes.folder / f"stateless {kind}",
                    strategy(orig=True, kind=kind),
                    seeded(optimizer=plain_sgd),
                ),
                stateless,
            ),
        )
    accumulated = scenes.expected("accumulated", accumulate=2)
    for orig in (True, False):
        scenes.note(
            f"accumulated orig={orig}",
            lambda orig=orig: told(
                train(scenes.folder / f"accumulated {orig}", strategy(orig=orig), accumulate=2), accumulated
            ),
        )
    no_decay = scenes.expected("no_decay", NoDecay)
    for orig in (True, False):
        scenes.note(
            f"no_decay orig={orig}",
            lambda orig=orig: told(
                train(scenes.folder / f"no_decay {orig}", strategy(orig=orig), seeded(NoDecay)), no_decay
            ),
        )


def _names(scenes: Scenes) -> None:
    whole = scenes.expected("whole")
    prefixed = {
        depth: phase | {"params": [f"my.{name}" for name in phase["params"]]} for depth, phase in SCHEDULE.items()
    }
    for orig in (True, False):
        scenes.note(
            f"plug-in orig={orig}",
            lambda orig=orig: told(
                train(
                    scenes.folder / f"plug-in {orig}",
                    strategy(orig=orig),
                    schedule=prefixed,
                    custom_strategy_adapters={"fsdp": Prefixed},
                ),
                whole,
            ),
        )
        scenes.note(
            f"activation checkpointing orig={orig}",
            lambda orig=orig: told(
                train(
                    scenes.folder / f"activation checkpointing {orig}",
                    strategy(orig=orig, activation_checkpointing_policy={nn.Linear}),
                ),
                whole,
            ),
        )
    by_patience = {depth: {"params": phase["params"]} for depth, phase in SCHEDULE.items()}
    scenes.note(
        "phases that end by patience on one rank",
        lambda: train(scenes.folder / "patience", strategy(orig=True), schedule=by_patience, patience=1).depths,
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    in_two_processes(work)
