"""The page of a run: what is on it, that it stands alone, and that hostile names do no harm."""

import re

import pytest
from typer.testing import CliRunner

from parsed_page import Page
from phasewire.adapters import ConfigError
from phasewire.app.cli import app
from phasewire.app.report import write_report
from recorded import DOLLARS, HOSTILE, Recording


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    return Page(write_report(Recording(tmp_path_factory.mktemp("run")).whole().folder))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Page:
    return Page(write_report(Recording(tmp_path_factory.mktemp("hostile"), HOSTILE).whole().folder))


def test_it_tells_how_the_run_went(page):
    words = " ".join(page.text.split())

    assert "Finished" in words
    assert "Phases 3 of 3" in words
    assert "Best val_loss 0.1111" in words
    assert "checkpoints/epoch=2.ckpt of epoch 2" in words
    assert "torch 2.13.0" in words
    assert "layers.1" in words


def test_it_has_a_plot_of_phases_metrics_rates_and_share_each_described(page):
    described = [each["aria-label"] for each in page.all("div") if each.get("role") == "img"]

    assert [text.split(".")[0] for text in described] == [
        "Phases",
        "loss",
        "val_accuracy",
        "Share of the module that is trained",
        "Learning rate of each group",
    ]
    assert "phase 1 from epoch 3 to 5" in described[0]
    assert "val_loss from 1 to 0.1111" in described[1]
    assert len(page.all("svg")) == 2 * len(described)
    assert len(page.all("figure")) == len(page.all("figcaption")) == len(described)


def prefixes(page) -> list[str]:
    """What the ids of each picture begin with, for a wide page and for a narrow one."""
    return sorted({each.partition("-")[0] for each in page.values("id") if each.endswith("-figure_1")})


def test_each_plot_over_epochs_has_a_line_for_each_transition(page):
    lines = [each for each in page.values("id") if "-transition-to-" in each]
    plots = [prefix for prefix in prefixes(page) if not prefix.startswith("time")]

    assert len(plots) == 2 * 4
    assert sorted(lines) == sorted(f"{plot}-transition-to-{phase}" for plot in plots for phase in (1, 2))


def test_lines_stand_where_phases_begin(page):
    begins = [
        float(re.search(rf'id="m0w-transition-to-{phase}">\s*<path d="M ([\d.]+)', page.source)[1]) for phase in (1, 2)
    ]
    ticks = [float(each) for each in re.findall(r'id="m0w-xtick_\d+">.*?<path d="M ([\d.]+)', page.source, re.DOTALL)]

    # Of epochs 0 to 8, each at its tick, the phases begin between 2 and 3, and between 5 and 6.
    assert len(ticks) == 9
    assert begins == [pytest.approx((ticks[at] + ticks[at + 1]) / 2, abs=0.1) for at in (2, 5)]


def test_an_arrow_leads_from_each_restored_checkpoint_to_the_phase_that_it_was_restored_for(page):
    arrows = [each for each in page.values("id") if "-restored-" in each]

    assert sorted(arrows) == [
        f"{width}-restored-from-{phase - 1}-for-{phase}" for width in ("timen", "timew") for phase in (1, 2)
    ]


def rows(page, heading) -> list[str]:
    """The rows of the table below a heading, each as one line of words."""
    section = page.source.partition(f">{heading}</h2>")[2].partition("</table>")[0]
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in section.split("<tr")[2:]]


def test_checkpoints_are_marked_as_restored_removed_or_written_over(tmp_path):
    recording = Recording(tmp_path)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    recording.fit_began()
    recording.phase_began(0, 0)
    saved = [("best.ckpt", 0), ("best.ckpt", 1), ("gone.ckpt", 2), ("there.ckpt", 3)]
    for name, epoch in saved:
        path = str(folder / name)
        recording.write("checkpoint_saved", path=path, monitor="val_loss", score=0.5, epoch=epoch, phase=0)
        recording.write("epoch_ended", epoch=epoch, step=2 * epoch + 2, phase=0, lrs=[0.1], metrics={})
    for phase, (name, epoch) in enumerate(((saved[0]), (saved[2])), start=1):
        restored = {"path": str(folder / name), "epoch": epoch, "phase": 0, "monitor": "val_loss", "score": 0.5}
        recording.phase_began(phase, 3 + phase, 5, restored)
    (folder / "best.ckpt").touch()
    (folder / "there.ckpt").touch()

    told = rows(Page(write_report(tmp_path)), "Checkpoints")

    assert [row for row in told if "restored for phase 1" in row and "written over since" in row] == told[:1]
    assert [row for row in told if "restored for phase 2" in row and "removed since" in row] == [told[2]]
    assert ["kept" in row for row in told] == [False, True, False, True]
    assert sum("restored for phase" in row for row in told) == 2


def test_it_says_what_ended_each_phase_but_the_last(page):
    told = rows(page, "Phases")

    assert ["patience" in row for row in told] == [True, True, False]


