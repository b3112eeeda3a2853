"""The JSON Schema of schedule files, by which editors complete and check them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from phasewire.adapters.errors import ScheduleError
from phasewire.app.schedule.model import Phase

__all__ = ["SCHEMA_FILE", "schedule_schema", "schema_text", "write_schema"]

#: The name of the schema beside the schedules that it checks.
SCHEMA_FILE: Final = "phasewire-schedule.schema.json"

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
#: Tells a schema of Phasewire, of any version, from a file of somebody else.
_TITLE: Final = "A fine-tuning schedule of Phasewire"

#: The numbers of phases as a file can give them: digits, also as text, and integral floats.
_PHASE_ZERO: Final = r"^(0{1,1000}|0+\.0*)$"
_LATER_PHASE: Final = r"^(?!0+$)(?!0+\.)([0-9]{1,1000}|[0-9]+\.0*)$"


# Any, here and below: JSON.
def schedule_schema() -> dict[str, Any]:
    """Describe schedule files.

    What only a model can tell, such as which names there are, is not in it; nor are gaps between phases and phases that
    are given twice, which JSON Schema has no words for.

    Returns:
        A JSON Schema, draft 2020-12.
    """
    phase = TypeAdapter(Phase).json_schema(ref_template="#/$defs/{model}")
    definitions = {name: _cleaned(content) for name, content in phase.pop("$defs").items()}
    definitions["Phase"] = _cleaned(phase)
    return {
        "$schema": _DIALECT,
        "title": _TITLE,
        "description": "Phases, numbered from 0 without gaps. What a phase thaws stays thawed in later phases.",
        "type": "object",
        "patternProperties": {
            _PHASE_ZERO: {"$ref": "#/$defs/PhaseZero"},
            _LATER_PHASE: {"anyOf": [{"$ref": "#/$defs/Phase"}, {"type": "null"}]},
        },
        "additionalProperties": False,
        # Some property is the number 0: not all are something else.
        "not": {"propertyNames": {"not": {"pattern": _PHASE_ZERO}}},
        # Editors that use the YAML language server say this instead of what the line above comes to.
        "errorMessage": "A schedule has phases that are numbered from 0: 0, 1, 2, ...",
        "$defs": {**definitions, "PhaseZero": _phase_zero(definitions["Phase"])},
    }


def schema_text() -> str:
    """Write the schema.

    Returns:
        JSON that ends with a line break.
    """
    return json.dumps(schedule_schema(), indent=2) + "\n"


def write_schema(folder: Path) -> str | None:
    """Put the schema beside schedules, in place of that of an older version.

    Args:
        folder: The folder of the schedules.

    Returns:
        Its path relative to them; ``None`` where a file of that name is somebody else's, which is left as it is.

    Raises:
        ScheduleError: The file cannot be written.
    """
    file, text = folder / SCHEMA_FILE, schema_text()
    try:
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif not _is_ours(file):
            return None
        elif file.read_text() != text:
            file.write_text(text)
    except OSError as error:
        raise ScheduleError(
            f"The schema cannot be written: {error.strerror}.",
            where=str(file),
            remedy="Give a folder that you may write to, or --no-schema.",
        ) from error
    return f"./{SCHEMA_FILE}"


def _is_ours(file: Path) -> bool:
    try:
        content = json.loads(file.read_text())
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("title") == _TITLE


def _cleaned(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out what says nothing to a person, such as titles made of names."""
    cleaned = {}
    for key, value in content.items():
        if key == "description":
            cleaned[key] = value.partition("\n\n")[0].replace("``", "`").replace("\n", " ")
        elif key == "properties":
            cleaned[key] = {name: _cleaned(each) for name, each in value.items()}
        elif key != "title" and (key, value) != ("default", None):
            cleaned[key] = value
    return cleaned


def _phase_zero(phase: dict[str, Any]) -> dict[str, Any]:
    """Describe the first phase: it thaws something, with what ``configure_optimizers`` of the module gives."""
    properties = dict(phase["properties"])
    names, *_ = properties["params"]["anyOf"]
    properties["params"] = {"description": properties["params"]["description"], **names, "minItems": 1}
    for key in ("new_optimizer", "new_lr_scheduler"):
        properties[key] = {"type": "null", "description": "Not in phase 0, which has what configure_optimizers gives."}
    return {**phase, "properties": properties, "required": ["params"]}
