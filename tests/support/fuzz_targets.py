"""What is fuzzed: each target takes bytes of any kind and lets nothing pass but errors of Phasewire."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from phasewire.adapters.errors import PhasewireError, ScheduleError
from phasewire.adapters.name_patterns import name_pattern
from phasewire.app import AdapterResolver, DiscoveryService, ScheduleValidator
from phasewire.app.class_path import import_attribute
from phasewire.app.config_file import dump_yaml, parse_yaml
from phasewire.app.plugin_record import PluginRecord
from phasewire.app.schedule.files import dump_schedule, load_schedule
from phasewire.app.settings_reader import SettingsReader, with_file
from phasewire.app.tensor_files import open_tensors
from phasewire.app.trust import TrustPolicy

__all__ = ["TARGETS"]

NAMES = ("layers.0.weight", "layers.0.bias", "layers.10.weight", "head.weight", "model.encoder.layer.11.attn.w")
#: Modules that a reference may import: importing whatever a fuzzer makes up would run what is installed.
HARMLESS = frozenset({"json", "math", "phasewire"})


def yaml_text(data: bytes) -> None:
    """What is read can be written, and then reads the same."""
    written = dump_yaml(parse_yaml(data.decode("utf-8", "replace")).values)
    assert dump_yaml(parse_yaml(written).values) == written


def schedule_file(data: bytes) -> None:
    """What is read can be validated or refused, and written."""
    with _file_of(data) as path:
        schedule = load_schedule(path)
        dump_schedule(schedule)
        ScheduleValidator().validate(schedule, dict.fromkeys(NAMES))


def config_file(data: bytes) -> None:
    """What is read as a file is settings, or is refused when it is asked for as such."""
    with _file_of(data) as path:
        SettingsReader().read(with_file(None, path))


def reference(data: bytes) -> None:
    """A text names something, or is refused; a module is imported only where it does no harm."""
    text = data.decode("utf-8", "replace")
    record = AdapterResolver().record_of(text, where="the fuzzer")
    TrustPolicy(deny=("json",), allow_paths=("math",)).refusal_of_path(text)
    root = text.partition(":")[0].partition(".")[0].strip()
    if root in HARMLESS or not (root.isidentifier() and importlib.util.find_spec(root)):
        PluginRecord(name=record.name, value=record.value).imported("the fuzzer")
        import_attribute(text)


def pattern(data: bytes) -> None:
    """A pattern matches names, is refused, or is given up."""
    compiled = name_pattern(
        data.decode("utf-8", "replace"), error=ScheduleError, where=lambda: "the fuzzer", for_a_name=0.05
    )
    for name in NAMES:
        compiled.match(name)


def entry_points(data: bytes) -> None:
    """The metadata of any distribution can be listed; what is wrong with it is a warning."""
    with TemporaryDirectory() as folder, _on_the_path(folder):
        info = Path(folder, "fuzzed-1.0.dist-info")
        info.mkdir()
        text, _, metadata = data.partition(b"\n===\n")
        info.joinpath("entry_points.txt").write_bytes(text)
        info.joinpath("METADATA").write_bytes(metadata or b"Metadata-Version: 2.1\nName: fuzzed\nVersion: 1.0\n")
        discovery = DiscoveryService()
        for record in discovery.records():
            assert record.description
        assert discovery.find("fsdp").native


def tensor_file(data: bytes) -> None:
    """A file is read, or is no file of tensors."""
    with _file_of(data) as path:
        open_tensors(path)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (yaml_text, schedule_file, config_file, reference, pattern, entry_points, tensor_file)
}


def run(target: str, data: bytes) -> None:
    """Give bytes to a target; whatever it raises that is no error of ours passes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(PhasewireError):
            TARGETS[target](data)


@contextmanager
def _file_of(data: bytes) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        path = Path(folder, "fuzzed.yaml")
        path.write_bytes(data)
        yield path


@contextmanager
def _on_the_path(folder: str) -> Iterator[None]:

    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)
