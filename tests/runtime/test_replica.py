"""The name of a replica: the same after a restart, its own beside another journal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.replica import replica_name


def test_a_name_is_drawn_once_and_kept(tmp_path: Path) -> None:
    name = replica_name(tmp_path / "one" / "ra.replica", os.urandom)
    assert replica_name(tmp_path / "one" / "ra.replica", os.urandom) == name
    assert replica_name(tmp_path / "two" / "ra.replica", os.urandom) != name


def test_what_is_no_name_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "ra.replica").write_text("")
    with pytest.raises(ValueError, match=r"ra\.replica"):
        replica_name(tmp_path / "ra.replica", os.urandom)
