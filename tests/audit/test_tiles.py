from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.tiles import tile_path

from audit import BrokenJournalError, Journal, verify
from audit.entry import line
from audit.merkle import inclusion_proof, leaf_hash
from audit.tiles import Follower, TileFolder, decode_bundle, encode_bundle
from audit.verify import log_folder, tile_name, tiles_of
from tests.support.rfc6962 import naive_root
from tests.support.signed_logs import LogSigner

AT = "2026-05-01T08:30:00.000000Z"


def entries(size: int) -> list[bytes]:
    return [line(number, AT, b"{}") for number in range(size)]


def written(path: Path, size: int) -> Path:
    path.write_bytes(b"".join(each + b"\n" for each in entries(size)))
    return path


def files(path: Path) -> set[str]:
    folder = log_folder(path)
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("index", [0, 5, 255, 999, 1000, 1_234_067, 10**9])
@pytest.mark.parametrize("width", [1, 255, 256])
def test_names_of_tiles_are_those_of_an_independent_implementation(index: int, width: int) -> None:
    assert tile_name(3, index, width) == "/".join(tile_path(3, index, width % 256))
    assert tile_name("entries", index, width) == "/".join(tile_path(-1, index, width % 256))


def test_a_tree_has_the_tiles_of_the_example_of_the_specification() -> None:
    found = list(tiles_of(70_000))
    assert [tile for tile in found if tile[0] == 0] == [(0, number, 256) for number in range(273)] + [(0, 273, 112)]
    assert [tile for tile in found if tile[0] not in ("entries", 0)] == [(1, 0, 256), (1, 1, 17), (2, 0, 1)]
    assert list(tiles_of(256)) == [("entries", 0, 256), (0, 0, 256), (1, 0, 1)]
    assert list(tiles_of(0)) == []


def test_a_bundle_holds_each_entry_after_its_length() -> None:
    assert encode_bundle([b"", b"ab", b"x" * 65_535]) == b"\x00\x00\x00\x02ab\xff\xff" + b"x" * 65_535
    assert decode_bundle(encode_bundle([b"", b"ab"])) == [b"", b"ab"]


@pytest.mark.parametrize("cut", [b"\x00", b"\x00\x03ab", b"\x00\x00\x00"])
def test_a_bundle_that_was_cut_is_none(cut: bytes) -> None:
    with pytest.raises(ValueError, match="ends inside"):
        decode_bundle(cut)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600])
def test_the_tiles_of_a_tree_are_written_and_nothing_else(path: Path, size: int) -> None:
    follower = Follower(written(path, size))
    follower.write_partials(size)
    assert files(path) == {tile_name(*tile) for tile in tiles_of(size)}


def test_tiles_above_the_first_two_levels(path: Path) -> None:
    """65,537 entries: a full tile of level 1, one hash at level 2."""
    size = 65_537
    follower = Follower(written(path, size))
    follower.write_partials(size)
    assert {"tile/1/000", "tile/2/000.p/1", "tile/0/256.p/1", "tile/0/255"} < files(path)
    reader = TilesReader(LocalBackend(log_folder(path)))
    reader.set_size(size)
    root = reader.calculate_root_hash()
    proof = inclusion_proof(65_535, size, follower.node)
    assert proof == reader.get_inclusion_proof(65_535, size).node_hashes
    reader.get_inclusion_proof(65_535, size).check(leaf_hash(entries(size)[65_535]), root)


def test_a_follower_that_comes_and_goes_writes_what_one_that_stays_does(path: Path, tmp_path: Path) -> None:
    written(path, 700)
    for size in (1, 200, 256, 300, 511, 512, 513, 700):
        Follower(path).write_partials(size)
    steady = Follower(written(tmp_path / "steady.jsonl", 700))
    for size in (100, 600, 700):
        steady.write_partials(size)
    for tile in tiles_of(700):
        name = tile_name(*tile)
        assert (log_folder(path) / name).read_bytes() == (log_folder(tmp_path / "steady.jsonl") / name).read_bytes()


def test_partial_tiles_go_when_the_full_one_is_there(path: Path) -> None:
    follower = Follower(written(path, 300))
    follower.write_partials(200)
    assert files(path) == {"tile/0/000.p/200", "tile/entries/000.p/200"}
    follower.follow(300)
    assert files(path) == {"tile/0/000", "tile/entries/000"}


