from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import audit
from audit import AuditError, BrokenJournalError, Journal, TreeHead, read, verify
from audit.checkpoint import Checkpoint
from audit.entry import encode, line
from audit.merkle import leaf_hash, merkle_tree_hash
from audit.note import Note
from audit.verify import MAX_LINE, HeadRecord, head_path, log_folder, read_head, tile_name, tiles_of
from tests.support.signed_logs import LogSigner

Lines = list[bytes]
Change = Callable[[Callable[[Lines], Lines]], Path]
FORGED = encode({"operation": "nothing happened"})


def tree_of(lines: Lines) -> TreeHead:
    return TreeHead(len(lines), merkle_tree_hash([leaf_hash(each[:-1]) for each in lines]))


def test_a_whole_journal_verifies_and_reads_back(written: Path) -> None:
    found = verify(written)
    assert found.head == tree_of(written.read_bytes().splitlines(keepends=True))
    assert (found.head.size, found.torn, found.length) == (5, b"", written.stat().st_size)
    assert [entry.entry["key"] for entry in read(written)] == [f"key-{number}" for number in range(5)]


def test_a_log_with_a_checkpoint_verifies(published: Path) -> None:
    found = verify(published)
    assert found.head.size == 600
    assert found.checkpoint == found.head


def test_any_changed_bit_of_any_byte_is_found(written: Path) -> None:
    whole = written.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 7
        written.write_bytes(damaged)
        with pytest.raises(BrokenJournalError):
            verify(written)


@pytest.mark.parametrize("number", range(4))
def test_a_deleted_entry_is_found(change: Change, number: int) -> None:
    path = change(lambda lines: lines[:number] + lines[number + 1 :])
    with pytest.raises(BrokenJournalError) as caught:
        verify(path)
    assert (caught.value.index, caught.value.reason) == (number, "bad-index")


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


@pytest.mark.parametrize("number", range(5))
def test_a_forged_entry_is_found_by_the_head_and_located_by_the_tiles(change: Change, number: int) -> None:
    def forge(lines: Lines) -> Lines:
        forged = line(number, "2026-05-01T08:30:00.000000Z", FORGED)
        return [*lines[:number], forged + b"\n", *lines[number + 1 :]]

    path = change(forge)
    with pytest.raises(BrokenJournalError) as caught:
        verify(path)
    assert (caught.value.index, caught.value.reason) == (number, "head-mismatch")
    shutil.rmtree(log_folder(path))
    with pytest.raises(BrokenJournalError, match="entry 0: head-mismatch"):
        verify(path)


def test_a_cut_tail_is_found_by_the_head_beside_the_log(change: Change) -> None:
    path = change(lambda lines: lines[:3])
    with pytest.raises(BrokenJournalError) as caught:
        verify(path)
    assert (caught.value.index, caught.value.reason) == (3, "cut-tail")


def test_a_tail_cut_inside_an_acknowledged_entry_is_not_taken_for_a_torn_one(change: Change) -> None:
    path = change(lambda lines: [*lines[:4], lines[4][:20]])
    with pytest.raises(BrokenJournalError, match="cut-tail"):
        verify(path)


def test_a_tree_noted_elsewhere_finds_a_tail_that_was_cut_together_with_all_that_is_beside_it(change: Change) -> None:
    path = change(lambda lines: lines)
    witnessed = verify(path).head
    change(lambda lines: lines[:3])
    shutil.rmtree(log_folder(path))
    head_path(path).write_bytes(HeadRecord(tree_of(path.read_bytes().splitlines(keepends=True)), 0).encode())
    assert verify(path).head.size == 3
    with pytest.raises(BrokenJournalError, match="cut-tail"):
        verify(path, witnessed=witnessed)


def test_a_log_that_was_rewritten_with_all_that_is_beside_it_does_not_extend_the_tree_noted_elsewhere(
    written: Path,
) -> None:
    witnessed = verify(written).head
    for file in (written, head_path(written)):
        file.unlink()
    shutil.rmtree(log_folder(written))
    with Journal.open(written) as journal:
        for number in range(6):
            journal.append({"operation": "verify", "uses": number})
    assert verify(written).head.size == 6
    with pytest.raises(BrokenJournalError, match="witness-mismatch"):
        verify(written, witnessed=witnessed)


def test_a_journal_that_grew_since_it_was_witnessed_verifies(written: Path) -> None:
    witnessed = verify(written).head
    with Journal.open(written) as journal:
        journal.append({"operation": "sign"})
    assert verify(written, witnessed=witnessed).head.size == 6


def test_a_missing_journal_is_no_empty_journal(tmp_path: Path) -> None:
    with pytest.raises(BrokenJournalError, match="journal-missing"):
        verify(tmp_path / "none.jsonl")


