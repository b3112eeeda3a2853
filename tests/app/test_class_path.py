"""Class paths, and objects from ``{class_path, init_args}``."""

from __future__ import annotations

import enum
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch

from phasewire.app import ConfigError, FTSCheckpoint
from phasewire.app.class_path import BuildError, construct, import_attribute, instantiate, resolve
from phasewire.app.settings import ClassSpec

if TYPE_CHECKING:
    from decimal import Decimal


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    """A package with a submodule and a class of one name, a broken module, and a module that lacks a dependency."""
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("def model(): ...\n")
    (package / "model.py").write_text(
        "class Net:\n"
        "    class Head: ...\n"
        "    built = []\n"
        "    def __init__(self, width, *, depth=1, head=None):\n"
        "        if width < 0: raise ValueError('width is negative')\n"
        "        Net.built.append(self); self.width, self.depth, self.head = width, depth, head\n"
        "class Leaving:\n"
        "    def __init__(self): raise SystemExit(4)\n"
        "class Loose:\n"
        "    def __init__(self, **kwargs): self.kwargs = kwargs\n"
    )
    (package / "broken.py").write_text("raise RuntimeError('out of order')\n")
    (package / "needy.py").write_text("import surely_not_installed\n")
    (package / "leaving.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_package"]:
        del sys.modules[name]


# -- class paths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("torch.nn.Linear", torch.nn.Linear),
        ("torch.nn:Linear", torch.nn.Linear),
        ("torch.optim.lr_scheduler.StepLR", torch.optim.lr_scheduler.StepLR),
        ("torch.nn.Linear.forward", torch.nn.Linear.forward),
        ("os.path.join", os.path.join),
        # Imported by the package when it is first asked for.
        ("phasewire.app.FTSCheckpoint", FTSCheckpoint),
    ],
)
def test_both_notations_name_a_class(path, expected):
    assert import_attribute(path) is expected


@pytest.mark.usefixtures("own_package")
def test_a_module_comes_before_a_name_of_its_package():
    assert import_attribute("own_package.model.Net").__qualname__ == "Net"
    assert import_attribute("own_package.model:Net.Head").__qualname__ == "Net.Head"
    assert import_attribute("own_package.model.Net.Head").__qualname__ == "Net.Head"


def test_a_missing_module_is_refused_with_the_working_directory_where_that_is_searched(empty_dir, monkeypatch):
    with pytest.raises(ConfigError) as refused:
        import_attribute("surely_not_there.Net")
    assert str(empty_dir) not in str(refused.value)
    monkeypatch.syspath_prepend(empty_dir)
    with pytest.raises(ConfigError, match=f"also looked up in the working directory, {empty_dir}"):
        import_attribute("surely_not_there.Net")


@pytest.mark.usefixtures("own_package")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("torhc.nn.Linear", "There is no module 'torhc'.* Did you mean .*'torch'"),
        ("torhc:Linear", "There is no module 'torhc'"),
        ("torch.nnn.Linear", "The module torch has no 'nnn'.* Did you mean 'nn'"),
        ("torch.nnn:Linear", "The module torch has no 'nnn'"),
        ("torch.nn.Linaer", "The module torch.nn has no 'Linaer'.* Did you mean 'Linear'"),
        ("torch.nn.Linear.forwrad", "The class Linear has no 'forwrad'.* Did you mean 'forward'"),
        ("phasewire.app.FTSCheckpiont", "Did you mean 'FTSCheckpoint'"),
        ("own_package.broken.Net", "own_package.broken cannot be imported: RuntimeError: out of order"),
        ("own_package.leaving:Net", "own_package.leaving cannot be imported: SystemExit: 3"),
        ("own_package.needy:Net", "No module named 'surely_not_installed'.* Install what provides"),
        ("own_package.needy.Net", "Install what provides the module 'surely_not_installed'"),
        ("Linear", "not the path of a class.* Write 'package.module.Class'"),
        ("torch..nn", "not the path of a class"),
        ("torch.nn Linear", "not the path of a class"),
    ],
)
def test_a_path_that_does_not_import_is_refused_with_the_part_that_is_wrong(path, message):
    with pytest.raises(ConfigError, match=f"^config.yaml, line 3: .*{message}"):
        import_attribute(path, where="config.yaml, line 3")


