"""The configuration provider, with Phasewire's reading of YAML behind dependency-injector's own method names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dependency_injector import providers

from phasewire.app.settings_reader import snapshot, with_file, with_value, with_values

__all__ = ["YamlConfiguration"]


class YamlConfiguration(providers.Configuration):
    """dependency-injector's ``Configuration``, which keeps Phasewire's promises about YAML.

    Its own ``from_yaml`` lets the last of duplicate keys win, replaces ``${}`` in comments too, and forgets the file;
    its merging joins two schedules into one, and changes what it is given.
    """

    # The names of the arguments are dependency-injector's; a loader of one's own could not keep the promises.
    def from_yaml(  # type: ignore[override]  # see the line above
        self, filepath: str | os.PathLike[str], required: object = True, envs_required: object = True
    ) -> None:
        """Lay a YAML file over the configuration.

        Args:
            filepath: The file.
            required: ``False`` passes over a file that does not exist.
            envs_required: Taken for the sake of ``load()``; a variable that is not set is always refused, and
                ``${VAR:}`` gives an empty default.

        Raises:
            ConfigError: The file cannot be used; see :func:`phasewire.app.settings_reader.with_file`.
        """
        self.override(with_file(self(), filepath, required=required is not False))

    # Any: settings hold whatever YAML can.
    def from_dict(self, options: Mapping[str, Any], required: object = False) -> None:
        """Lay settings over the configuration, by the same rules as a file.

        Args:
            options: The settings; they are not changed.
            required: ``True`` refuses empty settings.

        Raises:
            ConfigError: ``options`` is empty, and ``required``.
        """
        self.override(with_values(self(), options, required=required is True))

    def override(self, provider: object) -> providers.OverridingContext[Any]:
        """Replace the configuration; every other method of changing it ends here.

        Args:
            provider: A mapping, of which a copy is taken, or a provider of one.

        Returns:
            A context that takes the replacement back when it ends.
        """
        context: providers.OverridingContext[Any] = super().override(snapshot(provider))
        return context

    def set(self, selector: str, value: object) -> providers.OverridingContext[Any]:
        """Set one value; ``config.scheduler.max_depth.from_value(2)`` and the like end here.

        Args:
            selector: The keys that lead to it, joined by dots.
            value: The value.

        Returns:
            A context that takes the value back when it ends.
        """
        return self.override(with_value(self(), selector, value))