def test_a_missing_head_is_found(written: Path) -> None:
    head_path(written).unlink()
    with pytest.raises(BrokenJournalError, match="head-missing"):
        verify(written)


@pytest.mark.parametrize("record", [b"", b"0\n", b"x" * 172, b"0" * 172, b"%020d %020d %064d %064d\n" % (5, 0, 0, 0)])
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
    path = change(lambda lines: [lines[0], lines[1].replace(b'"uses":1', b'"uses":1.0'), *lines[2:]])
    entries = read(path)
    assert next(entries).entry["key"] == "key-0"
    with pytest.raises(BrokenJournalError, match="entry 1: bad-shape"):
        next(entries)


def test_reading_gives_no_unfinished_line(written: Path) -> None:
    with written.open("ab") as file:
        file.write(b'{"at":"2026')
    assert len(list(read(written))) == 5
    assert verify(written).torn == b'{"at":"2026'


# ---- Lines that together hide what each is


def test_lines_are_read_one_by_one_even_where_they_would_make_sense_together(path: Path) -> None:
    """Five lines, five objects with the right numbers if the ends of lines are ignored: no line is an entry."""
    at = '"at":"2026-05-01T08:30:00.000000Z"'
    first = f'{{{at},"entry":{{"x":[{{{at},"entry":{{}},"index":0}}'
    second = f'{{{at},"entry":{{}},"index":1}}]}},"index":0}},{{{at},"entry":{{}},"index":1}}'
    written = [first.encode(), second.encode()]
    path.write_bytes(b"".join(each + b"\n" for each in written))
    tree = TreeHead(2, merkle_tree_hash([leaf_hash(each) for each in written]))
    head_path(path).write_bytes(HeadRecord(tree, 0).encode())
    with pytest.raises(BrokenJournalError, match="entry 0: not-json"):
        verify(path)


# ---- Checkpoints and tiles


def test_a_removed_checkpoint_is_found(signed: Path) -> None:
    (log_folder(signed) / "checkpoint").unlink()
    with pytest.raises(BrokenJournalError, match="checkpoint-missing"):
        verify(signed)


def test_an_older_checkpoint_in_the_place_of_the_last_is_found(signed: Path, signer: LogSigner) -> None:
    older = tree_of(signed.read_bytes().splitlines(keepends=True)[:300])
    (log_folder(signed) / "checkpoint").write_bytes(signer.sign(older.size, older.root))
    with pytest.raises(BrokenJournalError, match="entry 300: checkpoint-old"):
        verify(signed)


def test_a_log_that_was_rewritten_with_its_head_does_not_have_the_root_that_was_signed(signed: Path) -> None:
    lines = signed.read_bytes().splitlines(keepends=True)
    lines[450] = line(450, "2026-05-01T08:30:00.000000Z", FORGED) + b"\n"
    signed.write_bytes(b"".join(lines))
    head_path(signed).write_bytes(HeadRecord(tree_of(lines), 600).encode())
    with pytest.raises(BrokenJournalError, match="entry 450: checkpoint-mismatch"):
        verify(signed)


def test_a_checkpoint_of_more_than_there_is_finds_the_cut_tail(signed: Path) -> None:
    lines = signed.read_bytes().splitlines(keepends=True)[:520]
    signed.write_bytes(b"".join(lines))
    head_path(signed).write_bytes(HeadRecord(tree_of(lines), 0).encode())
    with pytest.raises(BrokenJournalError, match="entry 520: cut-tail"):
        verify(signed)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"kwbp/log\n",
        b"kwbp/log\n+5\n%b=\n\n\xe2\x80\x94 a YQ==\n" % (b"A" * 43),
        b"kwbp/log\n5\n%b=\n\n" % (b"A" * 43),
        b"kwbp/log\n5\nYQ==\n\n\xe2\x80\x94 a YQ==\n",
        b"kwbp/log\n-5\n%b=\n\n\xe2\x80\x94 a YQ==\n" % (b"A" * 43),
    ],
)
def test_a_checkpoint_that_is_none_is_not_ignored(signed: Path, note: bytes) -> None:
    (log_folder(signed) / "checkpoint").write_bytes(note)
    with pytest.raises(BrokenJournalError, match="checkpoint-unreadable"):
        verify(signed)


