"""Model views that an adapter names: those that ship with us, and those of installed packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dependency_injector import providers

from phasewire.adapters import (
    AdapterError,
    AdapterLoadError,
    CanonicalModelView,
    TLNamesModelView,
    TransformerBridgeStrategyAdapter,
)
from phasewire.app import FinetuningScheduler, FTSEarlyStopping
from phasewire.app.model_views import NATIVE_VIEWS, ModelViews
from phasewire.app.trust import TrustPolicy
from phasewire.containers import Container
from plugin_packages import distribution_on_the_path
from tuning import Batches, Notes, TunedModule, fit, make_trainer

PLUGIN = """
from phasewire.adapters import CanonicalModelView

class Prefixed(CanonicalModelView):
    def __init__(self, adapter, prefix="net/"):
        super().__init__(adapter)
        self.prefix = prefix

    def get_named_params(self):
        return {self.prefix + name: parameter for name, parameter in super().get_named_params().items()}

    def transform_to_canonical(self, names, inspect_only=False):
        return [name.removeprefix(self.prefix) for name in names]

    def transform_from_canonical(self, names):
        return [self.prefix + name for name in names]

number = 7
"""
OFFERS = {"Prefixed": "acme_views:Prefixed", "number": "acme_views:number", "missing": "acme_views:missing"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that offers views."""
    with distribution_on_the_path(
        tmp_path / "site", monkeypatch, "acme-views", "phasewire.model_views", OFFERS, {"acme_views": PLUGIN}
    ) as site:
        yield site


def scheduler_with(model_view: object, trust: TrustPolicy | None = None, **cfg: object) -> FinetuningScheduler:
    return FinetuningScheduler(
        restore_best=False,
        custom_strategy_adapters={"auto": "transformerbridge"},
        strategy_adapter_cfg={"model_view": model_view, **cfg},
        model_views=ModelViews(trust=trust),
    )


def validate(folder: Path, scheduler: FinetuningScheduler) -> object:
    """Connect the adapter, as any entry point of the Trainer does, and give its view."""
    make_trainer(folder, scheduler).validate(TunedModule([1.0]), Batches(1), verbose=False)
    return scheduler.strategy_adapter.model_view


@pytest.mark.parametrize(
    "reference",
    [
        "canonical",
        "Canonical",
        "canonical@phasewire",
        "phasewire.adapters.views:CanonicalModelView",
        "phasewire.adapters.views.CanonicalModelView",
        "phasewire.adapters.CanonicalModelView",
    ],
)
def test_a_view_is_named_or_given_by_its_path(tmp_path: Path, reference: str) -> None:
    scheduler = scheduler_with(reference)

    assert type(validate(tmp_path, scheduler)) is CanonicalModelView
    assert scheduler.strategy_adapter.model_view.adapter is scheduler.strategy_adapter


def test_the_views_that_ship_can_be_named() -> None:
    classes = {name: ModelViews().record_of(name, where="here").load() for name in NATIVE_VIEWS}
    assert classes == {"canonical": CanonicalModelView, "tl_names": TLNamesModelView}


def test_naming_tl_names_is_the_same_as_use_tl_names(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="TunedModule has no TransformerBridge"):
        fit(make_trainer(tmp_path, scheduler_with("tl_names"), FTSEarlyStopping("val_loss")), TunedModule())


@pytest.mark.parametrize("reference", ["prefixed", "prefixed@Acme.Views", "acme_views:Prefixed"])
def test_a_view_of_an_installed_package_names_the_parameters_of_a_fit(
    tmp_path: Path, installed: Path, reference: str
) -> None:
    notes, scheduler = Notes(), scheduler_with(reference, model_view_cfg={"prefix": "my/"})
    fit(make_trainer(tmp_path, scheduler, FTSEarlyStopping("val_loss"), notes, max_epochs=1), TunedModule())

    assert scheduler.ft_schedule[0]["params"] == ["my/head.bias", "my/head.weight"]
    assert notes.epochs[0].trainable == ("head.weight", "head.bias")


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("prefixd", AdapterError, r"No model view is called 'prefixd'\. Did you mean 'prefixed'\?"),
        (
            "View",
            AdapterError,
            r"No model view is called 'View'\. .*or name one of: canonical, missing, number, prefixed",
        ),
        ("number", AdapterError, r"model view 'number' of acme-views 1\.0 .* is 7, which is no subclass"),
        ("builtins:int", AdapterError, r"model view 'builtins:int' is <class 'int'>, which is no subclass"),
        ("missing", AdapterLoadError, r"'missing' of acme-views 1\.0 .* does not load"),
        ("no_such_module:View", AdapterLoadError, r"does not load\. There is no module 'no_such_module'"),
    ],
)
def test_what_is_no_view_is_refused_when_the_trainer_runs(
    tmp_path: Path, installed: Path, reference: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=r"^strategy_adapter_cfg, model_view: .*" + message):
        validate(tmp_path, scheduler_with(reference))


def test_an_option_that_the_view_does_not_have_is_refused(tmp_path: Path, installed: Path) -> None:
    with pytest.raises(AdapterError, match=r"model_view_cfg: .*Did you mean 'prefix'\?"):
        validate(tmp_path, scheduler_with("prefixed", model_view_cfg={"prefx": "a"}))


def test_a_named_view_needs_a_trainer() -> None:
    adapter = TransformerBridgeStrategyAdapter(model_view="canonical")
    with pytest.raises(AdapterError, match=r"The model view 'canonical' is looked up when a Trainer runs"):
        _ = adapter.model_view


@pytest.mark.parametrize(
    ("reference", "trust"),
    [
        ("prefixed", TrustPolicy(deny=("Acme.Views",))),
        ("prefixed", TrustPolicy(allow=("others",))),
        ("prefixed", TrustPolicy(enabled=False)),
        ("acme_views:Prefixed", TrustPolicy(allow_paths=("acme",))),
    ],
)
def test_a_view_that_is_not_trusted_is_not_imported(
    tmp_path: Path, installed: Path, reference: str, trust: TrustPolicy
) -> None:
    with pytest.raises(AdapterLoadError, match=r"may not be used: discovery\."):
        validate(tmp_path, scheduler_with(reference, trust))

    assert "acme_views" not in sys.modules


def test_no_view_is_imported_by_a_run_that_names_none(tmp_path: Path, installed: Path) -> None:
    validate(tmp_path, FinetuningScheduler(custom_strategy_adapters={"auto": "transformerbridge"}))

    assert "acme_views" not in sys.modules


def test_the_container_gives_the_views_and_their_trust(tmp_path: Path, installed: Path) -> None:
    container = Container()
    named = {
        "custom_strategy_adapters": {"auto": "transformerbridge"},
        "strategy_adapter_cfg": {"model_view": "prefixed"},
    }
    container.config.from_dict({"scheduler": named, "discovery": {"deny": ["acme-views"]}})
    with pytest.raises(AdapterLoadError, match=r"may not be used: discovery\.deny names it"):
        validate(tmp_path, container.scheduler())

    replaced = ModelViews(group="none", native={"prefixed": "phasewire.adapters.views:CanonicalModelView"})
    with container.model_views.override(providers.Object(replaced)):
        assert type(validate(tmp_path, container.scheduler())) is CanonicalModelView
