"""Models to plan for: a class, the configuration of a Hugging Face model, or a checkpoint of Lightning."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from phasewire.adapters.errors import CheckpointError, ConfigError, did_you_mean
from phasewire.app.class_path import BuildError, import_attribute, instantiate
from phasewire.app.config_file import key_path
from phasewire.app.given_text import mapping_from_text, model_from_text

__all__ = ["ParametersOnly", "checkpoint_model", "hugging_face_model", "model_named"]

#: The file that makes a folder that of a Hugging Face model.
_HF_CONFIG: Final = "config.json"
#: What batch norm keeps in a state dict that is no parameter; nothing in the file tells buffers from parameters.
_STATISTICS: Final = ("running_mean", "running_var", "num_batches_tracked")


class ParametersOnly(nn.Module):
    """Has the parameters that a state dict tells of, and computes nothing.

    Which of them are buffers, a state dict does not tell, but for the statistics of batch norm.
    """


def model_named(
    text: str, init_args: str | None = None, *, built_as: str | None = None, attribute: str | None = None
) -> Callable[[], object]:
    """Make what builds the model that was named on the command line.

    Args:
        text: ``pkg.mod.Class`` or ``pkg.mod:Class``; a folder with the ``config.json`` of a Hugging Face model; or a
            checkpoint of Lightning.
        init_args: Arguments of the constructor as YAML or JSON text; for a folder, changes to its configuration; for a
            checkpoint, arguments in place of those that it records.
        built_as: The class to build from a folder or a checkpoint.
        attribute: Put the model into an attribute, so that the names of its parameters begin with it.

    Returns:
        A callable that builds the model.

    Raises:
        ConfigError: ``init_args`` does not parse, a class is given where there is nothing to build it from, or there is
            no such folder or file.
    """
    path = Path(text).expanduser()
    arguments = mapping_from_text(init_args, "--init-args")
    if attribute is not None:
        _require_attribute(attribute)
    if path.is_dir():
        build: Callable[[], object] = lambda: hugging_face_model(path, arguments, built_as)  # noqa: E731
    elif path.is_file():
        build = lambda: checkpoint_model(path, arguments, built_as)  # noqa: E731
    elif path.suffix in {".ckpt", ".json"} or "/" in text or os.sep in text:
        raise ConfigError(
            "There is no such file or folder.",
            where=text,
            remedy="Name a class (pkg.module.Class), a folder with a config.json, or a checkpoint of Lightning.",
        )
    elif built_as is not None:
        raise ConfigError(
            f"{text} is a class already.",
            where="--class",
            remedy="Leave --class out, or name a folder or a checkpoint.",
        )
    else:
        build = model_from_text(text, init_args)
    return build if attribute is None else lambda: _held(build(), attribute)


def hugging_face_model(folder: Path, changes: Mapping[str, Any], built_as: str | None = None) -> nn.Module:
    """Build a Hugging Face model from its configuration, without weights and without a network.

    Args:
        folder: The folder with its ``config.json``.
        changes: Keys of the configuration to change. Any: they are the configuration's own.
        built_as: The class: a name in ``transformers`` such as ``AutoModelForSequenceClassification``, or a class path;
            by default what the configuration names under ``architectures``, or else ``AutoModel``.

    Returns:
        The model, in the type that the configuration names.

    Raises:
        ConfigError: ``transformers`` is not installed, or the configuration or the class cannot be used.
        BuildError: The constructor failed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "A Hugging Face configuration is read by transformers, which is not installed.",
            where=str(folder),
            remedy="Install it: pip install transformers",
        ) from error
    if not (folder / _HF_CONFIG).is_file():
        raise ConfigError(
            f"The folder has no {_HF_CONFIG}.", where=str(folder), remedy="Name the folder of a Hugging Face model."
        )
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **changes
        )
    except Exception as error:
        raise ConfigError(
            f"The configuration cannot be read: {type(error).__name__}: {error}",
            where=str(folder / _HF_CONFIG),
            remedy="Correct it, or name the class of the model instead.",
        ) from error
    wanted = built_as or next(iter(getattr(config, "architectures", None) or ()), "AutoModel")
    named = _class_in(transformers, wanted)
    try:
        if hasattr(named, "from_config"):
            return _module(named.from_config(config), wanted)
        return _of_type(config, lambda: _module(named(config), wanted))
    except ConfigError:
        raise
    except Exception as error:
        raise BuildError(
            f"{wanted} could not be built: {type(error).__name__}: {error}.",
            where=str(folder / _HF_CONFIG),
            remedy="Name another class with --class.",
        ) from error


def checkpoint_model(file: Path, changes: Mapping[str, Any], built_as: str | None = None) -> nn.Module:
    """Build the module of a checkpoint of Lightning, or what its names and shapes tell of it. No weight is read.

    Args:
        file: The checkpoint.
        changes: Arguments of the constructor in place of those that the checkpoint records, of which those are left out
            that the constructor does not take, as ``load_from_checkpoint`` does. Any: they are the class's.
        built_as: The class path; by default what LightningCLI has recorded, or else a module of the same parameters.

    Returns:
        The module.

    Raises:
        CheckpointError: The file is no checkpoint that can be read.
        ConfigError: The class cannot be imported, or does not take the arguments; or there are arguments and no class.
        BuildError: The constructor failed.
    """
    content = _read(file)
    recorded = dict(content.get("hyper_parameters") or {})
    class_path = built_as or recorded.get("_class_path")
    if class_path is None:
        if changes:
            raise ConfigError(
                f"{file} names no class that would take arguments.",
                where="--init-args",
                remedy="Name the class with --class, or leave --init-args out.",
            )
        return _skeleton(content["state_dict"], file)

    def locate(keys: Sequence[str | int]) -> str:
        if keys[:1] == ("init_args",) and len(keys) > 1 and keys[1] in changes:
            return f"--init-args, {key_path(keys[1:])}"
        return ", ".join(filter(None, [str(file), key_path(keys)]))

    where = str(file) if built_as is None else "--class"
    arguments = {key: value for key, value in recorded.items() if not key.startswith("_")}
    taken = _taken(import_attribute(class_path, where=where), arguments)
    return _module(
        instantiate({"class_path": class_path, "init_args": {**taken, **changes}}, locate=locate), class_path
    )