@pytest.mark.parametrize("name", DOLLARS)
def test_a_name_with_dollar_signs_is_text(name, tmp_path):
    page = Page(write_report(Recording(tmp_path, name).whole().folder))

    assert f"val_loss{name}" in page.text
    assert f"patience{name}" in page.text
    assert any(f"val_accuracy{name}" in text for text in page.values("aria-label"))


def test_headings_go_down_by_one(page):
    headings = [tag for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]

    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}


@pytest.mark.parametrize("kind", ["page", "hostile"])
def test_it_stands_alone(request, kind):
    page = request.getfixturevalue(kind)

    assert page.open == []
    assert not {tag for tag, _ in page.elements} & {"script", "img", "iframe", "object", "embed", "base", "form"}
    assert [
        each for each in page.values("href") + page.values("xlink:href") if not each.startswith(("#", "data:"))
    ] == []
    assert page.values("src") == []
    assert "url(http" not in page.text
    (policy,) = [each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")


@pytest.mark.parametrize("kind", ["page", "hostile"])
def test_every_id_stands_once_and_every_reference_leads_to_one(request, kind):
    page = request.getfixturevalue(kind)
    ids = page.values("id")
    wanted = [each[1:] for each in page.values("href") + page.values("xlink:href") if each.startswith("#")]
    clipped = [match for each in page.values("clip-path") for match in re.findall(r"url\(#([^)]+)\)", each)]

    assert len(ids) == len(set(ids))
    assert set(wanted + clipped + page.values("aria-labelledby")) <= set(ids)


def test_hostile_names_are_text(hostile):
    assert "<script>alert(1)</script>" in hostile.text
    assert not [name for _, attributes in hostile.elements for name in attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in hostile.text


def test_colours_are_those_of_the_page(page):
    styles = " ".join(style for style in page.values("style") if style)

    assert "currentColor" in styles
    assert "var(--s0)" in styles
    assert re.findall(r"#0[1-4]0[2-5][0-9a-f]{2}", styles) == []


def test_its_size_is_that_of_a_picture(tmp_path):
    path = write_report(Recording(tmp_path).whole().folder)

    assert path.stat().st_size < 300_000


def test_the_command_writes_it_beside_the_record_or_where_it_is_told(tmp_path):
    Recording(tmp_path / "logs" / "version_0").whole()

    beside = CliRunner().invoke(app, ["report", str(tmp_path)])
    elsewhere = CliRunner().invoke(app, ["report", str(tmp_path), "-o", str(tmp_path / "new" / "page.html")])

    assert beside.output == f"Report: {tmp_path / 'logs' / 'version_0' / 'report.html'}\n"
    assert (tmp_path / "logs" / "version_0" / "report.html").is_file()
    assert elsewhere.exit_code == 0
    assert (tmp_path / "new" / "page.html").is_file()


def test_a_run_that_was_cut_off_is_shown_up_to_there(tmp_path):
    recording = Recording(tmp_path).whole(epochs=range(5), ends=False)
    with recording.path.open("a") as file:
        file.write('{"event": "epoch_en')

    words = " ".join(Page(write_report(tmp_path)).text.split())

    assert "Not ended: it was cut off, or still runs" in words
    assert "5 of at most 9" in words
    assert "1 line of the record could not be read" in words


def test_a_run_without_an_epoch_has_a_page(tmp_path):
    recording = Recording(tmp_path)
    recording.fit_began()
    recording.phase_began(0, 0)

    assert "0 of at most 9" in " ".join(Page(write_report(tmp_path)).text.split())


def test_values_that_are_no_numbers_are_gaps(tmp_path):
    recording = Recording(tmp_path)
    recording.fit_began()
    recording.phase_began(0, 0)
    for epoch, value in enumerate(["nan", 1.0, "inf", "-inf"]):
        recording.epoch_ended(epoch, 0, {"odd": value})

    assert "odd from nan to -inf" in " ".join(Page(write_report(tmp_path)).values("aria-label"))


def test_without_matplotlib_it_is_said_which_extra_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)

    with pytest.raises(ConfigError, match=r"pip install 'phasewire\[plots\]'"):
        write_report(Recording(tmp_path).whole().folder)


def test_a_page_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "report.html").mkdir()

    with pytest.raises(ConfigError, match=r"report\.html: The report cannot be written.*--output"):
        write_report(Recording(tmp_path).whole().folder)


def test_long_runs_make_no_large_page(tmp_path):
    recording = Recording(tmp_path)
    recording.fit_began()
    recording.phase_began(0, 0)
    for epoch in range(3000):
        recording.write(
            "epoch_ended", epoch=epoch, step=epoch + 1, phase=0, lrs=[0.1], metrics={"loss": (epoch * 7919) % 101}
        )

    assert write_report(tmp_path).stat().st_size < 400_000
