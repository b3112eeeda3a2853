"""Imports point one way, private names of others stay in the seams, and wiring imports nothing that is not used."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from commands import run
from source_imports import (
    SourceModule,
    imports_by_path,
    loaded_with,
    private_attributes_of_bases,
    private_attributes_of_others,
    private_imports,
    source_modules,
    wrong_way_imports,
)

Check = Callable[[SourceModule], Iterator[str]]
PRIVATE_NAME_CHECKS = [private_imports, private_attributes_of_others, private_attributes_of_bases]


def found(check: Check, modules: list[SourceModule]) -> list[str]:
    return [finding for module in modules for finding in check(module)]


def test_imports_point_from_containers_to_app_to_adapters_only(repository: Path) -> None:
    modules = source_modules(repository)
    assert {module.layer for module in modules} == {"adapters", "app", "containers"}
    assert found(wrong_way_imports, modules) == []


def test_only_the_command_line_and_the_test_kit_name_a_part_above_them_by_its_path(repository: Path) -> None:
    named = {
        (module.name, path)
        for module in source_modules(repository)
        for path, _ in imports_by_path(module)
        if path.startswith(("phasewire.app", "phasewire.containers"))
    }
    assert named == {
        ("phasewire.adapters.testing", "phasewire.app.adapter_checks:ImportProber"),
        ("phasewire.adapters.testing", "phasewire.app.adapter_checks:checker_for"),
        ("phasewire.adapters.testing", "phasewire.app.adapter_checks:checker_from_text"),
        ("phasewire.adapters.testing", "phasewire.app.adapter_checks:rule_names"),
        ("phasewire.app.wired", "phasewire.containers:Container"),
    }


def test_a_report_loads_nothing_that_trains(repository: Path) -> None:
    loaded = loaded_with("phasewire.app.report.page", source_modules(repository))
    assert {"phasewire.app.report.svg", "phasewire.app.watching.criterion_words", "phasewire.adapters.errors"} <= loaded
    assert not [name for name in loaded if name.startswith("phasewire.app.phases")]
    words = loaded_with("phasewire.app.watching.words", source_modules(repository))
    assert "phasewire.app.phases.callbacks" in words


@pytest.mark.parametrize("check", PRIVATE_NAME_CHECKS)
def test_private_names_of_lightning_and_torch_are_touched_in_the_seams_only(check: Check, repository: Path) -> None:
    outside = [module for module in source_modules(repository) if module.path.name != "lightning_seams.py"]
    assert found(check, outside) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("adapters/a.py", "import phasewire.app"),
        ("adapters/a.py", "from phasewire.containers import Container"),
        ("adapters/a.py", "from phasewire import app"),
        ("adapters/a.py", "def f():\n    from phasewire.app import checkpoint"),
        ("adapters/a.py", "if TYPE_CHECKING:\n    from phasewire.app import Schedule"),
        ("app/schedule/a.py", "from phasewire.containers.container import Container"),
        ("app/schedule/a.py", "from ...containers import Container"),
    ],
)
def test_an_import_against_the_direction_is_seen(file: str, line: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line)
    assert len(found(wrong_way_imports, source_modules(tmp_path))) == 1


@pytest.mark.parametrize("line", ["from phasewire.adapters.base import StrategyAdapter", "from . import schedule"])
def test_an_import_along_the_direction_is_not_seen(line: str, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "a.py").write_text(line)
    assert found(wrong_way_imports, source_modules(tmp_path)) == []


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (private_imports, "from torch.optim.lr_scheduler import _LRScheduler"),
        (private_imports, "import torch.distributed._tensor"),
        (private_attributes_of_others, "trainer._checkpoint_connector.restore()"),
        (private_attributes_of_others, "self.trainer._results"),
        (private_attributes_of_others, "getattr(trainer, '_results')"),
        (
            private_attributes_of_bases,
            """
            from lightning.pytorch.callbacks import ModelCheckpoint
            class Ours(ModelCheckpoint):
                def save(self): self._save_topk_checkpoint()
            """,
        ),
        (
            private_attributes_of_bases,
            """
            from lightning.pytorch import callbacks
            class Ours(callbacks.ModelCheckpoint):
                def _save_topk_checkpoint(self): ...
            """,
        ),
    ],
)
def test_a_private_name_is_seen(check: Check, source: str, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "a.py").write_text(dedent(source))
    assert len(found(check, source_modules(tmp_path))) == 1


@pytest.mark.parametrize(
    "source", ["self._own", "super()._own()", "trainer.__class__", "for _ in range(3): ...", "os._exit(0)"]
)
def test_a_name_of_ones_own_is_not_seen(source: str, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "a.py").write_text(source)
    for check in PRIVATE_NAME_CHECKS:
        assert found(check, source_modules(tmp_path)) == []


def test_building_the_container_imports_no_plug_in_and_no_optional_dependency(tmp_path: Path) -> None:
    not_wanted = ["sklearn", "transformer_lens", "a_plug_in"]
    for name in not_wanted:
        (tmp_path / f"{name}.py").write_text("")
    metadata = tmp_path / "a_plug_in-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: a-plug-in\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[finetuning_scheduler.strategy_adapters]\nmine = a_plug_in:Adapter\n")
    program = dedent(
        f"""
        import json, sys
        from importlib.metadata import entry_points
        assert "mine" in entry_points(group="finetuning_scheduler.strategy_adapters").names
        from phasewire.containers import Container
        Container()
        print(json.dumps([name for name in {not_wanted!r} if name in sys.modules]))
        """
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    finished = run([sys.executable, "-c", program], cwd=tmp_path, timeout=120, env={"PYTHONPATH": path})
    assert json.loads(finished.output.splitlines()[-1]) == []