def test_partial_tiles_of_an_earlier_size_can_still_be_written(path: Path) -> None:
    follower = Follower(written(path, 300))
    follower.follow(300)
    follower.write_partials(270)
    assert files(path) >= {tile_name(*tile) for tile in tiles_of(270)}


def test_what_could_not_be_written_is_written_later(path: Path) -> None:
    follower = Follower(written(path, 600))
    log_folder(path).write_bytes(b"in the way")
    for _ in range(2):
        with pytest.raises(OSError, match="operations"):
            follower.follow(600)
    log_folder(path).unlink()
    follower.write_partials(600)
    assert files(path) == {tile_name(*tile) for tile in tiles_of(600)}


def test_an_altered_tile_is_not_written_over(path: Path) -> None:
    Follower(written(path, 300)).follow(300)
    tile = log_folder(path) / "tile/0/000"
    tile.write_bytes(bytes(8192))
    with pytest.raises(BrokenJournalError, match="entry 0: tile-altered"):
        Follower(path).follow(300)
    assert tile.read_bytes() == bytes(8192)


def test_entries_and_nodes_are_read_from_the_files_of_a_checkpoint(published: Path) -> None:
    lines = published.read_bytes().splitlines()
    folder = TileFolder.of(published)
    assert [folder.entry(index, 600) for index in (0, 255, 256, 599)] == [lines[n] for n in (0, 255, 256, 599)]
    assert folder.node(3, 74, 600) == naive_root(lines[592:600])
    assert folder.node(9, 0, 600) == naive_root(lines[:512])


@pytest.mark.parametrize(("name", "reason"), [("tile/0/001", "tile-altered"), ("tile/entries/001", "tile-altered")])
def test_a_file_that_is_no_tile_is_not_read(signed: Path, name: str, reason: str) -> None:
    folder, file = TileFolder.of(signed), log_folder(signed) / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BrokenJournalError, match=reason):
        folder.node(0, 511, 600)
        folder.entry(511, 600)
    file.unlink()
    with pytest.raises(BrokenJournalError, match="tile-missing"):
        folder.node(0, 511, 600)
        folder.entry(511, 600)


def test_only_the_owner_may_read_them(published: Path) -> None:
    folder = log_folder(published)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.rglob("*") if file.is_file()} == {0o600}


def test_an_independent_client_reads_the_log(published: Path, signer: LogSigner) -> None:
    """tlog-scales knows nothing of us: it finds checkpoint, tiles and bundles by the names of the specification."""
    lines = published.read_bytes().splitlines()
    reader = TilesReader(LocalBackend(log_folder(published)))
    checkpoint = reader.get_checkpoint()
    assert (checkpoint.origin, checkpoint.size) == (signer.key.name, 600)
    assert checkpoint.root_hash == reader.calculate_root_hash() == naive_root(lines)
    for index in (0, 255, 256, 300, 511, 512, 599):
        assert reader.get_entry(index) == lines[index]
        reader.get_inclusion_proof(index, 600).check(leaf_hash(lines[index]), checkpoint.root_hash)


def test_it_makes_the_same_proofs(published: Path, tmp_path: Path) -> None:
    reader = TilesReader(LocalBackend(log_folder(published)))
    reader.get_checkpoint()
    copy = tmp_path / published.name
    copy.write_bytes(published.read_bytes())
    copy.with_suffix(".head").write_bytes(published.with_suffix(".head").read_bytes())
    (tmp_path / "operations.log").mkdir()
    (tmp_path / "operations.log/checkpoint").write_bytes((log_folder(published) / "checkpoint").read_bytes())
    with Journal.open(copy) as journal:
        for size in (1, 2, 3, 255, 256, 257, 511, 512, 513, 599, 600):
            assert journal.inclusion_proof(size - 1, size) == reader.get_inclusion_proof(size - 1, size).node_hashes
            assert journal.inclusion_proof(size // 2, size) == reader.get_inclusion_proof(size // 2, size).node_hashes
            assert journal.consistency_proof(size, 600) == reader.get_consistency_proof(size, 600).node_hashes
    assert verify(copy).head.size == 600
