"""Transition criteria that settings name: those that ship with us, and those of installed packages."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from phasewire.adapters import ConfigError, CriterionError, TransitionCriterion
from phasewire.app import FinetuningScheduler
from phasewire.app.phases.criteria import EarlyStoppingCriterion, EpochCriterion
from phasewire.app.phases.plateau import PlateauCriterion
from phasewire.app.transition_criteria import NATIVE_CRITERIA, TransitionCriteria
from phasewire.app.trust import TrustPolicy
from phasewire.containers import Container
from plugin_packages import distribution_on_the_path
from tuning import Notes, TunedModule, fit, make_trainer

PLUGIN = """
from phasewire.adapters import TransitionCriterion

class Lasting(TransitionCriterion):
    api_version = "1.0"

    def __init__(self, *, validations: int = 1):
        self.validations = validations

    def begin_phase(self, phase):
        self.seen = 0

    def after_validation(self, phase):
        self.seen += 1
        return self.seen >= self.validations

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]

def long(*, times: int):
    return Lasting(validations=times * 2)

class Next(TransitionCriterion):
    api_version = "2.0"

def newer():
    return Next()

class Unnumbered(TransitionCriterion):
    api_version = 1

class Failing(TransitionCriterion):
    def after_validation(self, phase):
        raise LookupError("no such metric")

class Unbuildable(TransitionCriterion):
    def __init__(self):
        raise SystemExit(3)

class Other:
    pass

def nothing():
    return None

number = 7
"""
OFFERS = (
    "Lasting",
    "long",
    "newer",
    "Next",
    "Unnumbered",
    "Failing",
    "Unbuildable",
    "Other",
    "nothing",
    "number",
    "missing",
)
SCHEDULE = {0: {"params": ["head.*"]}, 1: {"params": ["layers.1.*"]}}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that offers criteria."""
    offers = {name: f"acme_criteria:{name}" for name in OFFERS}
    with distribution_on_the_path(
        tmp_path / "site",
        monkeypatch,
        "acme-criteria",
        "phasewire.transition_criteria",
        offers,
        {"acme_criteria": PLUGIN},
    ) as site:
        yield site


def run(folder: Path, *criteria: object, trust: TrustPolicy | None = None, max_epochs: int = 8) -> list[int]:
    """The phase of each epoch that is trained."""
    scheduler = FinetuningScheduler(
        SCHEDULE,
        restore_best=False,
        transition_criteria=list(criteria),
        criteria=TransitionCriteria(trust=trust),
    )
    return run_of(scheduler, folder, max_epochs=max_epochs)


def run_of(scheduler: FinetuningScheduler, folder: Path, max_epochs: int = 8) -> list[int]:
    notes = Notes()
    fit(make_trainer(folder, scheduler, notes, max_epochs=max_epochs), TunedModule([1.0]))
    return notes.depths


def test_every_criterion_that_ships_can_be_named() -> None:
    classes = {name: TransitionCriteria().record_of(name, where="here").load() for name in NATIVE_CRITERIA}
    assert classes == {
        "early_stopping": EarlyStoppingCriterion,
        "epochs": EpochCriterion,
        "plateau": PlateauCriterion,
    }


@pytest.mark.parametrize(
    "reference", ["lasting", "LASTING", "lasting@Acme_Criteria", "acme_criteria:Lasting", "acme_criteria.Lasting"]
)
def test_a_criterion_of_an_installed_package_ends_phases(tmp_path: Path, installed: Path, reference: str) -> None:
    assert "acme_criteria" not in sys.modules
    assert run(tmp_path, {reference: {"validations": 2}}) == [0, 0, 1, 1]


def test_a_function_may_build_a_criterion(tmp_path: Path, installed: Path) -> None:
    assert run(tmp_path, {"long": {"times": 1}}) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("criterion", "error", "message"),
    [
        ("lastin", CriterionError, r"No transition criterion is called 'lastin'\. Did you mean 'lasting'"),
        ("plato", CriterionError, r"is called 'plato'\. Did you mean 'plateau'"),
        (
            "number",
            CriterionError,
            r"'number' of acme-criteria 1\.0 .* is 7, and a phasewire\.adapters\.TransitionCriter",
        ),
        (
            "other",
            CriterionError,
            r"'other' of .* names the class Other, and a phasewire\.adapters\.TransitionCriterion",
        ),
        ("nothing", CriterionError, r"'nothing' of .* gave None, and a phasewire\.adapters\.TransitionCriterion"),
        ("missing", CriterionError, r"'missing' of acme-criteria 1\.0 .* does not load\. .* has no 'missing'"),
        ("unbuildable", CriterionError, r"'unbuildable' of .* cannot be built: SystemExit: 3"),
        ("next", CriterionError, r"written for version 2\.0 of the contract of transition criteria, .* drives 1\.x"),
        ("newer", CriterionError, r"'newer' of .* is written for version 2\.0 of the contract"),
        ("unnumbered", CriterionError, r"declares api_version = 1, which is no contract version"),
        ("no_such_module:Thing", CriterionError, r"There is no module 'no_such_module'"),
        ({"lasting": {"valdations": 2}}, ConfigError, r"takes no argument 'valdations'\. Did you mean 'validations'"),
        ({"lasting": {"validations": "2"}}, ConfigError, r"takes int as 'validations', and '2' is text"),
        ({"long": None}, ConfigError, r"'long' of .* needs the argument 'times'.*Give it\.$"),
    ],
)
def test_what_cannot_be_used_is_refused_before_training(
    tmp_path: Path, installed: Path, criterion: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=r"^transition_criteria\[1\]: .*" + message):
        run(tmp_path, "epochs", criterion)


