"""Class paths and mappings that were given as text, on the command line or to pytest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["mapping_from_text", "model_from_text"]


def model_from_text(
    class_path: str, init_args: str | None = None, *, option: str = "CLASS_PATH"
) -> Callable[[], object]:
    """Make what builds the model that was named on the command line.

    Args:
        class_path: ``pkg.mod.Class`` or ``pkg.mod:Class``.
        init_args: A YAML or JSON mapping; ``None`` for no arguments.
        option: The option or argument that gave the path, for messages.

    Returns:
        A callable that builds the model; it raises as :func:`phasewire.app.class_path.instantiate` does.

    Raises:
        ConfigError: ``init_args`` does not parse or is no mapping.
    """
    from phasewire.app.class_path import instantiate

    spec = {"class_path": class_path, "init_args": mapping_from_text(init_args, "--init-args")}
    return lambda: instantiate(spec, locate=lambda keys: _option_of(keys, option))


# Any: keys and values are whatever YAML can be; whoever takes them checks them.
def mapping_from_text(text: str | None, option: str) -> dict[Any, Any]:
    """Read a mapping that was given on the command line.

    Args:
        text: A YAML or JSON mapping; ``None`` for an empty one.
        option: The option that gave it, for messages.

    Returns:
        The mapping.

    Raises:
        ConfigError: It does not parse or is no mapping.
    """
    from phasewire.adapters.errors import ConfigError
    from phasewire.app.config_file import parse_yaml

    try:
        return parse_yaml(text or "").mapping()
    except ConfigError as error:
        raise ConfigError(
            error.problem,
            where=", ".join(filter(None, [option, error.where])),
            remedy="Give YAML or JSON such as '{width: 64, depth: 2}'.",
        ) from error


def _option_of(keys: Sequence[str | int], option: str) -> str:
    from phasewire.app.config_file import key_path

    section, *rest = keys or ("class_path",)
    return ", ".join(filter(None, ["--init-args", key_path(rest)])) if section == "init_args" else option
