"""From YAML files and dicts to valid :class:`~phasewire.app.Settings`, with every value's place at hand."""

from __future__ import annotations

import copy
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from phasewire.adapters.errors import ConfigError
from phasewire.app.config_file import Locate, YamlDocument, key_path, load_yaml, merge_settings
from phasewire.app.reinit_settings import reinit_problems
from phasewire.app.settings import ClassSpec, Settings
from phasewire.app.settings_problems import Problem, as_error, problems_of
from phasewire.app.trainer_keywords import trainer_problems
from phasewire.app.written_schedule import schedule_problems

__all__ = ["ConfigValues", "SettingsReader", "locator", "snapshot", "with_file", "with_value", "with_values"]


#: Sections that a run may lack, and sections that only have defaults.
_MAY_LACK: Final = frozenset({"model", "datamodule"})
_ALWAYS_THERE: Final = frozenset({"scheduler", "discovery", "trainer"})
_SECTIONS: Final = _MAY_LACK | _ALWAYS_THERE


@dataclass(frozen=True, slots=True)
class _Layer:
    """A file, and what it gave."""

    document: YamlDocument
    # Any: settings hold whatever YAML can.
    values: Mapping[str, Any]


class ConfigValues(dict[str, Any]):
    """A configuration that knows which files its values came from.

    It is a snapshot: changing what it was made from does not change it.

    Args:
        values: The configuration.
        layers: The files, in the order in which they were laid over each other.
    """

    def __init__(self, values: Mapping[str, Any] | None = None, layers: tuple[_Layer, ...] = ()) -> None:
        super().__init__(_unshared(values or {}))
        self.layers = layers

    # Any: what the copy protocol keeps is its own matter.
    def __deepcopy__(self, memo: dict[int, Any]) -> ConfigValues:
        return ConfigValues(copy.deepcopy(dict(self), memo), self.layers)

    def where(self, keys: Sequence[str | int]) -> str:
        """Describe the place of a value: in the file that gave it, or by its keys alone when code gave it.

        Args:
            keys: The keys and list indexes that lead to it.

        Returns:
            Such as ``"config.yaml, line 12, scheduler.max_depth"``.
        """
        for end in range(len(keys), 0, -1):
            layers = [layer for layer in self.layers if layer.document.position_of(keys[:end])]
            if not layers:
                continue
            value = _value_at(self, keys[:end])
            same = [layer for layer in layers if _is_same(_value_at(layer.values, keys[:end]), value)]
            if same or isinstance(value, Mapping):
                return (same or layers)[-1].document.where(keys)
            break
        return key_path(keys)


