"""What pictures and pages are made with, the same for plans and reports."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from phasewire.adapters.errors import ConfigError

__all__ = ["page_environment", "require_matplotlib"]


def require_matplotlib(where: str | None = None) -> None:
    """See that there is what draws.

    Args:
        where: What asks for a picture, for the message.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: F401  # it is used elsewhere; here its absence is told
    except ImportError as error:
        raise ConfigError(
            "Pictures are drawn by matplotlib, which is not installed.",
            where=where,
            remedy="Install the extra: pip install 'phasewire[plots]'",
        ) from error


def page_environment(package: str) -> Environment:
    """Make what fills in the templates of a page.

    Args:
        package: The package whose folder ``templates`` holds them.

    Returns:
        An environment that escapes what it fills in, and fails where a name is not given.
    """
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
