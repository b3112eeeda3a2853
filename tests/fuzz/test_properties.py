"""Whatever the bytes, the readers give a valid object or one error of ours, and leave what they were given as it was.

``HYPOTHESIS_PROFILE=thorough`` tries many more.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.strategies import SingleDeviceStrategy

from fuzz_targets import NAMES, run
from phasewire.adapters import StrategyAdapter
from phasewire.adapters.errors import PhasewireError
from phasewire.app import AdapterResolver, DiscoveryService, Schedule, ScheduleValidator, Settings
from phasewire.app.settings import SchedulerSettings
from phasewire.app.settings_reader import SettingsReader

SEEDS = Path(__file__).with_name("seeds")
TOKENS = [
    *(
        token.encode()
        for token in ("0:", "-1:", "1e5:", "params:", "lr:", "scheduler:", "<<:", "class_path:", "${A:", "}")
    ),
    *(
        token.encode()
        for token in ("- ", "\n  ", "\t", "#", "&a ", "*a", "!!set ", "!!binary ", "? ", "|", "'", '"', "[", "{")
    ),
    *(token.encode() for token in (".nan", ".inf", "1e400", "0x" + "f" * 9, "2001-01-01", "1:59:59", "~", "layers.[0")),
    *(b"\0", b"\xff", b"\xef\xbb\xbf", "\u2028".encode(), b"\xff\xfe", b"---\n", b"%YAML 9.9\n"),
]
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.dates()),
    st.sampled_from([math.inf, 2**70, -1, 1e-5, "1e-5", ".*", "layers.*", "head.weight", "../x", "x\0y", b"x"]),
)
FIELDS = (
    *(
        "params",
        "lr",
        "max_transition_epoch",
        "new_optimizer",
        "optimizer_init",
        "new_lr_scheduler",
        "lr_scheduler_init",
    ),
    *("pl_lrs_cfg", "init_pg_lrs", "class_path", "init_args", "transition_criteria"),
)
SECTIONS = (*Settings.model_fields, *SchedulerSettings.model_fields, "group", "enabled", "allow", "deny", "allow_paths")


def trees(keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values in mappings and lists; half of the keys are those that readers look for."""
    return st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | SCALARS, inner, max_size=4),
        max_leaves=8,
    )


SCHEDULES = st.dictionaries(
    st.sampled_from([0, 1, 2, "0", 5, -1]) | SCALARS,
    st.dictionaries(st.sampled_from(FIELDS), trees(st.sampled_from(FIELDS)), max_size=4)
    | trees(st.sampled_from(FIELDS)),
    max_size=4,
)
CONFIGURATIONS = st.dictionaries(st.sampled_from(SECTIONS[:6]), trees(st.sampled_from(SECTIONS)), max_size=4)


def spliced(content: bytes, place: float, removed: int, inserted: list[bytes]) -> bytes:
    at = int(place * len(content))
    return content[:at] + b"".join(inserted) + content[at + removed :]


