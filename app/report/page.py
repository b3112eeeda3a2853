"""Puts a report together: tables and plots in, one HTML file out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from phasewire.adapters.errors import ConfigError
from phasewire.app.atomic_save import draft_of
from phasewire.app.config_file import dump_yaml
from phasewire.app.drawing import page_environment
from phasewire.app.report.figures import lr_picture, metric_picture, share_picture, time_line_picture
from phasewire.app.report.metric_files import read_metric_files
from phasewire.app.report.panels import metric_panels
from phasewire.app.report.story import Story, find_record, read_story
from phasewire.app.watching.criterion_words import ended_by_words

__all__ = ["REPORT_NAME", "write_report"]

#: The name of the page in the run folder.
REPORT_NAME: Final = "report.html"

_MOST_PANELS: Final = 12
#: A schedule of tens of thousands of names would make a page of megabytes that nobody reads.
_MOST_CHARACTERS: Final = 100_000


def write_report(run_dir: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> Path:
    """Write the report of a run.

    Args:
        run_dir: The log folder of the run, one above it, or its record.
        output: The file to write; by default ``report.html`` beside the record. One that is there is replaced.

    Returns:
        The absolute path of the page.

    Raises:
        ConfigError: There is no run, matplotlib is missing, or the page cannot be written.
    """
    record = find_record(Path(run_dir))
    story = read_story(record)
    page = _page_of(story)
    path = Path(output) if output is not None else record.parent / REPORT_NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(path) as draft:
            draft.write(page.encode("utf-8", errors="replace"))
    except OSError as error:
        raise ConfigError(
            f"The report cannot be written: {error.strerror or error}.",
            where=str(path),
            remedy="Choose another file with --output.",
        ) from error
    return path.absolute()


def _page_of(story: Story) -> str:
    folders = [story.record.parent, *map(Path, story.fit.logger_folders)]
    folders += [Path(fit.resumed_from).parent.parent for fit in story.resumes if fit.resumed_from]
    step_values, remarks = read_metric_files(folders)
    panels = metric_panels(story, step_values)
    shown = panels[:_MOST_PANELS]
    hidden = [line.label for panel in panels[_MOST_PANELS:] for line in panel.lines]
    environment = page_environment("phasewire.app.report")
    environment.filters["svg"] = Markup  # what matplotlib has drawn, and escaped
    environment.filters["duration"] = _duration
    environment.filters["number"] = _number
    return environment.get_template("report.html.j2").render(
        story=story,
        status=_status(story),
        remarks=[*story.remarks, *remarks],
        time_line=time_line_picture(story),
        metrics=[metric_picture(story, panel, number) for number, panel in enumerate(shown)],
        hidden_metrics=hidden,
        rates=[share_picture(story), lr_picture(story)] if story.epochs else [],
        checkpoints=(checkpoints := _checkpoints(story)),
        more_checkpoints=len(story.checkpoints) - len(checkpoints),
        phases=_phases(story),
        schedule=_schedule_text(story),
        environment=_environment(story),
        folder=story.record.parent,
    )


def _status(story: Story) -> tuple[str, str]:
    """Tell how the run ended: a word for the style of the page, and words for its reader."""
    if story.ended is None:
        return "open", "not ended: it was cut off, or still runs"
    reason = f": {story.ended.reason}" if story.ended.reason else ""
    return story.ended.how if story.ended.how in ("finished", "failed") else "open", f"{story.ended.how}{reason}"


# Any, here and below: what a template is given is of several types.
def _phases(story: Story) -> list[dict[str, Any]]:
    rows = []
    ended_by: dict[int, str] = {
        span.began.phase - 1: ended_by_words(span.began.ended_by) for span in story.spans if span.began.ended_by
    }
    for span in story.spans:
        began = span.began
        rows.append(
            {
                "span": span,
                "began": began,
                "last_epoch": int(span.end_epoch) - 1,
                "share": began.trained / story.fit.parameters if story.fit.parameters else 0,
                "own_rates": list(
                    dict.fromkeys(f"{group.lr:.3g}" for group in began.groups if group.phase == began.phase)
                ),
                "ended_by": ended_by.get(began.phase, ""),
                "restored": None if began.restored is None else _relative(began.restored.path, story),
            }
        )
    return rows


def _checkpoints(story: Story) -> list[dict[str, Any]]:
    """List the files that are there, and those that were restored, as they were then."""
    restored: dict[tuple[str, int], list[int]] = {}
    for span in story.spans:
        if span.began.restored is not None:
            restored.setdefault((span.began.restored.path, span.began.restored.epoch), []).append(span.began.phase)
    newest = {each.path: each.epoch for each in story.checkpoints}
    best = story.ended.best_checkpoint if story.ended else None
    rows = []
    for each in story.checkpoints:
        is_newest = newest[each.path] == each.epoch
        phases = restored.get((each.path, each.epoch), [])
        is_there = is_newest and _is_there(each.path, story)
        is_best = is_newest and each.path == best
        if not (is_there or phases or is_best):
            continue
        rows.append(
            {
                "path": _relative(each.path, story),
                "epoch": each.epoch,
                "phase": each.phase,
                "monitor": each.monitor,
                "score": each.score,
                "restored": phases,
                "is_best": is_best,
                "now": "kept" if is_there else "removed since" if is_newest else "written over since",
            }
        )
    return rows


def _relative(path: str, story: Story) -> str:
    """Shorten a path that lies in the folder the run was recorded in."""
    folder = story.fit.folder
    return os.path.relpath(path, folder) if folder and Path(path).is_relative_to(folder) else path


def _is_there(path: str, story: Story) -> bool:
    # The run folder may have been moved since.
    return Path(path).exists() or (story.record.parent / _relative(path, story)).exists()


def _schedule_text(story: Story) -> str:
    text = dump_yaml(dict(enumerate(story.fit.schedule))) if story.fit.schedule else ""
    if len(text) <= _MOST_CHARACTERS:
        return text
    cut = text[: text.rindex("\n", 0, _MOST_CHARACTERS) + 1]
    return f"{cut}# ... and {len(text) - len(cut):,} characters more, in the record of the run\n"


def _environment(story: Story) -> Mapping[str, str]:
    fit = story.fit
    return {
        **fit.versions,
        "platform": fit.platform,
        "device": fit.device,
        "processes": str(fit.processes),
        "strategy": fit.strategy,
        "strategy adapter": fit.adapter,
        "precision": fit.precision,
        "seed": fit.seed or "none was set",
    }


def _duration(seconds: float) -> str:
    if seconds < 60:  # noqa: PLR2004  # seconds in a minute
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=round(seconds)))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
