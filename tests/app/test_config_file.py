"""YAML in: what is refused and where, environment variables, merging; and files out."""

from __future__ import annotations

import os
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewire.app import ConfigError, ScheduleError
from phasewire.app.config_file import (
    Position,
    dump_yaml,
    load_yaml,
    merge_settings,
    parse_yaml,
    write_new_text,
)

# Surrogates and control characters cannot stand in a YAML file; NaN is not equal to itself.
TEXTS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
PLAIN_DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.integers(2), inner, max_size=4),
    max_leaves=12,
)


# -- reading ---------------------------------------------------------------------------------------------------------


@given(PLAIN_DATA)
def test_plain_data_comes_back_as_it_was_written(values):
    assert parse_yaml(dump_yaml(values)).values == values


def test_a_set_is_written_in_an_order_that_does_not_change_from_process_to_process():
    names = [f"layer{number}" for number in range(30)]
    text = dump_yaml({"frozen": set(names)})
    assert re.findall(r"layer\d+", text) == sorted(names)
    assert parse_yaml(text).values == {"frozen": set(names)}


@given(st.text(max_size=40))
def test_any_text_is_either_read_or_refused_with_a_config_error(text):
    with suppress(ConfigError):
        parse_yaml(text, resolve_env=True)


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=4), st.sampled_from(["k", "1", "true", "'1'"]))
def test_a_key_given_twice_is_refused_at_any_depth(path, key):
    indent = "  " * len(path)
    text = "".join(f"{'  ' * depth}{name}:\n" for depth, name in enumerate(path))
    text += f"{indent}{key}: 1\n{indent}other: 2\n{indent}{key}: 3\n"
    with pytest.raises(ConfigError, match=f"given twice, on line {len(path) + 1} and on line {len(path) + 3}"):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a: 1, a: 2}", "line 1, column 8: The key 'a' is given twice, both times on line 1"),
        ("1: a\ntrue: b", r"line 2, column 1: The key 'true' \(the same key as '1'\) is given twice"),
        ("a: {<<: {x: 1, x: 2}}", "The key 'x' is given twice"),
        ("a: [{b: 1}, {c: {d: 1, d: 2}}]", "The key 'd' is given twice"),
    ],
)
def test_keys_that_become_one_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text)


def test_a_merged_key_may_be_overridden():
    values = parse_yaml("base: &base {lr: 1, steps: 2}\nother: {<<: *base, lr: 3}").values
    assert values["other"] == {"lr": 3, "steps": 2}


@pytest.mark.parametrize("text", ["1e-5", "1.0e-05", "1E-5", "1.e-5", "+1e-5"])
def test_a_number_with_an_exponent_is_a_number(text):
    value = parse_yaml(f"lr: {text}").values["lr"]
    assert isinstance(value, float)
    assert value == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1,\nb", r"line 2, column 2: .*flow sequence that begins on line 1, did not find expected ',' or '\]'"),
        ("a: b: c", "line 1, column 5: .*mapping values are not allowed"),
        ("a:\n\t- 1", "line 2, column 1: .*cannot start any token.*spaces, no tabs"),
        ("--- 1\n--- 2", "line 2, column 1: .*but found another document"),
        ("a: !!python/object:os.path {}", "line 1, column 4: .*could not determine a constructor"),
        ("a: 2024-13-45", "line 1, column 4: '2024-13-45' cannot be read as a timestamp.*quotes"),
        ("? [1]\n: 2", "line 1, column 3: .*unhashable key"),
        ("a: &a [*a]", "line 1, column 4: .*recursive"),
        ("ok: 1\na: \x01", r"line 2: The character '\\x01' is not allowed"),
        ("ok: 1\na: \ud800", "line 2: This is not text that UTF-8 can hold"),
        ("[" * 100_000, "nested more than 100 levels deep"),
        ("- " * 100_000, "nested more than 100 levels deep"),
        ("".join(f"{' ' * depth}-\n" for depth in range(300)), "nested more than 100 levels deep"),
        ("? " * 300, "nested more than 100 levels deep"),
        ("[" * 101 + "]" * 101, "line 1, column 101: .*nested more than 100 levels deep"),
    ],
)
def test_what_is_not_readable_is_refused_with_line_and_column(text, message):
    with pytest.raises(ConfigError, match=message) as refused:
        parse_yaml(text)
    assert refused.value.__cause__ is not None


def test_a_hundred_levels_are_read_and_written():
    text = "[" * 100 + "]" * 100
    values = parse_yaml(text).values
    assert repr(values) == text
    assert parse_yaml(dump_yaml(values)).values == values


def test_an_empty_file_is_an_empty_mapping_and_a_list_is_none():
    assert parse_yaml("# nothing but a comment\n").mapping() == {}
    with pytest.raises(ScheduleError, match=r"line 2: A mapping .* is expected, and this is a list"):
        parse_yaml("\n- 1", error=ScheduleError).mapping()