class SettingsReader:
    """Validates a configuration once, and remembers it until another one is asked for."""

    def __init__(self) -> None:
        self._values: object = None
        self._settings: Settings | None = None

    def read(self, values: Mapping[str, Any] | None) -> Settings:
        """Validate a whole configuration.

        Args:
            values: The configuration. The very same object as in the call before gives the same settings, without
                validating again.

        Returns:
            The settings.

        Raises:
            ConfigError: A key does not exist or is missing, or a value has a wrong type or is out of range; all such
                problems at once, each with its place.
        """
        if self._settings is None or values is not self._values:
            self._settings = self.validate({} if values is None else values)
            self._values = values
        return self._settings

    def validate(self, values: Mapping[str, Any]) -> Settings:
        """Validate a whole configuration, remembering nothing.

        Args:
            values: The configuration.

        Returns:
            The settings.

        Raises:
            ConfigError: As for :meth:`read`.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"A mapping of settings is expected, and {reprlib.repr(values)} is of type {type(values).__name__}.",
                remedy="Give a dict with the sections of config.yaml, such as {'scheduler': {'max_depth': 2}}.",
            )
        settings, problems = _validated(values)
        if settings is None or problems:
            raise as_error(problems, locator(values))
        return settings


def locator(values: object) -> Locate:
    """Give what tells the places of a configuration's values.

    Args:
        values: The configuration.

    Returns:
        Its own knowledge of files and lines, or, for a plain mapping, the keys alone.
    """
    return values.where if isinstance(values, ConfigValues) else key_path


def snapshot(value: object) -> object:
    """Copy a configuration that is about to be put in force, so that it cannot be changed from outside.

    Args:
        value: A mapping; anything else is no configuration, and is returned as it is.

    Returns:
        The copy; what is one already is not copied again.
    """
    return ConfigValues(value) if isinstance(value, Mapping) and not isinstance(value, ConfigValues) else value


def with_file(
    current: Mapping[str, Any] | None, path: str | os.PathLike[str], *, required: bool = True
) -> ConfigValues:
    """Lay a YAML file over a configuration.

    A relative ``ft_schedule`` names a file beside the YAML file if there is one, else one of the working directory.

    Args:
        current: The configuration so far.
        path: The file.
        required: Whether the file must exist; otherwise a missing one changes nothing.

    Returns:
        The merged configuration.

    Raises:
        ConfigError: The file is missing or cannot be read, does not parse, is no mapping, has a key twice, has a key
            that does not exist, or a value of a wrong type or out of range.
    """
    base = current if isinstance(current, ConfigValues) else ConfigValues(current)
    if not required and not Path(path).expanduser().exists():
        return base
    document = load_yaml(path, resolve_env=True)
    given = document.mapping()
    _, problems = _validated(given)
    # What is missing here may stand in another file.
    problems = [problem for problem in problems if not problem.is_absence]
    if problems:
        raise as_error(problems, document.where)
    values = _beside(given, Path(path).expanduser().parent)
    return ConfigValues(_merged(base, values), (*base.layers, _Layer(document, values)))


def with_values(
    current: Mapping[str, Any] | None, options: Mapping[str, Any], *, required: bool = False
) -> ConfigValues:
    """Lay settings from code over a configuration.

    Args:
        current: The configuration so far.
        options: The settings; not changed.
        required: Refuse empty settings.

    Returns:
        The merged configuration. It is validated when settings are asked for.

    Raises:
        ConfigError: ``options`` is empty and ``required``.
    """
    if required and not options:
        raise ConfigError("The configuration is empty.", remedy="Give at least one setting.")
    base = current if isinstance(current, ConfigValues) else ConfigValues(current)
    return ConfigValues(_merged(base, options), base.layers)


def with_value(current: Mapping[str, Any] | None, selector: str, value: object) -> ConfigValues:
    """Put one value into a configuration.

    Args:
        current: The configuration so far; not changed.
        selector: The keys that lead to the value, joined by dots. Sections on the way are made where there are none.
        value: The value.

    Returns:
        The changed configuration.
    """
    changed = ConfigValues(current, current.layers if isinstance(current, ConfigValues) else ())
    *sections, last = selector.split(".")
    at: dict[str, Any] = changed
    for section in sections:
        if not isinstance(at.get(section), dict):
            at[section] = {}
        at = at[section]
    at[last] = value
    return changed


# Any, here and below: keys and values are whatever YAML can be, until they have been validated.
def _validated(values: Mapping[Any, Any]) -> tuple[Settings | None, list[Problem]]:
    settings, problems = None, []
    try:
        settings = Settings.model_validate(dict(values))
    except ValidationError as error:
        problems = problems_of(error, Settings, values)
    problems += schedule_problems(values.get("scheduler"))
    problems += [
        Problem(("scheduler", *problem.keys), problem.text, problem.remedy)
        for problem in reinit_problems(values.get("scheduler"))
    ]
    trainer = values.get("trainer")
    if isinstance(trainer, Mapping):
        problems += trainer_problems(trainer)
        problems += _spec_problems(trainer, ("trainer",))
    for section in ("model", "datamodule"):
        spec = values.get(section)
        if isinstance(spec, Mapping):
            problems += _spec_problems(spec.get("init_args"), (section, "init_args"))
    return settings, problems


def _spec_problems(value: object, keys: tuple[str | int, ...]) -> Iterator[Problem]:
    """Check the form of the ``{class_path, init_args}`` in a value, at any depth."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _spec_problems(item, (*keys, index))
    if not isinstance(value, Mapping):
        return
    if "class_path" in value or set(value) == {"init_args"}:
        try:
            ClassSpec.model_validate(dict(value))
        except ValidationError as error:
            for problem in problems_of(error, ClassSpec, value):
                yield Problem((*keys, *problem.keys), problem.text, problem.remedy, problem.is_absence)
    for name, item in value.items():
        yield from _spec_problems(item, (*keys, name))


def _merged(base: Mapping[str, Any], over: Mapping[Any, Any]) -> dict[str, Any]:
    """Merge, and leave no section null: the configuration provider could not set a key in one."""
    # A heading with nothing under it must not wipe out what an earlier file has there; "model: null" is meant so.
    given = {key: value for key, value in over.items() if value is not None or key not in _ALWAYS_THERE}
    merged = merge_settings(base, given)
    return {key: value for key, value in merged.items() if value is not None or key not in _SECTIONS}


def _beside(values: Mapping[Any, Any], folder: Path) -> dict[str, Any]:
    schedule = (values.get("scheduler") or {}).get("ft_schedule")
    if isinstance(schedule, str) and (folder / schedule).is_file():
        return merge_settings(values, {"scheduler": {"ft_schedule": str(folder / schedule)}})
    return dict(values)


def _unshared(value: Any) -> Any:  # noqa: ANN401  # settings hold whatever YAML can
    """Copy mappings and lists, and share the rest."""
    if isinstance(value, Mapping):
        return {key: _unshared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unshared(item) for item in value]
    return value


def _value_at(values: object, keys: Sequence[str | int]) -> object:
    for key in keys:
        try:
            values = values[key]  # type: ignore[index]  # whatever is there, and what cannot be indexed has no value
        except (LookupError, TypeError):
            return None
    return values


def _is_same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other