# Any: hyperparameters are whatever a module records.
def _taken(factory: object, recorded: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a class does not take: modules record what subclasses or earlier versions took, too."""
    try:
        parameters = inspect.signature(factory).parameters if callable(factory) else {}
    except ValueError:  # it has no signature that Python can tell
        return recorded
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return recorded
    return {name: value for name, value in recorded.items() if name in parameters}


def _read(file: Path) -> dict[str, Any]:  # Any: what Lightning and callbacks write
    try:
        # Mapped, so that the weights stay on the disk.
        content = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"The checkpoint cannot be read: {type(error).__name__}: {str(error).partition(chr(10))[0]}",
            where=str(file),
            remedy="Name a checkpoint that holds plain data beside its tensors, or the class of the model.",
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(
            "The file has no state_dict, so it is no checkpoint of Lightning.",
            where=str(file),
            remedy="Name a .ckpt file, or the class of the model.",
        )
    return content


def _skeleton(state: Mapping[str, torch.Tensor], file: Path) -> nn.Module:
    """Make a module that has the parameters of a state dict, and computes nothing."""
    skeleton: nn.Module = type(file.name, (ParametersOnly,), {})()
    modules = {"": skeleton}
    statistics = {name.rpartition(".")[0] for name in state if name.endswith(f".{_STATISTICS[-1]}")}
    tied: dict[tuple[object, ...], nn.Parameter] = {}
    for name, tensor in state.items():
        path, _, leaf = name.rpartition(".")
        if not tensor.is_floating_point() or (leaf in _STATISTICS and path in statistics):
            continue
        place = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else (name,)
        try:
            owner = _module_at(path, modules)
            owner.register_parameter(leaf, tied.setdefault(place, nn.Parameter(tensor.to("meta"))))
        except KeyError as error:
            raise CheckpointError(
                f"The state dict holds {name!r}, a name that no parameter of a module can have beside the others: "
                f"{error.args[0]}.",
                where=str(file),
                remedy="Name the class of the model with --class.",
            ) from error
    return skeleton


def _module_at(path: str, modules: dict[str, nn.Module]) -> nn.Module:
    """Find a module by its path, or make it and those above it."""
    owner, here = modules[""], ""
    for step in path.split(".") if path else ():
        here = f"{here}.{step}"
        if here not in modules:
            if not step or isinstance(getattr(owner, step, None), nn.Parameter):
                raise KeyError(f"{step!r} is no name of a part there")
            modules[here] = nn.Module()
            setattr(owner, step, modules[here])  # as modules are made: add_module refuses the names of methods
        owner = modules[here]
    return owner


def _class_in(transformers: object, name: str) -> Any:  # noqa: ANN401  # the class is the user's choice
    if "." in name or ":" in name:
        return import_attribute(name, where="--class")
    try:
        return getattr(transformers, name)
    except (AttributeError, ImportError) as error:
        raise ConfigError(
            f"transformers has no {name!r}. {did_you_mean(name, dir(transformers))}".rstrip(),
            where="--class",
            remedy="Name a class of transformers, such as AutoModelForSequenceClassification, or a class path.",
        ) from error


# Any: configurations of transformers have whatever attributes their model takes.
def _of_type(config: Any, build: Callable[[], nn.Module]) -> nn.Module:  # noqa: ANN401  # as the comment says
    wanted, before = getattr(config, "dtype", None), torch.get_default_dtype()
    wanted = getattr(torch, wanted, None) if isinstance(wanted, str) else wanted
    torch.set_default_dtype(wanted if isinstance(wanted, torch.dtype) else before)
    try:
        return build()
    finally:
        torch.set_default_dtype(before)


def _module(built: object, name: str) -> nn.Module:
    if not isinstance(built, nn.Module):
        raise ConfigError(
            f"{name} builds a {type(built).__name__}, which is no torch module.", remedy="Name the class of a module."
        )
    return built


def _require_attribute(path: str) -> None:
    taken = nn.Module()
    for step in path.split("."):
        if not step or hasattr(taken, step):
            problem = "A step of the path is empty" if not step else f"Every torch module has a {step!r} of its own"
            raise ConfigError(
                f"{problem}, so no module can stand under {path!r}.",
                where="--attribute",
                remedy="Name the attribute in which your module holds the model, such as model.",
            )


def _held(model: object, attribute: str) -> object:
    if not isinstance(model, nn.Module):
        return model
    holder: nn.Module = type(type(model).__name__, (nn.Module,), {})()
    *path, last = attribute.split(".")
    owner = holder
    for step in path:
        owner.add_module(step, nn.Module())
        owner = owner.get_submodule(step)
    owner.add_module(last, model)
    return holder
