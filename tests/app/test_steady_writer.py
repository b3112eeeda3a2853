"""What is large is written in pieces, whole, and the disk is told of every byte as it comes."""

from __future__ import annotations

import io
import os
import sys

import pytest

from phasewire.app import steady_writer
from phasewire.app.steady_writer import SteadyWriter

DATA = bytes(range(256)) * 40


@pytest.fixture
def told(monkeypatch):
    """Small sizes; and what the disk is told to begin with."""
    monkeypatch.setattr(steady_writer, "_PIECE_BYTES", 1000)
    monkeypatch.setattr(steady_writer, "_BEGUN_BYTES", 3000)
    told = []
    monkeypatch.setattr(steady_writer, "_begin_to_store", lambda file, place, length: told.append((place, length)))
    return told


def test_bytes_are_written_after_what_the_file_has_buffered_and_at_their_places(told, tmp_path):
    with (tmp_path / "file").open("xb") as file:
        file.write(b"head")
        writer = SteadyWriter(file)
        writer.write(memoryview(DATA))
        writer.write_at(20_000, memoryview(b"tail"))
        writer.write(memoryview(b""))
    written = (tmp_path / "file").read_bytes()
    assert written == b"head" + DATA + bytes(20_000 - 4 - len(DATA)) + b"tail"


def test_the_disk_is_told_of_every_byte_once(told, tmp_path):
    with (tmp_path / "file").open("xb") as file:
        writer = SteadyWriter(file)
        writer.write(memoryview(DATA))
        writer.write_at(50_000, memoryview(b"tail"))
    assert told == [(0, 3000), (3000, 3000), (6000, 3000), (9000, len(DATA) - 9000), (50_000, 4)]


def test_a_system_that_takes_less_than_it_is_given_gets_the_rest_again(told, tmp_path, monkeypatch):
    sizes = []

    class Slow(io.FileIO):
        def write(self, data):
            sizes.append(len(data))
            return super().write(data[:300])

    with io.BufferedWriter(Slow(tmp_path / "file", "x")) as file:
        SteadyWriter(file).write(memoryview(DATA))
    assert (tmp_path / "file").read_bytes() == DATA
    assert max(sizes) == 1000
    assert sum(length for _, length in told) == len(DATA)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such call")
def test_the_system_is_asked_to_store_what_is_written(tmp_path, monkeypatch):
    asked = []
    original = os.posix_fadvise
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: asked.append(arguments[1:]) or original(*arguments))
    with (tmp_path / "file").open("xb") as file:
        SteadyWriter(file).write(memoryview(DATA))
    assert asked == [(0, len(DATA), os.POSIX_FADV_DONTNEED)]
