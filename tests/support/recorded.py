"""Records of runs that nobody has trained, for tests of what is read from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: A name that does harm wherever it is taken for anything but text.
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }} $x^2$ \u202e\N{SNOWMAN}\x07"
#: Names that matplotlib would take for mathematics, and some of them for wrong mathematics.
DOLLARS = ("$\\frac{$", "$x$", "$", "$$", "$\\nothing$", "\\$x^$", "a$_{b$c", "$\\mathdefault{", "%$#&~_^\\{}")
#: How a run of three phases and nine epochs goes.
PHASES = ((0, 0, 5), (1, 3, 25), (2, 6, 53))


class Recording:
    """Writes the record of a run, one event after the other, a second apart.

    Args:
        folder: The log folder.
        names: What is added to the names of module, metrics and files.
    """

    def __init__(self, folder: Path, names: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / "phasewire_run.jsonl"
        self._names = names
        self._seconds = 0

    def write(self, event: str, **fields: Any) -> None:
        """Append one event."""
        time = f"2026-03-01T10:{self._seconds // 60:02}:{self._seconds % 60:02}.000+00:00"
        self._seconds += 1
        with self.path.open("a") as file:
            file.write(json.dumps({"event": event, "time": time, **fields}) + "\n")

    def fit_began(
        self, epoch: int = 0, resumed_from: str | None = None, checkpoint_folders: Sequence[str] = ()
    ) -> None:
        """Begin, or resume."""
        self.write(
            "fit_began",
            format=1,
            epoch=epoch,
            step=2 * epoch,
            resumed_from=resumed_from,
            module=f"Tuned{self._names}",
            parameters=53,
            last_phase=len(PHASES) - 1,
            max_epochs=9,
            strategy="SingleDeviceStrategy",
            adapter="StrategyAdapter",
            device="cpu",
            precision="32-true",
            folder=str(self.folder),
            checkpoint_folders=list(checkpoint_folders),
            versions={"phasewire": "0.1.0", "torch": "2.13.0"},
            platform=f"Linux{self._names}",
            schedule=[{"params": [f"layers.{phase}{self._names}"], "lr": 0.1} for phase, _, _ in PHASES],
        )

    def phase_began(self, phase: int, epoch: int, trained: int = 5, restored: Mapping[str, Any] | None = None) -> None:
        """Begin a phase."""
        self.write(
            "phase_began",
            phase=phase,
            epoch=epoch,
            step=2 * epoch,
            ended_by=[f"patience{self._names}"] if phase else [],
            tensors=2,
            parameters=20,
            trained=trained,
            groups=[{"group": number, "lr": 0.1 / 10**number, "phase": number} for number in range(phase + 1)],
            restored=restored,
        )

    def epoch_ended(self, epoch: int, phase: int, metrics: Mapping[str, float] | None = None) -> None:
        """End an epoch, and save a checkpoint in it."""
        path = str(self.folder / "checkpoints" / f"epoch={epoch}{self._names}.ckpt")
        monitor = f"val_loss{self._names}"
        self.write("checkpoint_saved", path=path, monitor=monitor, score=1 / (1 + epoch), epoch=epoch, phase=phase)
        default = {f"val_loss{self._names}": 1 / (1 + epoch), f"train_loss{self._names}": 2 / (1 + epoch)}
        self.write(
            "epoch_ended",
            epoch=epoch,
            step=2 * (epoch + 1),
            phase=phase,
            lrs=[0.1 / 10**number for number in range(phase + 1)],
            metrics=metrics or {**default, f"val_accuracy{self._names}": epoch / 10},
        )

    def whole(self, *, epochs: Sequence[int] = range(9), ends: bool = True) -> Recording:
        """Write all of a run."""
        self.fit_began()
        begin = {epoch: (phase, trained) for phase, epoch, trained in PHASES}
        phase = 0
        for epoch in epochs:
            if epoch in begin:
                phase, trained = begin[epoch]
                path = str(self.folder / "checkpoints" / f"epoch={epoch - 1}{self._names}.ckpt")
                restored = {"path": path, "epoch": epoch - 1, "phase": phase - 1, "monitor": "val_loss", "score": 0.5}
                self.phase_began(phase, epoch, trained, restored if phase else None)
            self.epoch_ended(epoch, phase)
        if ends:
            best = str(self.folder / "checkpoints" / f"epoch={epochs[-1]}{self._names}.ckpt")
            self.write("fit_ended", epoch=epochs[-1] + 1, step=18, how="finished", reason="", best_checkpoint=best)
        return self
