"""A name that one process is about to save under is taken for all others, until it has saved."""

import os

import pytest

from phasewire.app.atomic_save import AtomicCheckpointIO
from phasewire.app.name_claims import NameClaims


@pytest.fixture
def ours():
    claims = NameClaims()
    yield claims
    claims.release()


@pytest.fixture
def theirs():
    # Locks are those of the opened file, so that another object stands for another process.
    claims = NameClaims()
    yield claims
    claims.release()


def test_a_name_is_claimed_once(tmp_path, ours, theirs):
    assert ours.claim(tmp_path / "a.ckpt")
    assert ours.claim(tmp_path / "a.ckpt")
    assert not theirs.claim(tmp_path / "a.ckpt")
    assert theirs.claim(tmp_path / "b.ckpt")


def test_a_claim_that_is_given_up_leaves_nothing(tmp_path, ours, theirs):
    ours.claim(tmp_path / "a.ckpt")
    ours.release(tmp_path / "a.ckpt")

    assert list(tmp_path.iterdir()) == []
    assert theirs.claim(tmp_path / "a.ckpt")


def test_saving_leaves_the_claim_on_the_name(tmp_path, ours, theirs):
    ours.claim(tmp_path / "a.ckpt")
    AtomicCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt")

    assert not theirs.claim(tmp_path / "a.ckpt")
    ours.release()
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_claim_of_a_killed_process_holds_nothing_and_the_next_save_removes_it(tmp_path, ours):
    child = os.fork()
    if child == 0:
        NameClaims().claim(tmp_path / "a.ckpt")
        os._exit(0)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1

    AtomicCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
    assert ours.claim(tmp_path / "a.ckpt")


def test_a_folder_that_cannot_be_made_is_for_the_save_to_tell(tmp_path, ours):
    (tmp_path / "file").write_text("no folder")
    assert ours.claim(tmp_path / "file" / "a.ckpt")


def test_addresses_are_claimed_by_nobody(ours, theirs):
    assert ours.claim("memory://a.ckpt")
    assert theirs.claim("memory://a.ckpt")