def test_one_that_fails_is_named_with_its_distribution_and_the_phase(tmp_path: Path, installed: Path) -> None:
    with pytest.raises(
        CriterionError,
        match=r"^phase 0: The transition criterion 'failing' of acme-criteria 1\.0 .* failed with LookupError: no",
    ) as caught:
        run(tmp_path, "failing")
    assert isinstance(caught.value.__cause__, LookupError)


@pytest.mark.parametrize(
    ("reference", "trust"),
    [
        ("lasting", TrustPolicy(deny=("acme.criteria",))),
        ("lasting", TrustPolicy(allow=("others",))),
        ("lasting", TrustPolicy(enabled=False)),
        ("acme_criteria:Lasting", TrustPolicy(allow_paths=("acme",))),
    ],
)
def test_one_that_is_not_trusted_is_not_imported(
    tmp_path: Path, installed: Path, reference: str, trust: TrustPolicy
) -> None:
    with pytest.raises(CriterionError, match=r"may not be used: discovery\."):
        run(tmp_path, reference, trust=trust)

    assert "acme_criteria" not in sys.modules


def test_the_container_gives_the_rules_of_trust(installed: Path, tmp_path: Path) -> None:
    container = Container()
    container.config.from_dict(
        {"scheduler": {"transition_criteria": ["lasting"]}, "discovery": {"deny": ["acme-criteria"]}}
    )
    with pytest.raises(CriterionError, match=r"may not be used: discovery\.deny names it"):
        fit(make_trainer(tmp_path, container.scheduler(ft_schedule=SCHEDULE)), TunedModule())

    assert "acme_criteria" not in sys.modules


def test_no_criterion_is_imported_by_a_run_that_names_none(tmp_path: Path, installed: Path) -> None:
    run(tmp_path, "epochs", {"plateau": {"window": 2}}, max_epochs=1)

    assert "acme_criteria" not in sys.modules


def block_of(page: str, language: str, content: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if content in block)


def test_the_criterion_of_the_documentation_works_as_the_package_it_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    class LoggingBoth(TunedModule):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("train_loss", loss.detach() * 0 + 1.0, on_epoch=True, on_step=False)
            return loss

    page = (repository / "docs" / "transition-criteria.md").read_text()
    ((group, offers),) = tomllib.loads(block_of(page, "toml", "entry-points"))["project"]["entry-points"].items()
    source = block_of(page, "python", "class Overfitting")
    notes = Notes()
    with distribution_on_the_path(
        tmp_path / "site", monkeypatch, "acme-criteria", group, offers, {"acme_criteria": source}
    ):
        scheduler = FinetuningScheduler(SCHEDULE, restore_best=False, transition_criteria=["overfitting"])
        # Worse by more than half in epoch 1 alone, and in epochs 3 and 4.
        module = LoggingBoth([1.0, 1.6, 1.4, 1.6, 1.7, 1.0])
        fit(make_trainer(tmp_path, scheduler, notes, max_epochs=7), module)

    assert notes.depths == [0, 0, 0, 0, 0, 1, 1]


def test_the_configuration_of_the_documentation_ends_a_flat_phase_after_its_window(
    repository: Path, tmp_path: Path
) -> None:
    page = (repository / "docs" / "transition-criteria.md").read_text()
    (tmp_path / "config.yaml").write_text(block_of(page, "yaml", "plateau"))
    container = Container()
    container.config.from_yaml(tmp_path / "config.yaml")

    assert run_of(container.scheduler(ft_schedule=SCHEDULE, restore_best=False), tmp_path) == [0, 0, 0, 0, 1, 1, 1, 1]


def test_one_that_takes_the_name_of_ours_does_not_replace_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with distribution_on_the_path(
        tmp_path / "site",
        monkeypatch,
        "acme-plateau",
        "phasewire.transition_criteria",
        {"plateau": "acme_plateau:Lasting"},
        {"acme_plateau": PLUGIN},
    ):
        with pytest.warns(UserWarning, match="'plateau' means Phasewire's own transition criterion"):
            built = TransitionCriteria().build("plateau", {}, where="here")
        assert type(built.criterion) is PlateauCriterion
        pinned = TransitionCriteria().build("plateau@acme-plateau", {}, where="here")
        assert isinstance(pinned.criterion, TransitionCriterion)
        assert type(pinned.criterion).__module__ == "acme_plateau"