@pytest.mark.usefixtures("own_package")
def test_the_cause_of_a_failed_import_is_chained():
    with pytest.raises(ConfigError) as refused:
        import_attribute("own_package.broken:Net")
    assert isinstance(refused.value.__cause__, RuntimeError)


# -- objects ---------------------------------------------------------------------------------------------------------


def test_a_specification_is_built_with_nested_ones_first():
    built = instantiate(
        {
            "class_path": "torch.nn.ModuleDict",
            "init_args": {
                "modules": {
                    "a": {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 3}},
                    "b": {"class_path": "torch.nn.ReLU"},
                }
            },
        }
    )
    assert built["a"].out_features == 3
    assert isinstance(built["b"], torch.nn.ReLU)


def test_a_class_spec_of_the_settings_is_built_too():
    assert instantiate(ClassSpec(class_path="fractions.Fraction", init_args={"numerator": 1, "denominator": 2})) == 0.5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"class_path": "torch.nn.Linear", "init_args": {"in_features": 1, "out_feature": 2}},
            r"model\.init_args\.out_feature: torch\.nn\.Linear takes no .* Did you mean 'out_features'",
        ),
        (
            {"class_path": "torch.nn.Linear", "init_args": {"in_features": 1}},
            r"model\.init_args: torch\.nn\.Linear needs the argument 'out_features'",
        ),
        ({"class_path": "torch.nn.Linear", "init_arg": {}}, "there is no 'init_arg'.* Did you mean 'init_args'"),
        ({"class_path": "torch.nn.Linear", "init_args": [1]}, "init_args is a mapping"),
        ({"class_path": "math.pi"}, r"model\.class_path: math\.pi is a float, which cannot be called"),
        ({"init_args": {}}, "model: A class is expected"),
        (3, "model: A class is expected.* 3 is given"),
    ],
)
def test_a_specification_that_cannot_be_built_is_refused(spec, message):
    with pytest.raises(ConfigError, match=message):
        instantiate(spec, keys=("model",))


@pytest.mark.usefixtures("own_package")
def test_a_nested_fault_is_found_before_anything_is_built():
    net = import_attribute("own_package.model.Net")
    spec = [
        {"class_path": "own_package.model.Net", "init_args": {"width": 1}},
        {"class_path": "own_package.model.Net", "init_args": {"width": 1, "head": {"class_path": "torch.nn.Linaer"}}},
    ]
    with pytest.raises(ConfigError, match=r"callbacks\[1\]\.init_args\.head\.class_path: .*Linaer"):
        construct(resolve(spec, keys=("callbacks",)))
    assert net.built == []


@pytest.mark.usefixtures("own_package")
def test_a_class_that_takes_any_argument_gets_it():
    built = instantiate({"class_path": "own_package.model.Loose", "init_args": {"anything": 1}})
    assert built.kwargs == {"anything": 1}


@pytest.mark.usefixtures("own_package")
def test_a_constructor_that_fails_is_reported_with_its_cause():
    with pytest.raises(
        BuildError, match=r"model: own_package\.model\.Net could not be built: ValueError: width is neg"
    ) as e:
        instantiate({"class_path": "own_package.model.Net", "init_args": {"width": -1}}, keys=("model",))
    assert isinstance(e.value.__cause__, ValueError)


@pytest.mark.usefixtures("own_package")
def test_a_constructor_that_leaves_the_program_is_reported():
    with pytest.raises(BuildError, match=r"own_package\.model\.Leaving could not be built: SystemExit: 4"):
        instantiate({"class_path": "own_package.model.Leaving"})


# -- types of arguments ----------------------------------------------------------------------------------------------

EARLY_STOPPING = "lightning.pytorch.callbacks.EarlyStopping"


class Colour(enum.Enum):
    """A choice that stands as text in YAML."""

    RED = "red"


