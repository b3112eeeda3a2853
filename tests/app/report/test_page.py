"""The page of a run: what is on it, that it stands alone, and that hostile names do no harm."""

import re

import pytest
from typer.testing import CliRunner

from parsed_page import Page
from phasewire.adapters import ConfigError
from phasewire.app.cli import app
from phasewire.app.report import write_report
from recorded import HOSTILE, Recording


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