@pytest.mark.parametrize(("level", "number", "width"), list(tiles_of(600)))
def test_a_missing_or_altered_tile_of_the_checkpoint_is_found(
    signed: Path, level: int | str, number: int, width: int
) -> None:
    tile = log_folder(signed) / tile_name(level, number, width)
    whole = tile.read_bytes()
    tile.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BrokenJournalError, match="tile-altered"):
        verify(signed)
    tile.write_bytes(whole + whole[-32:])
    with pytest.raises(BrokenJournalError, match="tile-altered"):
        verify(signed)
    tile.unlink()
    with pytest.raises(BrokenJournalError, match="tile-missing"):
        verify(signed)
    tile.write_bytes(whole)
    assert verify(signed).head.size == 600


@pytest.mark.parametrize(
    "name", ["tile/0/003", "tile/0/002.p/89", "tile/entries/002", "tile/1/000.p/3", "tile/2/000.p/1", "tile/x"]
)
def test_a_tile_of_entries_that_are_not_there_is_found(signed: Path, name: str) -> None:
    file = log_folder(signed) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(32))
    with pytest.raises(BrokenJournalError, match="tile-unexpected"):
        verify(signed)


# ---- Whatever is changed


def judge(path: Path, signer: LogSigner) -> None:
    """What `kwbp audit verify` does: everything here, and the signature; raises AuditError."""
    found = verify(path)
    note = Note.parse((log_folder(path) / "checkpoint").read_bytes())
    note.verify(signer.key)
    checkpoint = Checkpoint.parse(note.text)
    assert (checkpoint.origin, checkpoint.head) == (signer.key.name, found.checkpoint)


def _alter(data: bytes, draw: st.DataObject) -> bytes:
    at = draw.draw(st.integers(0, len(data) - 1), "at")
    return data[:at] + bytes([data[at] ^ draw.draw(st.integers(1, 255), "bits")]) + data[at + 1 :]


def _cut(data: bytes, draw: st.DataObject) -> bytes:
    at = draw.draw(st.integers(0, len(data) - 1), "at")
    return data[at + 1 :] if draw.draw(st.booleans(), "the beginning") else data[:at]


def _repeat(data: bytes, draw: st.DataObject) -> bytes:
    """A piece of the file stands there twice; a part of an entry at the end would be a torn one, hence whole lines."""
    pieces = data.splitlines(keepends=True)
    at = draw.draw(st.integers(0, len(pieces) - 1), "piece")
    return b"".join([*pieces[: at + 1], *pieces[at:]])


def _swap(data: bytes, draw: st.DataObject) -> bytes:
    pieces = data.splitlines(keepends=True)
    one = draw.draw(st.integers(0, len(pieces) - 1), "one")
    other = draw.draw(st.integers(0, len(pieces) - 1), "other")
    pieces[one], pieces[other] = pieces[other], pieces[one]
    return b"".join(pieces)


def _omit(data: bytes, draw: st.DataObject) -> bytes:
    pieces = data.splitlines(keepends=True)
    at = draw.draw(st.integers(0, len(pieces) - 1), "piece")
    return b"".join([*pieces[:at], *pieces[at + 1 :]])


@settings(max_examples=120, deadline=None)
@given(draw=st.data())
def test_any_one_thing_that_was_changed_is_found(published: Path, signer: LogSigner, draw: st.DataObject) -> None:
    files = [published, head_path(published), log_folder(published) / "checkpoint"]
    files += [log_folder(published) / tile_name(*tile) for tile in tiles_of(600)]
    original = draw.draw(st.sampled_from(files), "file")
    whole = original.read_bytes()
    how = draw.draw(st.sampled_from([_alter, _cut, _repeat, _swap, _omit]), "how")
    changed = how(whole, draw)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(published.parent, folder, dirs_exist_ok=True)
        path = Path(folder) / published.name
        judge(path, signer)
        (Path(folder) / original.relative_to(published.parent)).write_bytes(changed)
        if changed == whole:
            judge(path, signer)
            return
        with pytest.raises(AuditError):
            judge(path, signer)


@pytest.mark.parametrize("number", [0, 255, 256, 400, 511, 512, 599])
def test_an_entry_that_is_forged_everywhere_but_in_the_checkpoint_is_found(signed: Path, number: int) -> None:
    lines = signed.read_bytes().splitlines(keepends=True)
    lines[number] = line(number, "2026-05-01T08:30:00.000000Z", FORGED) + b"\n"
    checkpoint = (log_folder(signed) / "checkpoint").read_bytes()
    shutil.rmtree(log_folder(signed))
    signed.write_bytes(b"".join(lines))
    head_path(signed).write_bytes(HeadRecord(tree_of(lines), 0).encode())
    Journal.open(signed).close()  # writes the tiles of the forgery
    (log_folder(signed) / "checkpoint").write_bytes(checkpoint)
    with pytest.raises(BrokenJournalError, match="checkpoint-mismatch"):
        verify(signed)
    with pytest.raises(BrokenJournalError, match="checkpoint-mismatch"):
        Journal.open(signed)


