"""``phasewire adapters`` and ``phasewire config``."""

from __future__ import annotations

import json
import re
import sys

import yaml

from phasewire.app import Settings
from phasewire.containers import Container


def test_list_shows_the_native_adapters_without_loading_them(project, run):
    result = run("adapters", "list")
    assert result.exit_code == 0, result.output
    rows = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in result.stdout.splitlines()]
    native = {row[0]: row[-1] for row in rows if len(row) == 7 and row[-3] == "native"}
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


def adapters(run, *options):
    """What ``adapters list --json`` tells, by name."""
    result = run("adapters", "list", "--json", *options)
    assert result.exit_code == 0, result.output
    return {row["name"]: row for row in json.loads(result.stdout)}, result.stderr


def test_list_shows_what_the_configuration_uses_an_adapter_for(project, run, plugins):
    path = "acme_adapters.names:PrefixedNamesAdapter"
    mapping = {"single_device": "AcmeNames", "auto": "twin@twin-beta", "ddp": path}
    (project / "map.yaml").write_text(yaml.safe_dump({"scheduler": {"custom_strategy_adapters": mapping}}))

    rows, _ = adapters(run, "--config", "map.yaml")

    assert {name: row["used_for"] for name, row in rows.items() if row["used_for"]} == {
        "acmenames": ["single_device"],
        "twin@twin-beta": ["auto"],
        path: ["ddp"],
    }
    assert rows[path]["source"] == "class path"
    assert "acme_adapters" not in sys.modules


def test_list_shows_which_adapters_are_not_trusted_and_loads_none_of_them(project, run, plugins):
    (project / "trust.yaml").write_text("discovery: {allow: [Acme.Adapters]}\n")

    rows, warned = adapters(run, "--load", "--config", "trust.yaml")

    assert rows["acmenames"]["state"] == "ok"
    states = {row["state"] for row in rows.values() if row["source"] == "entry point" and row["name"] != "acmenames"}
    assert states == {"not trusted"}
    assert rows["raises"]["problem"] == "discovery.allow does not name it"
    assert "raises: discovery.allow does not name it" in warned
    assert "slow_start" not in sys.modules


def test_list_says_how_conflicts_were_decided(project, run, plugins):
    rows, warned = adapters(run)

    assert "That of Twin_Alpha 1.0" in rows["twin"]["conflict"]
    assert rows["twin@twin-beta"]["conflict"] == rows["twin"]["conflict"]
    assert rows["twin"]["conflict"] in warned
    assert rows["acmenames"]["conflict"] is None


def test_show_tells_options_hooks_and_contract(project, run, plugins):
    result = run("adapters", "show", "ACMENAMES")

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "acmenames (acme_adapters.names:PrefixedNamesAdapter), of Acme.Adapters 1.2.0"
    assert lines[1].split() == ["Contract:", "1.0"]
    assert lines[2].split(maxsplit=1) == ["Options:", "prefix = 'acme'"]
    assert "fts_optim_transform" in lines[3]


def test_show_refuses_what_does_not_load_or_is_not_there(project, refused, plugins):
    assert "licence server" in refused("adapters", "show", "raises")
    assert "Did you mean 'acmenames'" in refused("adapters", "show", "acmename")


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
