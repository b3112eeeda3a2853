"""Whether what a plug-in was written for is a contract that this release drives."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from phasewire.adapters.errors import PhasewireError
    from phasewire.app.plugin_record import PluginRecord

__all__ = ["require_version"]

_FORM: Final = re.compile(r"(?P<major>\d+)\.\d+")


def require_version(
    declared: object,
    supported: str,
    record: PluginRecord,
    *,
    contract: str,
    page: str,
    error: type[PhasewireError],
    where: str | None,
) -> None:
    """Make sure that a plug-in declares a version of the same major number as ours.

    Args:
        declared: Its ``api_version``; a plug-in may have put anything there.
        supported: The version of this release.
        record: The plug-in.
        contract: The contract, for messages.
        page: The page of the documentation that lists its versions.
        error: The class of the error.
        where: The setting that named it, for messages.

    Raises:
        PhasewireError: It declares another major version, or none.
    """
    match = _FORM.fullmatch(declared) if isinstance(declared, str) else None
    if match is None:
        raise error(
            f"{record.description} declares api_version = {declared!r}, which is no contract version.",
            where=where,
            remedy=f"Write it as text, like {supported!r}.",
        )
    wanted, driven = int(match["major"]), int(supported.partition(".")[0])
    if wanted == driven:
        return
    newer, older = ("newer", "older") if wanted > driven else ("older", "newer")
    raise error(
        f"{record.description} is written for version {declared} of the {contract}, and this release of Phasewire "
        f"drives {driven}.x.",
        where=where,
        remedy=f"Install a release of phasewire that drives {wanted}.x, {newer} than {_own_version()}, or a release of "
        f"{record.distribution or 'the package it comes from'} for {driven}.x, {older} than "
        f"{record.version or 'the installed'}. {page} lists which release drives which version.",
    )


def _own_version() -> str:
    try:
        return metadata.version("phasewire")
    except metadata.PackageNotFoundError:  # the source tree is on the path, and nothing is installed
        return "this one"