# ---- As a program of its own


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """With nothing but the standard library: isolated, without site-packages, as a lone copy of the file."""
    program = cwd / "verify.py"
    shutil.copy(Path(audit.__file__).with_name("verify.py"), program)
    return subprocess.run(
        [sys.executable, "-I", "-S", program, *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )


def test_it_runs_alone_with_nothing_installed(signed: Path, written: Path, tmp_path: Path) -> None:
    answer = run(signed, written, cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    first, second = answer.stdout.splitlines()
    assert first == f"{signed}: whole, 600 entries, root {verify(signed).head.root.hex()}, checkpoint of 600"
    assert second.startswith(f"{written}: whole, 5 entries, root ")


def test_it_says_which_log_is_broken_and_fails(signed: Path, written: Path, tmp_path: Path) -> None:
    os.truncate(signed, 1000)
    answer = run(signed, written, cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (1, "")
    assert "BROKEN: entry" in answer.stdout
    assert f"{written}: whole" in answer.stdout


def test_several_processes_find_what_one_finds(tmp_path: Path) -> None:
    """In a program of its own, because it forks."""
    path = tmp_path / "large.jsonl"
    entry = encode({"padding": "x" * 2000})
    lines = [line(number, "2026-05-01T08:30:00.000000Z", entry) + b"\n" for number in range(17_000)]
    path.write_bytes(b"".join(lines))
    head_path(path).write_bytes(HeadRecord(tree_of(lines), 0).encode())
    program = "import sys; from pathlib import Path; from audit import verify; verify(Path(sys.argv[1]), processes=2)"
    whole = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert (whole.returncode, whole.stderr) == (0, "")
    lines[16_990] = lines[16_990].replace(b'"entry"', b' "entry"')
    path.write_bytes(b"".join(lines))
    broken = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert "entry 16990: not-canonical" in broken.stderr
    assert read_head(path) is not None


# -- what lies there and is none of the files of a log


@pytest.mark.parametrize(
    "name", ["tile/0/001", "tile/0/002.p", "tile/0", "tile/entries/000", "tile", "checkpoint", "."]
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_file_for_a_folder_or_a_folder_for_a_file_is_a_finding(signed: Path, name: str, kind: str) -> None:
    place = log_folder(signed) / name
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    if kind == "file":
        place.write_bytes(b"x")
    else:
        place.mkdir()
    with pytest.raises(BrokenJournalError):
        verify(signed)


def test_a_log_that_cannot_be_read_is_said_to_be_so(written: Path, tmp_path: Path) -> None:
    written.unlink()
    written.mkdir()
    result = subprocess.run(
        [sys.executable, str(Path(audit.__file__).with_name("verify.py")), str(written)], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (1, "")
    assert "CANNOT BE READ" in result.stdout


def test_a_log_cut_behind_its_cosigned_checkpoint_is_found_also_by_those_who_check_no_signature(
    path: Path, signer: LogSigner
) -> None:
    with Journal.open(path) as journal:
        for number in range(3):
            journal.append({"number": number})
        signer.publish(journal)
        old = [(file, file.read_bytes()) for file in (path, head_path(path), log_folder(path) / "checkpoint")]
        journal.append({"number": 3})
        (log_folder(path) / "checkpoint.witnessed").write_bytes(signer.sign(journal.size, journal.root()))
        signer.publish(journal)
    for file, content in old:
        file.write_bytes(content)
    shutil.rmtree(log_folder(path) / "tile")
    for judge in (verify, Journal.open):
        with pytest.raises(BrokenJournalError, match="entry 3: cut-tail"):
            judge(path)


def test_a_partial_tile_that_the_writer_completes_meanwhile_is_no_fault(
    path: Path, signer: LogSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = sys.modules["audit.verify"]
    with Journal.open(path, sync=lambda file: None) as journal:
        for number in range(250):
            journal.append({"number": number})
        signer.publish(journal)
        parts = verifier._parts

        def meanwhile(*arguments: object) -> object:
            for number in range(250, 260):
                journal.append({"number": number})
            journal._write_tiles()
            return parts(*arguments)

        monkeypatch.setattr(verifier, "_parts", meanwhile)
        assert verify(path).head.size == 260
        assert not (log_folder(path) / tile_name(0, 0, 250)).exists()


def test_a_head_that_is_being_replaced_is_read_again(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = sys.modules["audit.verify"]
    whole = head_path(written).read_bytes()
    contents = iter([whole[:100] + b"0" * (len(whole) - 100), whole])
    monkeypatch.setattr(verifier, "_read_if_there", lambda _path: next(contents))
    assert read_head(written) == HeadRecord.decode(whole)
