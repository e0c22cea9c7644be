"""Files that are either as they were or whole, for their owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from storefront.files import make_folder, write_whole


def test_a_file_and_its_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_whole(tmp_path / "a" / "b" / "c", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "a" / "b" / "c").stat().st_mode) == 0o600
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"long content")
    with path.open("rb") as old:
        write_whole(path, b"new")
        assert old.read() == b"long content"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "file.new").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic"):
        write_whole(tmp_path / "file", b"content")
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o750)
    make_folder(tmp_path / "there" / "new")
    assert stat.S_IMODE((tmp_path / "there").stat().st_mode) == 0o750
