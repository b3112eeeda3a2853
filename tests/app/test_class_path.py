"""Class paths, and objects from ``{class_path, init_args}``."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from phasewire.app import ConfigError, FTSCheckpoint
from phasewire.app.class_path import BuildError, construct, import_attribute, instantiate, resolve
from phasewire.app.settings import ClassSpec


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
