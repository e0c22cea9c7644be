from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from audit import BrokenJournalError, Head, Journal, read, verify
from audit.entry import MAX_LINE, encode
from audit.verify import head_path

Lines = list[bytes]
Change = Callable[[Callable[[Lines], Lines]], Path]


def test_a_whole_journal_verifies_and_reads_back(written: Path) -> None:
    found = verify(written)
    assert (found.head.count, found.torn, found.length) == (5, b"", written.stat().st_size)
    assert [entry.entry["key"] for entry in read(written)] == [f"key-{number}" for number in range(5)]


def test_any_changed_bit_of_any_byte_is_found(written: Path) -> None:
    whole = written.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 7
        written.write_bytes(damaged)
        with pytest.raises(BrokenJournalError):
            verify(written)


@pytest.mark.parametrize("number", range(5))
def test_a_deleted_entry_is_found(change: Change, number: int) -> None:
    path = change(lambda lines: lines[:number] + lines[number + 1 :])
    with pytest.raises(BrokenJournalError) as caught:
        verify(path)
    assert caught.value.index == number


@pytest.mark.parametrize("number", range(4))
def test_two_swapped_entries_are_found(change: Change, number: int) -> None:
    path = change(lambda lines: [*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]])
    with pytest.raises(BrokenJournalError) as caught:
        verify(path)
    assert (caught.value.index, caught.value.reason) == (number, "bad-index")


def test_an_entry_written_twice_is_found(change: Change) -> None:
    path = change(lambda lines: [*lines[:2], lines[1], *lines[2:]])
    with pytest.raises(BrokenJournalError, match="entry 2: bad-index"):
        verify(path)


def test_a_forged_entry_with_its_own_right_hash_breaks_the_chain_after_it(change: Change) -> None:
    def forge(lines: Lines) -> Lines:
        genuine = list(read(path))
        forged, _ = encode(2, genuine[2].at, {"operation": "nothing happened"}, genuine[2].prev)
        return [*lines[:2], forged + b"\n", *lines[3:]]

    path = change(lambda lines: lines)
    change(forge)
    with pytest.raises(BrokenJournalError) as caught:
        verify(path)
    assert (caught.value.index, caught.value.reason) == (3, "bad-chain")


def test_a_forged_last_entry_is_found_by_the_head(change: Change) -> None:
    def forge(lines: Lines) -> Lines:
        last = list(read(path))[-1]
        forged, _ = encode(4, last.at, {"operation": "nothing happened"}, last.prev)
        return [*lines[:4], forged + b"\n"]

    path = change(lambda lines: lines)
    change(forge)
    with pytest.raises(BrokenJournalError) as caught:
        verify(path)
    assert (caught.value.index, caught.value.reason) == (4, "head-mismatch")


def test_a_cut_tail_is_found_by_the_head_beside_the_log(change: Change) -> None:
    path = change(lambda lines: lines[:3])
    with pytest.raises(BrokenJournalError) as caught:
        verify(path)
    assert (caught.value.index, caught.value.reason) == (3, "cut-tail")


def test_a_tail_cut_inside_an_acknowledged_entry_is_not_taken_for_a_torn_one(change: Change) -> None:
    path = change(lambda lines: [*lines[:4], lines[4][:20]])
    with pytest.raises(BrokenJournalError, match="cut-tail"):
        verify(path)


def test_a_head_noted_elsewhere_finds_a_tail_that_was_cut_together_with_the_head_beside(written: Path) -> None:
    witnessed = verify(written).head
    lines = written.read_bytes().splitlines(keepends=True)
    written.write_bytes(b"".join(lines[:3]))
    third = list(read(written))[-1]
    head_path(written).write_bytes(Head(3, third.hash).encode())
    assert verify(written).head.count == 3
    with pytest.raises(BrokenJournalError, match="cut-tail"):
        verify(written, witnessed=witnessed)


def test_a_journal_that_grew_since_it_was_witnessed_verifies(written: Path) -> None:
    witnessed = verify(written).head
    with Journal.open(written) as journal:
        journal.append({"operation": "sign"})
    assert verify(written, witnessed=witnessed).head.count == 6


def test_a_missing_journal_is_no_empty_journal(tmp_path: Path) -> None:
    with pytest.raises(BrokenJournalError, match="journal-missing"):
        verify(tmp_path / "none.jsonl")


@pytest.mark.parametrize("record", [b"", b"0\n", b"x" * 86, b"5".zfill(20) + b" " + b"\n"])
def test_a_damaged_head_is_not_ignored(written: Path, record: bytes) -> None:
    head_path(written).write_bytes(record)
    with pytest.raises(BrokenJournalError, match="head-unreadable"):
        verify(written)


def test_bytes_longer_than_any_entry_are_not_taken_for_a_torn_line(written: Path) -> None:
    with written.open("ab") as file:
        file.write(b"x" * (MAX_LINE + 1))
    with pytest.raises(BrokenJournalError, match="entry 5: too-long"):
        verify(written)


def test_reading_stops_with_an_error_at_the_first_wrong_entry(change: Change) -> None:
    path = change(lambda lines: [lines[0], lines[1].replace(b"key-1", b"key-9"), *lines[2:]])
    entries = read(path)
    assert next(entries).entry["key"] == "key-0"
    with pytest.raises(BrokenJournalError, match="entry 1: bad-hash"):
        next(entries)


def test_reading_gives_no_unfinished_line(written: Path) -> None:
    with written.open("ab") as file:
        file.write(b'{"at":"2026')
    assert len(list(read(written))) == 5
    assert verify(written).torn == b'{"at":"2026'
