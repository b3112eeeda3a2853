"""The page of a plan in a headless Chromium: it loads nothing, and its picture is seen in every view."""

import pytest
from torch import nn

from browser import browser, missing_browser
from phasewire.app import Schedule, ScheduleValidator
from phasewire.app.plan import plan_schedule
from phasewire.app.planning.drawing import PlanFiles
from phasewire.app.settings import SchedulerSettings

pytestmark = pytest.mark.skipif(missing_browser() is not None, reason=f"{missing_browser()}; docs/testing.md")

VIEWS = [(1280, False), (1280, True), (390, False), (390, True)]
#: What is seen of the picture, and how light its first pixel and the page behind it are, from 0 to 255.
SEEN = """
const image = document.querySelector("img");
const box = image.getBoundingClientRect(), figure = document.querySelector("figure").getBoundingClientRect();
const canvas = document.createElement("canvas").getContext("2d");
canvas.drawImage(image, 0, 0);
const pixel = [...canvas.getImageData(2, 2, 1, 1).data];
canvas.fillStyle = getComputedStyle(document.body).backgroundColor;
canvas.fillRect(0, 0, 1, 1);
return {
  loaded: image.complete && image.naturalWidth > 0, source: image.currentSrc.slice(0, 18),
  width: box.width, height: box.height, left: box.left - figure.left, right: figure.right, pixel: pixel,
  page: [...canvas.getImageData(0, 0, 1, 1).data], scroll: document.documentElement.scrollWidth,
};
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the browser saw of a plan's page in every view."""
    model = nn.ModuleDict({name: nn.Linear(2, 2) for name in ("body", "neck", "head")})
    schedule = Schedule.from_mapping(
        {depth: {"params": [f"{name}.weight", f"{name}.bias"]} for depth, name in enumerate(("head", "neck", "body"))}
    )
    file = tmp_path_factory.mktemp("plan") / "plan.html"
    PlanFiles([file]).write(
        plan_schedule(model, schedule, SchedulerSettings(), ScheduleValidator()), "my_schedule.yaml"
    )
    views = {}
    with browser() as opened:
        for width, dark in VIEWS:
            opened.open(file, width=width, dark=dark)
            views[width, dark] = {
                "messages": opened.messages(),  # before the script below writes its own
                "elsewhere": [
                    url for url in opened.requests() if url.startswith(("http", "ws", "file")) and url != file.as_uri()
                ],
                **opened.run(SEEN),
            }
    return views


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_it_asks_for_nothing_and_the_console_is_silent(seen, view):
    assert seen[view]["elsewhere"] == []
    assert seen[view]["messages"] == []


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_the_picture_is_seen_and_only_its_figure_scrolls(seen, view):
    found = seen[view]
    assert found["loaded"]
    assert found["width"] >= 600, "narrower than this, its text could not be read"
    assert found["height"] > 150
    assert found["left"] >= 0
    assert found["right"] <= view[0]
    assert found["scroll"] <= view[0]


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_the_picture_has_the_colour_of_the_page(seen, view):
    assert seen[view]["pixel"] == seen[view]["page"]
    assert (sum(seen[view]["pixel"][:3]) < 3 * 64) is view[1]
