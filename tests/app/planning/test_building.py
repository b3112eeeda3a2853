"""A model that builds its layers where only a fit has what it needs."""

from __future__ import annotations

import pytest
from lightning.pytorch import LightningModule
from torch import nn

from phasewire.app.plan import build_model


class Sharded(LightningModule):
    """Takes the mesh as the documentation of ``ModelParallelStrategy`` has it: it is there in a fit alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)

    def configure_model(self) -> None:
        self.mesh = self.device_mesh["data_parallel"]


class Unready(Sharded):
    def configure_model(self) -> None:
        raise RuntimeError("no process group")


@pytest.mark.parametrize(
    ("model", "raised"),
    [(Sharded, "TypeError: 'NoneType' object is not subscriptable"), (Unready, "RuntimeError: no process group")],
)
def test_what_only_a_fit_can_configure_is_said_and_the_rest_is_planned(model, raised):
    with pytest.warns(UserWarning, match=rf"configure_model\(\) cannot run outside a fit \({raised}\)"):
        built = build_model(model)
    assert [name for name, _ in built.named_parameters()] == ["head.weight", "head.bias"]