def files_like(target: str, documents: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[bytes]:
    """Any bytes, and files that are nearly right: seeds of the fuzzer and documents, changed in one place."""
    right = st.sampled_from([path.read_bytes() for path in sorted(SEEDS.joinpath(target).iterdir())])
    if documents is not None:
        right |= documents.map(
            lambda values: yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass")
        )
    inserted = st.lists(st.sampled_from(TOKENS) | st.binary(max_size=4), max_size=3)
    nearly = st.builds(spliced, right, st.floats(0, 1), st.integers(0, 12), inserted)
    return st.one_of(
        right, nearly, nearly, st.binary(max_size=80), st.text(max_size=60).map(lambda text: text.encode())
    )


def read_or_refuse(read: Callable[..., object], *arguments: object) -> object:
    """Read; an error of ours gives ``None``, and neither changes what was given."""
    before = repr(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(*arguments)
    except PhasewireError:
        return None
    finally:
        assert repr(arguments) == before


@given(files_like("schedule_file", SCHEDULES))
def test_a_file_of_a_schedule(data) -> None:
    run("schedule_file", data)


@given(SCHEDULES | trees(st.sampled_from(FIELDS)))
def test_a_schedule_in_code(content) -> None:
    schedule = read_or_refuse(Schedule.from_mapping, content)
    if schedule is not None:
        assert Schedule.from_mapping(schedule.to_dict()) == schedule
        read_or_refuse(ScheduleValidator().validate, schedule, dict.fromkeys(NAMES))


@given(files_like("config_file", CONFIGURATIONS))
def test_a_file_of_a_configuration(data) -> None:
    run("config_file", data)


@given(CONFIGURATIONS | trees(st.sampled_from(SECTIONS)))
def test_a_configuration_in_code(values) -> None:
    settings = read_or_refuse(SettingsReader().read, values)
    assert settings is None or isinstance(settings, Settings)


# -- mappings, references and the metadata of distributions ------------------------------------------------------------

#: What references are made of; whatever is put together from these, no module is imported that does harm.
PARTS = (
    *("fsdp", "transformerbridge", "FSDP", "fuzzed", "phasewire", "adapters", "StrategyAdapter", "json", "math", "pi"),
    *("@", "@fuzzed", "@Phasewire", ":", ".", "..", "[x]", " ", "", "\0", "\u0130", "é"),
    *("phasewire.adapters:StrategyAdapter", "phasewire.adapters.base.StrategyAdapter", "json:decoder.JSONDecoder"),
)
REFERENCES = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)
FLAGS = st.sampled_from(["auto", "AUTO", "single_device", "ddp", "fsdp", "Single_Device"]) | REFERENCES
MAPPINGS = st.dictionaries(FLAGS, REFERENCES | st.sampled_from([StrategyAdapter, int]), max_size=3)
WRONG_MAPPINGS = st.dictionaries(FLAGS | SCALARS, REFERENCES | trees(FLAGS), max_size=3)
HEADER = b"Metadata-Version: 2.1\nName: Fuzzed\nVersion: 1.0\n"
GROUP = DiscoveryService.default_group
LINES = st.one_of(
    st.builds("{} = {}".format, REFERENCES, REFERENCES),
    st.sampled_from(
        [f"[{GROUP}]", f"[{GROUP}", "[other]", "=", "x =", "= x:y", "fsdp = json:loads", "; x", "a\tb\r", "[]"]
    ),
    st.text(max_size=12),
)
ENTRY_POINTS = st.builds(
    lambda lines, place, inserted: spliced("\n".join(lines).encode(), place, 0, inserted),
    st.lists(LINES, max_size=6).map(lambda lines: [f"[{GROUP}]", *lines]) | st.lists(LINES, max_size=4),
    st.floats(0, 1),
    st.lists(st.binary(max_size=2), max_size=1),
)


@contextmanager
def only_installed(folder: str) -> Iterator[None]:
    """Let nothing be installed but what lies in a folder: to look through hundreds of distributions takes its time."""
    path = sys.path
    sys.path = [folder]
    try:
        yield
    finally:
        sys.path = path


@pytest.fixture(scope="module")
def resolver(tmp_path_factory) -> Iterator[AdapterResolver]:
    """Knows the native adapters, and those of one distribution, of which one has the name of a native one."""
    folder = tmp_path_factory.mktemp("installed")
    info = folder / "fuzzed-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_bytes(HEADER)
    info.joinpath("entry_points.txt").write_text(f"[{GROUP}]\nfsdp = json:loads\nfuzzed = phasewire.adapters:Gone\n")
    with only_installed(str(folder)):
        yield AdapterResolver()


@given(REFERENCES | st.text(max_size=20))
def test_a_reference(resolver, text) -> None:
    record = read_or_refuse(lambda given: resolver.record_of(given, where="here"), text)
    assert record is None or record.description


@given(MAPPINGS)
def test_a_mapping(resolver, mapping) -> None:
    """What it names is imported; it is an adapter, or refused."""
    strategy = SingleDeviceStrategy()
    record = read_or_refuse(lambda given: resolver.resolve(strategy, custom_strategy_adapters=given), mapping)
    assert record is None or isinstance(record(), StrategyAdapter)


@given(WRONG_MAPPINGS)
def test_a_mapping_of_anything(resolver, mapping) -> None:
    read_or_refuse(lambda given: resolver.planned(given, strategy="ddp", devices=2), mapping)
    settings = read_or_refuse(lambda given: SchedulerSettings.checked(custom_strategy_adapters=given), mapping)
    assert settings is None or dict(settings.custom_strategy_adapters) == mapping


@given(ENTRY_POINTS, st.just(HEADER) | st.binary(max_size=20) | st.just(b"Name: x\nName: \xff\n"))
def test_the_metadata_of_a_distribution(entry_points, metadata) -> None:
    """Whatever one distribution says, the others can be listed and used."""
    with TemporaryDirectory() as folder, only_installed(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        info = Path(folder, "fuzzed-1.0.dist-info")
        info.mkdir()
        info.joinpath("entry_points.txt").write_bytes(entry_points)
        info.joinpath("METADATA").write_bytes(metadata)
        discovery = DiscoveryService()
        assert all(record.description for record in discovery.records())
        assert discovery.find("fsdp").native
        for name in discovery.names():
            assert discovery.find(name).name == name
