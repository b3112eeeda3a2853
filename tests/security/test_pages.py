"""Names in a plan that is drawn into a page are text, whatever they hold; tests/app/report has the same for reports."""

from __future__ import annotations

from base64 import b64decode
from xml.etree import ElementTree as ET

import pytest
from torch import nn

from parsed_page import Page
from phasewire.app import Schedule, ScheduleValidator
from phasewire.app.plan import plan_schedule
from phasewire.app.planning.drawing import PlanFiles
from phasewire.app.settings import SchedulerSettings
from recorded import DOLLARS, HOSTILE

NAMES = [HOSTILE.replace(".", ""), *DOLLARS, "--><script>alert(3)</script>", "]]><svg onload=alert(4)>", "\ud800"]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    model = nn.ModuleDict({name: nn.Linear(2, 2) for name in NAMES})
    model.__class__ = type(HOSTILE, (nn.ModuleDict,), {})
    schedule = Schedule.from_mapping(
        {depth: {"params": [f"{name}.{part}" for part in ("weight", "bias")]} for depth, name in enumerate(NAMES)}
    )
    plan = plan_schedule(model, schedule, SchedulerSettings(), ScheduleValidator())
    file = tmp_path_factory.mktemp("plan") / "plan.html"
    PlanFiles([file]).write(plan, f"{HOSTILE}.yaml")
    return Page(file)


def test_names_are_text(page) -> None:
    assert page.text.count("<script>alert(1)</script>") >= 3
    assert not {tag for tag, _ in page.elements} & {"script", "iframe", "object", "embed", "base", "form"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.open == []


@pytest.mark.parametrize("attribute", ["src", "srcset"])
def test_names_in_the_pictures_are_drawn_and_end_no_comment(page, attribute) -> None:
    (picture,) = page.values(attribute)
    # A parser of XML refuses a comment that a name has ended, and what then stands outside of the element.
    elements = ET.fromstring(b64decode(picture.removeprefix("data:image/svg+xml;base64,")))  # noqa: S314  # of our own making
    tags = {element.tag.rpartition("}")[2] for element in elements.iter()}
    assert tags >= {"svg", "path"}
    assert not tags & {"script", "foreignObject", "a", "animate", "set"}
    assert not [name for element in elements.iter() for name in element.attrib if name.startswith("on")]


def test_it_needs_nothing_from_elsewhere(page) -> None:
    links = page.values("href") + page.values("xlink:href") + page.values("src") + page.values("srcset")
    assert [each for each in links if not each.startswith(("#", "data:"))] == []