def test_the_file_and_the_wanted_error_are_named(tmp_path):
    file = tmp_path / "schedule.yaml"
    file.write_text("0:\n  params: [a]\n0: {}\n")
    with pytest.raises(ScheduleError, match=f"^{file}, line 3, column 1: The key '0' is given twice"):
        load_yaml(file, error=ScheduleError)


def test_a_missing_file_is_refused_with_the_nearest_that_exists(tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match=r"confg\.yaml: There is no such file\. Did you mean 'config\.yaml'\?"):
        load_yaml(tmp_path / "confg.yaml")


def test_a_folder_and_a_file_that_is_not_utf8_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="This is a folder"):
        load_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"ok: 1\nname: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml, line 2: This is not UTF-8 text"):
        load_yaml(tmp_path / "latin.yaml")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_refused_with_the_reason(tmp_path):
    file = tmp_path / "secret.yaml"
    file.touch(mode=0o000)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load_yaml(file)


# -- places ----------------------------------------------------------------------------------------------------------


def test_a_value_is_placed_at_its_key_and_an_item_of_a_list_at_itself():
    document = parse_yaml("a:\n  b: [1, {c: 3}]\n0: x\n")
    assert document.position_of(("a", "b")) == Position(2, 3)
    assert document.position_of(("a", "b", 1)) == Position(2, 10)
    assert document.position_of((0,)) == Position(3, 1)
    assert document.position_of(("a", "x")) is None
    assert document.where(("a", "b", 1, "c")) == "line 2, a.b[1].c"


def test_what_is_absent_is_placed_at_the_nearest_thing_around_it():
    assert parse_yaml("a:\n  b: {}\n").where(("a", "b", "x", "y")) == "line 2, a.b.x.y"
    assert parse_yaml("").where(("a",)) == "a"


# -- environment variables -------------------------------------------------------------------------------------------


def test_variables_are_replaced_in_values_only_and_then_typed(monkeypatch):
    monkeypatch.setenv("DEPTH", "2")
    text = (
        "# ${NOT_SET}\nplain: ${DEPTH}\nquoted: '${DEPTH}'\npath: /runs/${DEPTH}/x\n${DEPTH}: key\nlist: ['${NO:4}']\n"
    )
    assert parse_yaml(text, resolve_env=True).values == {
        "plain": 2,
        "quoted": "2",
        "path": "/runs/2/x",
        "${DEPTH}": "key",
        "list": ["4"],
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [("${NO:1e-5}", 1e-5), ("${NO:true}", True), ("${NO:}", None), ("${NO:a:b}", "a:b"), ("$${NO}", "${NO}")],
)
def test_a_default_is_typed_like_any_value(value, expected, monkeypatch):
    monkeypatch.delenv("NO", raising=False)
    assert parse_yaml(f"a: {value}", resolve_env=True).values == {"a": expected}


def test_a_variable_cannot_smuggle_structure_in(monkeypatch):
    monkeypatch.setenv("INJECTED", "1\nb: 2")
    assert parse_yaml("a: ${INJECTED}", resolve_env=True).values == {"a": "1\nb: 2"}


def test_a_variable_that_is_not_set_is_refused_with_its_place(monkeypatch):
    monkeypatch.setenv("PHASEWIRE_TEST_DEPTH", "1")
    with pytest.raises(ConfigError, match=r"line 2, column 4: .*'PHASEWIRE_TEST_DEPHT' is not set.*_DEPTH'\?"):
        parse_yaml("\na: ${PHASEWIRE_TEST_DEPHT}", resolve_env=True)
    with pytest.raises(ConfigError, match=r"'\$\{' that is not followed by the name"):
        parse_yaml("a: ${not a name}", resolve_env=True)


def test_schedules_keep_the_characters():
    assert parse_yaml("a: ${HOME}").values == {"a": "${HOME}"}


def test_a_value_is_replaced_once_however_often_it_is_used(monkeypatch):
    monkeypatch.setenv("DEPTH", "2")
    text = "a: &x $${DEPTH}\nb: *x\nc: [*x, *x]\n&y ${DEPTH}: key\nd: *y\n"
    assert parse_yaml(text, resolve_env=True).values == {
        "a": "${DEPTH}",
        "b": "${DEPTH}",
        "c": ["${DEPTH}", "${DEPTH}"],
        "${DEPTH}": "key",
        "d": 2,
    }


@given(st.dictionaries(TEXTS, st.lists(TEXTS | st.text("$${}:A", max_size=12))))
def test_what_was_written_for_a_configuration_is_read_as_it_was(values):
    assert parse_yaml(dump_yaml(values, escape_env=True), resolve_env=True).values == values


def test_only_values_are_escaped_and_only_when_asked():
    values = {"${A}": ["${B}", {"c": "x$${D}"}, "$E"]}
    assert dump_yaml(values, escape_env=True) == "${A}:\n- $${B}\n- c: x$$${D}\n- $E\n"
    assert parse_yaml(dump_yaml(values)).values == values


