"""Schedule generators that settings and commands name: those that ship with us, and those of installed packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from phasewire.adapters import StrategyAdapter
from phasewire.app import ConfigError, FinetuningScheduler, FTSEarlyStopping, Schedule, ScheduleError
from phasewire.app.schedule.generators import SHIPPED_GENERATORS
from phasewire.app.schedule_generators import NATIVE_GENERATORS, ModuleNames, ScheduleGenerators
from phasewire.app.trust import TrustPolicy
from plugin_packages import on_the_path
from tuning import Notes, TunedModule, fit, make_trainer

PLUGIN = """
from phasewire.app import Schedule

def halves(module, names, *, first=1):
    known = list(names.get_named_params_for_schedule_validation())
    return Schedule.from_mapping({0: {"params": known[-first:]}, 1: {"params": known[:-first]}})

def nothing(module, names):
    return {0: {"params": ["head.*"]}}

def failing(module, names):
    raise LookupError("no such layer")

number = 7
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package that offers generators."""
    site = tmp_path / "site"
    information = site / "acme_generators-2.1.dist-info"
    information.mkdir(parents=True)
    (site / "acme_generators.py").write_text(PLUGIN)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-generators\nVersion: 2.1\n")
    offers = ["Halves", "nothing", "failing", "number", "missing"]
    lines = "\n".join(f"{name} = acme_generators:{name.lower()}" for name in offers)
    (information / "entry_points.txt").write_text(f"[phasewire.schedule_generators]\n{lines}\n")
    with on_the_path(site, monkeypatch):
        yield site


def generate(reference: str, trust: TrustPolicy | None = None, **options: object) -> Schedule:
    module = TunedModule()
    return ScheduleGenerators(trust=trust).generate(
        reference, options, module, ModuleNames(module), where="here", options_where="there"
    )


def run(folder: Path, **settings: object) -> tuple[Notes, FinetuningScheduler]:
    notes, scheduler = Notes(), FinetuningScheduler(restore_best=False, log_dir=folder, **settings)
    stopping = FTSEarlyStopping("val_loss", patience=1)
    fit(make_trainer(folder, scheduler, stopping, notes, max_epochs=6), TunedModule([1.0]))
    return notes, scheduler


def test_a_generator_of_ours_makes_the_schedule_that_is_trained(tmp_path: Path) -> None:
    notes, scheduler = run(tmp_path, schedule_generator="Equal_Mass", schedule_generator_cfg={"phases": 2})

    assert scheduler.max_depth == 1
    assert set(notes.epochs[0].trainable) == set(scheduler.ft_schedule[0]["params"])
    assert set(notes.epochs[-1].trainable) == {name for name, _ in TunedModule().named_parameters()}
    written = yaml.safe_load((tmp_path / "TunedModule_ft_schedule.yaml").read_text())
    assert list(written) == [0, 1]


def test_every_generator_that_ships_can_be_named() -> None:
    assert NATIVE_GENERATORS.keys() == SHIPPED_GENERATORS.keys()
    for name, generator in SHIPPED_GENERATORS.items():
        assert ScheduleGenerators().record_of(name, where="here").load() is generator


def test_only_a_file_is_written_if_told_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, schedule_generator="per_block", gen_ft_sched_only=True)

    assert (tmp_path / "TunedModule_ft_schedule.yaml").is_file()


def test_a_schedule_that_is_given_is_trained_whatever_generator_is_named(tmp_path: Path) -> None:
    _, scheduler = run(tmp_path, ft_schedule={0: {"params": ["head.*"]}}, schedule_generator="per_block")

    assert scheduler.ft_schedule[0]["params"] == ["head.weight", "head.bias"]


class Renaming(StrategyAdapter):
    """Calls every parameter by another name."""

    def get_named_params_for_schedule_validation(self):
        return {f"net/{name}": parameter for name, parameter in self.pl_module.named_parameters()}

    def fts_optim_transform(self, orig_pl, inspect_only=False):
        return [name.removeprefix("net/") for name in orig_pl]


def test_the_schedule_is_in_the_names_of_the_adapter(tmp_path: Path) -> None:
    notes, scheduler = run(tmp_path, schedule_generator="per_block", custom_strategy_adapters={"auto": Renaming})

    assert all(name.startswith("net/") for name in scheduler.ft_schedule[0]["params"])
    assert all(name.startswith("head.") for name in notes.epochs[0].trainable)


def test_a_generator_of_an_installed_package_is_found_by_name_in_any_case(tmp_path: Path, installed: Path) -> None:
    assert "acme_generators" not in sys.modules
    notes, _ = run(tmp_path, schedule_generator="HALVES", schedule_generator_cfg={"first": 2})

    assert notes.epochs[0].trainable == ("head.weight", "head.bias")


@pytest.mark.parametrize("reference", ["acme_generators:halves", "acme_generators.halves", "halves@Acme_Generators"])
def test_a_generator_may_be_named_by_its_path_or_distribution(installed: Path, reference: str) -> None:
    assert [len(phase.params) for phase in generate(reference).phases] == [1, 7]


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("halfs", ConfigError, r"here: No schedule generator is called 'halfs'\. Did you mean 'halves'"),
        ("nothing", ScheduleError, r"'nothing' of acme-generators 2\.1 .* gave dict, and a phasewire\.app\.Schedule"),
        ("failing", ScheduleError, r"'failing' of acme-generators .* failed with LookupError: no such layer"),
        ("number", ConfigError, r"'number' .* is 7, which cannot be called"),
        ("missing", ConfigError, r"'missing' of acme-generators 2\.1 .* does not load"),
    ],
)
def test_what_makes_no_schedule_is_refused(
    installed: Path, reference: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        generate(reference)


def test_an_option_that_it_does_not_have_is_refused(installed: Path) -> None:
    with pytest.raises(ConfigError, match=r"there: .* halves has no option named 'frist'\. Did you mean 'first'"):
        generate("halves", frist=2)


@pytest.mark.parametrize(
    ("reference", "trust"),
    [
        ("halves", TrustPolicy(deny=("acme.generators",))),
        ("halves", TrustPolicy(enabled=False)),
        ("acme_generators:halves", TrustPolicy(allow_paths=("acme",))),
    ],
)
def test_a_generator_that_is_not_trusted_is_not_imported(installed: Path, reference: str, trust: TrustPolicy) -> None:
    with pytest.raises(ConfigError, match=r"may not be used: discovery\."):
        generate(reference, trust)

    assert "acme_generators" not in sys.modules


def test_no_generator_is_imported_by_a_run_that_names_none(tmp_path: Path, installed: Path) -> None:
    run(tmp_path)

    assert "acme_generators" not in sys.modules
