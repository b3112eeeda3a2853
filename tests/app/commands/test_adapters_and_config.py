"""``phasewire adapters`` and ``phasewire config``."""

from __future__ import annotations

import re

import yaml

from phasewire.app import Settings
from phasewire.containers import Container


def test_list_shows_the_native_adapters_without_loading_them(project, run):
    result = run("adapters", "list")
    assert result.exit_code == 0, result.output
    rows = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in result.stdout.splitlines()]
    native = {row[0]: row[-1] for row in rows if len(row) == 6 and row[-2] == "native"}
    assert native == {
        "fsdp": "not loaded",
        "modelparallelstrategy": "not loaded",
        "transformerbridge": "not loaded",
    }


def test_list_with_load_reports_each_adapter_and_succeeds(project, run, monkeypatch, tmp_path):
    metadata = tmp_path / "broken_plugin-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(
        "[finetuning_scheduler.strategy_adapters]\nBroken = broken_plugin:Adapter\nFSDP = broken_plugin:Other\n"
    )
    (tmp_path / "broken_plugin.py").write_text("raise OSError('a library is missing')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run("adapters", "list", "--load")
    assert result.exit_code == 0, result.output
    assert re.search(
        r"broken .*broken-plugin .*1\.2 .*broken_plugin:Adapter .*entry point .*does not load", result.stdout
    )
    assert re.search(r"Warning: .*'broken' of broken-plugin 1\.2.*a library is missing", result.stderr)
    assert "FSDP@broken-plugin".lower() in result.stdout.lower()
    assert re.search(r"Warning: 'fsdp' means Phasewire's own adapter", result.stderr)


def test_init_writes_every_setting_at_its_default(project, run):
    result = run("config", "init", "--output", "new.yaml")
    assert result.exit_code == 0, result.output
    container = Container()
    container.config.from_yaml(project / "new.yaml")
    assert container.settings() == Settings()


def test_init_refuses_to_overwrite(project, refused):
    before = (project / "config.yaml").read_text()
    message = refused("config", "init")
    assert "config.yaml" in message
    assert "--output" in message
    assert (project / "config.yaml").read_text() == before


def test_init_into_a_folder_that_does_not_exist_is_refused(project, refused):
    assert "absent/new.yaml" in refused("config", "init", "--output", "absent/new.yaml")


def test_show_prints_the_merged_configuration_with_defaults(project, run):
    (project / "change.yaml").write_text("trainer: {max_epochs: 9}\nscheduler: {base_max_lr: 1e-3}\n")
    result = run("config", "show", "--config", "config.yaml", "--config", "change.yaml")
    assert result.exit_code == 0, result.output
    shown = yaml.safe_load(result.stdout)
    assert shown["trainer"]["max_epochs"] == 9
    assert shown["trainer"]["accelerator"] == "cpu"
    assert shown["scheduler"]["base_max_lr"] == 0.001
    assert shown["scheduler"]["max_depth"] == -1
    assert shown["model"] == {"class_path": "own_project.Classifier", "init_args": {"width": 5}}


def test_what_show_prints_is_a_configuration(project, run):
    with (project / "config.yaml").open("a") as config:
        config.write("discovery: {group: '$${NOT_SET}/a'}\n")
    shown = run("config", "show", "--config", "config.yaml").stdout
    (project / "shown.yaml").write_text(shown)
    assert "group: $${NOT_SET}/a\n" in shown
    assert run("config", "show", "--config", "shown.yaml").stdout == shown