@pytest.mark.parametrize(
    "text", ["trainer: {max_epochs: ${EPOCHS:2}}", "a: [1,\n  /runs/${X}]", "a: {b: '${X}', c: $${X}}"]
)
def test_a_variable_inside_brackets_is_refused_with_the_way_to_write_it(text):
    with pytest.raises(ConfigError, match=r"put the key on a line of its own: `max_epochs: \$\{EPOCHS:2\}`") as refused:
        parse_yaml(text, resolve_env=True)
    assert refused.value.where.startswith(f"line {1 + text.count(chr(10))}, ")


@pytest.mark.parametrize("text", ["a: ['${X}'", "a: '${X}' b", "a: [$X {}]"])
def test_other_mistakes_do_not_speak_of_variables(text):
    with pytest.raises(ConfigError, match="Check the indentation") as refused:
        parse_yaml(text, resolve_env=True)
    assert "EPOCHS" not in str(refused.value)


def test_a_schedule_is_not_told_of_variables():
    with pytest.raises(ScheduleError, match="Check the indentation") as refused:
        parse_yaml("a: [${X}]", error=ScheduleError)
    assert "EPOCHS" not in str(refused.value)


# -- merging ---------------------------------------------------------------------------------------------------------


def test_settings_merge_key_by_key_and_neither_is_changed():
    base = {"scheduler": {"max_depth": 1, "restore_best": False}, "seed_everything": 1}
    over = {"scheduler": {"max_depth": 2}}
    assert merge_settings(base, over) == {
        "scheduler": {"max_depth": 2, "restore_best": False},
        "seed_everything": 1,
    }
    assert base["scheduler"]["max_depth"] == 1
    assert over == {"scheduler": {"max_depth": 2}}


@pytest.mark.parametrize("key", ["ft_schedule", "custom_strategy_adapters", "strategy_adapter_cfg", "reinit_lr_cfg"])
def test_some_settings_are_replaced_whole(key):
    assert merge_settings({"scheduler": {key: {"a": 1}}}, {"scheduler": {key: {"b": 2}}}) == {
        "scheduler": {key: {"b": 2}}
    }


def test_arguments_stay_with_their_class():
    base = {"model": {"class_path": "a.A", "init_args": {"x": 1, "y": 2}}}
    assert merge_settings(base, {"model": {"init_args": {"x": 3}}})["model"]["init_args"] == {"x": 3, "y": 2}
    assert merge_settings(base, {"model": {"class_path": "a.A", "init_args": {"x": 3}}})["model"] == {
        "class_path": "a.A",
        "init_args": {"x": 3, "y": 2},
    }
    assert merge_settings(base, {"model": {"class_path": "b.B"}})["model"] == {"class_path": "b.B"}


# -- files out -------------------------------------------------------------------------------------------------------


def test_a_file_that_says_something_else_is_never_overwritten(tmp_path):
    first = write_new_text(tmp_path / "new" / "schedule.yaml", "a: 1\n")
    assert first == tmp_path / "new" / "schedule.yaml"
    assert write_new_text(first, "a: 2\n") == tmp_path / "new" / "schedule_1.yaml"
    assert write_new_text(first, "a: 3\n") == tmp_path / "new" / "schedule_2.yaml"
    assert [file.read_text() for file in sorted(first.parent.iterdir())] == ["a: 1\n", "a: 2\n", "a: 3\n"]


def test_a_file_that_says_the_same_is_reused(tmp_path):
    wanted = tmp_path / "schedule.yaml"
    write_new_text(wanted, "a: 1\n")
    write_new_text(wanted, "a: 2\n")
    assert write_new_text(wanted, "a: 1\n") == wanted
    assert write_new_text(wanted, "a: 2\n") == tmp_path / "schedule_1.yaml"
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_in_the_way_is_gone_round(tmp_path):
    write_new_text(tmp_path / "schedule.yaml", "a: 0\n")
    (tmp_path / "schedule_1.yaml").mkdir()
    assert write_new_text(tmp_path / "schedule.yaml", "a: 1\n").name == "schedule_2.yaml"
    (tmp_path / "link.yaml").symlink_to(tmp_path / "nowhere")
    assert write_new_text(tmp_path / "link.yaml", "a: 1\n").name == "link_1.yaml"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("folder", ["", ".", "..", "sub", "sub/"])
def test_a_folder_is_refused_where_a_file_is_to_be_written(folder, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScheduleError, match=r"This is a folder\. Name a file in it\."):
        write_new_text(folder, "a: 1\n", error=ScheduleError)
    assert [entry.name for entry in tmp_path.rglob("*")] == ["sub"]


def test_a_place_that_cannot_be_written_to_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ScheduleError, match="cannot be written"):
        write_new_text(tmp_path / "file" / "schedule.yaml", "a: 1\n", error=ScheduleError)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
