"""Trains three phases in two processes that disagree about when a phase is over, and saves what each rank did.

``python ddp_criteria.py FOLDER``
"""

import sys
from pathlib import Path

import torch

from ddp_run import SaveRank, SplitModule
from phasewire.adapters import TransitionCriterion
from phasewire.app import FinetuningScheduler
from tuning import fit, make_trainer

SCHEDULE = {0: {"params": ["head.*"]}, 1: {"params": ["layers.1.*"]}, 2: {"params": ["layers.0.*"]}}


class RankOneAlone(TransitionCriterion):
    """Rank 1 alone ends phase 0, before epoch 2."""

    def before_epoch(self, phase):
        return (phase.trainer.global_rank, phase.depth, phase.epoch) == (1, 0, 2)


def main(folder: Path) -> None:
    torch.manual_seed(0)
    # The losses of rank 0 get worse and worse, and those of rank 1 better and better.
    plateau = {"plateau": {"window": 3}}
    trainer = make_trainer(
        folder,
        FinetuningScheduler(SCHEDULE, restore_best=False, transition_criteria=[plateau, RankOneAlone]),
        SaveRank(folder),
        strategy="ddp_fork",
        devices=2,
        max_epochs=12,
    )
    fit(trainer, SplitModule())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
