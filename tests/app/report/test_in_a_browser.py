"""The page in a headless Chromium: it loads nothing, and every plot can be seen, on a screen and on a phone."""

import pytest

from browser import browser, missing_browser
from phasewire.app.report import write_report
from recorded import HOSTILE, Recording

pytestmark = pytest.mark.skipif(missing_browser() is not None, reason=f"{missing_browser()}; docs/testing.md")

#: For every plot: whether it is shown, its box, the box of its figure, and the boxes of its texts.
PLOTS = """
return [...document.querySelectorAll("figure")].map(figure => {
  const shown = [...figure.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().width > 0);
  const box = element => { const b = element.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };
  return {
    title: figure.querySelector("figcaption").textContent,
    shown: shown.length,
    plot: box(shown[0]),
    figure: box(figure),
    texts: [...shown[0].querySelectorAll("text")].filter(t => t.textContent.trim())
      .map(t => [t.textContent, ...box(t)]),
    size: Math.min(...[...shown[0].querySelectorAll("text")].map(t => t.getBoundingClientRect().height)),
    lines: shown[0].querySelectorAll("path").length,
  };
});
"""
CONTRAST = """
const context = document.createElement("canvas").getContext("2d");
const light = colour => {
  context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
  const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (one, two) => {
  const [a, b] = [light(one), light(two)].sort((x, y) => y - x);
  return (a + .05) / (b + .05);
};
const card = getComputedStyle(document.querySelector("figure")).backgroundColor;
const text = [...document.querySelectorAll("svg text")].find(t => t.getBoundingClientRect().width > 0);
const page = getComputedStyle(document.body).backgroundColor;
return {text: ratio(getComputedStyle(text).fill, card),
        soft: ratio(getComputedStyle(document.querySelector(".soft")).color, page)};
"""
VIEWS = [(1280, False), (1280, True), (390, False), (390, True)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the browser saw of two pages in every view."""
    seen = {}
    with browser() as opened:
        for kind, names in (("plain", ""), ("hostile", HOSTILE)):
            page = write_report(Recording(tmp_path_factory.mktemp(kind), names).whole().folder)
            for width, dark in VIEWS:
                opened.open(page, width=width, dark=dark)
                seen[kind, width, dark] = {
                    "page": page.as_uri(),
                    "messages": opened.messages(),  # before the scripts below write their own
                    "requests": opened.requests(),
                    "plots": opened.run(PLOTS),
                    "contrast": opened.run(CONTRAST),
                    "width": opened.run("return document.documentElement.scrollWidth"),
                    "scrolling": opened.run(
                        "return [...document.querySelectorAll('.scroll')]"
                        ".map(e => [e.getBoundingClientRect().right, getComputedStyle(e).overflowX])"
                    ),
                }
    return seen


@pytest.fixture(params=[(kind, *view) for kind in ("plain", "hostile") for view in VIEWS], ids=str)
def view(request, seen):
    """One page in one view."""
    return seen[request.param] | {"window": request.param[1]}


def test_it_asks_for_nothing_but_itself(view):
    assert view["requests"] == [view["page"]]


def test_the_console_is_silent(view):
    assert view["messages"] == []


def test_every_plot_is_shown_once_and_lies_within_its_figure(view):
    assert len(view["plots"]) == 5
    for plot in view["plots"]:
        left, top, right, bottom = plot["plot"]
        assert plot["shown"] == 1, plot["title"]
        assert right - left > 250, plot["title"]
        assert bottom - top > 120, plot["title"]
        assert plot["figure"][0] <= left, plot["title"]
        assert right <= plot["figure"][2] <= view["window"], plot["title"]
        assert plot["lines"] > 5, plot["title"]


def test_no_text_of_a_plot_is_cut_off_or_too_small(view):
    for plot in view["plots"]:
        left, top, right, bottom = plot["plot"]
        for text, *box in plot["texts"]:
            assert box[0] >= left - 1, (plot["title"], text)
            assert box[1] >= top - 1, (plot["title"], text)
            assert box[2] <= right + 1, (plot["title"], text)
            assert box[3] <= bottom + 1, (plot["title"], text)
        assert plot["size"] >= 9, plot["title"]


def test_no_two_texts_of_a_plot_lie_on_each_other(view):
    for plot in view["plots"]:
        texts = plot["texts"]
        for number, (one, *first) in enumerate(texts):
            for other, *second in texts[number + 1 :]:
                across = min(first[2], second[2]) - max(first[0], second[0])
                down = min(first[3], second[3]) - max(first[1], second[1])
                # Lines of text have room around their letters.
                assert across <= 2 or down <= 5, (plot["title"], one, other)


def test_the_page_scrolls_down_only_and_its_tables_by_themselves(view):
    assert view["width"] <= view["window"]
    assert all(right <= view["window"] and overflow == "auto" for right, overflow in view["scrolling"])


def test_text_stands_out_in_light_and_dark(view):
    assert view["contrast"]["text"] >= 7
    assert view["contrast"]["soft"] >= 4.5