class Typed:
    """Takes arguments of many types."""

    def __init__(
        self,
        number: float = 0.0,
        count: int = 0,
        lying: int = None,  # noqa: RUF013  # as many write it
        size: int = "auto",
        path: Path = Path(),
        folder: str | Path = "",
        maybe: int | None = None,
        choice: Literal["a", "b"] = "a",
        pair: tuple[float, float] = (0.9, 0.99),
        numbers: list[int] | None = None,
        names: dict[str, int] | None = None,
        colour: Colour = Colour.RED,
        device: torch.device | None = None,
        anything: Any = None,
        bare=None,
    ) -> None:
        self.count = count


class Unresolvable:
    """Has an annotation that does not exist when the program runs."""

    def __init__(self, price: Decimal, count: int = 0) -> None: ...


@pytest.mark.parametrize(
    "arguments",
    [
        {"number": 1, "count": 2.0, "maybe": 3},
        {"lying": None, "size": "auto", "maybe": None},
        {"path": "a/b", "folder": "a/b"},
        {"choice": "b", "colour": "red", "device": "cpu"},
        {"pair": [0, 1.5], "numbers": [1, 2], "names": {"a": 1}},
        {"anything": "2", "bare": [1, "2"]},
    ],
)
def test_values_that_stand_for_the_annotated_type_are_taken(arguments):
    instantiate({"class_path": f"{__name__}.Typed", "init_args": arguments})


def test_arguments_are_not_checked_by_annotations_that_cannot_be_evaluated():
    instantiate({"class_path": f"{__name__}.Unresolvable", "init_args": {"price": "2", "count": "2"}})


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("count", "2", r"takes int as 'count', and '2' is text\. .*numbers stand without quotes"),
        ("count", True, "takes int as 'count', and true is a truth value"),
        ("count", 2.5, "takes int as 'count', and 2.5 is a number"),
        ("number", "1 e-3", "takes float as 'number', and '1 e-3' is text"),
        ("maybe", "2", "takes .*int.* as 'maybe', and '2' is text"),
        ("choice", "c", "takes .*'a', 'b'.* as 'choice', and 'c' is text"),
        ("numbers", [1, "2"], r"as 'numbers', and \[1, '2'\] is a list"),
        ("numbers", 1, "as 'numbers', and 1 is a whole number"),
        ("pair", 1, "as 'pair', and 1 is a whole number"),
        ("folder", True, "as 'folder', and true is a truth value"),
    ],
)
def test_a_value_of_another_type_than_annotated_is_refused_before_anything_is_built(argument, value, message):
    spec = {"class_path": f"{__name__}.Typed", "init_args": {argument: value}}
    with pytest.raises(ConfigError, match=rf"^model\.init_args\.{argument}: .*{message}"):
        resolve(spec, keys=("model",))


class TakesClasses:
    def __init__(
        self,
        kind: type[torch.nn.Module],
        maybe: type[torch.nn.Module] | None = None,
        text: type[torch.nn.Module] | str = "",
    ) -> None:
        self.given = (kind, maybe, text)


def test_text_names_the_class_that_a_constructor_takes():
    linear = "torch.nn.Linear"
    spec = {"class_path": f"{__name__}.TakesClasses", "init_args": {"kind": linear, "maybe": linear, "text": linear}}

    assert instantiate(spec).given == (torch.nn.Linear, torch.nn.Linear, linear)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("torch.nn.Linaer", "Did you mean 'Linear'"),
        ("torch.nn.functional.relu", "is a function, and a class is expected"),
    ],
)
def test_text_that_names_no_class_is_refused_where_a_constructor_takes_one(named, message):
    spec = {"class_path": f"{__name__}.TakesClasses", "init_args": {"kind": named}}
    with pytest.raises(ConfigError, match=rf"^model\.init_args\.kind: .*{message}"):
        resolve(spec, keys=("model",))


def test_the_type_of_an_argument_of_lightnings_classes_is_checked():
    spec = {"class_path": EARLY_STOPPING, "init_args": {"monitor": "val_loss", "patience": "2", "min_delta": 0}}
    with pytest.raises(ConfigError, match="EarlyStopping takes int as 'patience', and '2' is text"):
        resolve([spec])
