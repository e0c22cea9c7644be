from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import export as export_module
from audit.checkpoint_files import CheckpointFiles
from audit.errors import AuditError, NoteError
from audit.export import export
from audit.journal import Journal
from audit.log_key import LogKey, certified, key_name
from audit.note import Note, cosign
from audit.overview import overview
from audit.proof import Extra, Proof, Proven, check, make
from audit.proving import find, prove
from audit.verify import verify
from tests.support.pki_factory import NOW, PkiFactory
from tests.support.tlog import GrowingLog, LogKeys, witness_key

KEYS = LogKeys()
ANCHORS = (KEYS.pki.root.certificate,)
KEY, VERIFIER = witness_key()
TIME = int(NOW.timestamp())


def proof_of(log: GrowingLog, index: int, keys: LogKeys = KEYS, note: Note | None = None) -> Proof:
    line = log.lines[index].decode()
    hashes = log.inclusion_proof(index)
    return make(keys.log_key.name, keys.log_key.chain, line, index, hashes, note or keys.note(log.head))


def judge(proof: Proof) -> Proven:
    return check(proof, ANCHORS, now=NOW, witnesses=[VERIFIER])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.data())
def test_every_entry_of_every_tree_is_proven(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    log = GrowingLog.of(size)
    proven = judge(Proof.parse(proof_of(log, index).encode()))
    assert (proven.entry, proven.index, proven.witnessed) == (f"entry {index}", index, None)


def test_a_cosigned_proof_says_since_when_it_cannot_be_taken_back() -> None:
    log = GrowingLog.of(5)
    note = KEYS.note(log.head)
    cosigned = note.with_signatures(cosign(note.text, VERIFIER.name, KEY, TIME))
    proof = proof_of(log, 2, note=cosigned)
    assert judge(proof).witnessed == NOW
    # years later, when the certificate has expired, the cosignature still says that it was in force
    late = NOW + timedelta(days=9000)
    assert check(proof, ANCHORS, now=late, witnesses=[VERIFIER]).index == 2
    with pytest.raises(NoteError, match="bad-certificate"):
        check(proof, ANCHORS, now=late)


LOG = GrowingLog.of(13)
GOOD = proof_of(LOG, 6)


def _hashes(change: Callable[[list[bytes]], object]) -> Proof:
    hashes = list(GOOD.hashes)
    change(hashes)
    return replace(GOOD, hashes=tuple(hashes))


def _with_chain_of(other: LogKeys) -> Proof:
    ders = tuple(each.public_bytes(Encoding.DER) for each in other.log_key.chain)
    return replace(GOOD, extra=Extra(other.log_key.name, GOOD.extra.entry, ders))


def _signed_with_tls_key() -> Proof:
    """The TLS key of the CA service, a file on its disk, has a certificate of the same authority."""
    tls = LogKeys("ca", pki=KEYS.pki)
    as_log = LogKey("log-ca", tls.log_key.chain)
    tls.log_key = as_log
    return proof_of(LOG, 6, tls)


HOSTILE: dict[str, Callable[[], Proof]] = {
    "wrong sibling": lambda: _hashes(lambda hashes: hashes.__setitem__(0, bytes(32))),
    "siblings swapped": lambda: _hashes(lambda hashes: hashes.reverse()),
    "a sibling missing": lambda: _hashes(lambda hashes: hashes.pop()),
    "a sibling too many": lambda: _hashes(lambda hashes: hashes.append(bytes(32))),
    "wrong index": lambda: replace(GOOD, index=7),
    "index beyond the tree": lambda: replace(GOOD, index=13),
    "another entry": lambda: replace(GOOD, extra=Extra("log-ca", "entry 7", GOOD.extra.chain)),
    "size beyond the tree": lambda: proof_of(LOG, 12, note=KEYS.note(replace(LOG.head, size=14))),
    "another root": lambda: replace(GOOD, note=KEYS.note(replace(LOG.head, root=bytes(32)))),
    "another origin": lambda: replace(GOOD, note=KEYS.sign(GOOD.note.text.replace("log-ca", "log-ra"))),
    "signed by another key": lambda: proof_of(LOG, 6, note=LogKeys(pki=KEYS.pki).note(LOG.head)),
    "not signed": lambda: replace(GOOD, note=replace(GOOD.note, signatures=())),
    "signature over another tree": lambda: replace(
        GOOD, note=replace(KEYS.note(LOG.head), signatures=KEYS.note(GrowingLog.of(3).head).signatures)
    ),
    "certificate of another root": lambda: proof_of(LOG, 6, LogKeys(pki=PkiFactory())),
    "certificate of another log": lambda: proof_of(LOG, 6, LogKeys("log-ra", pki=KEYS.pki), note=GOOD.note),
    "chain of another log": lambda: _with_chain_of(LogKeys("log-ra", pki=KEYS.pki)),
    "certificate of a service": _signed_with_tls_key,
    "no certificate": lambda: replace(GOOD, extra=Extra("log-ca", GOOD.extra.entry, ())),
    "not a certificate": lambda: replace(GOOD, extra=Extra("log-ca", GOOD.extra.entry, (b"x",))),
    "cosignature over another tree": lambda: replace(
        GOOD, note=GOOD.note.with_signatures(cosign("another\n", VERIFIER.name, KEY, TIME))
    ),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_proof_with_one_thing_wrong_proves_nothing(fault: str) -> None:
    assert judge(GOOD).index == 6
    with pytest.raises(NoteError):
        judge(HOSTILE[fault]())


def test_no_service_passes_for_a_log_of_its_own_name() -> None:
    """The TLS key of a service is a file; its certificate says `urn:kwbp:service:ca`, and the origin would, too."""
    service = LogKeys("ca", pki=KEYS.pki)
    with pytest.raises(NoteError, match="no log has a key"):
        judge(proof_of(LOG, 6, service))


WHOLE = GOOD.encode()


def _with_extra(change: Callable[[bytes], bytes]) -> bytes:
    found = base64.b64decode(WHOLE.split(b"\n")[1].removeprefix(b"extra "))
    assert change(found) != found
    return WHOLE.replace(base64.b64encode(found), base64.b64encode(change(found)))


MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "extra written otherwise": _with_extra(lambda extra: extra.replace(b'{"key"', b'{ "key"')),
    "a key of extra twice": _with_extra(lambda extra: b'{"key":"log-ra",' + extra[1:]),
    "text that has no UTF-8": _with_extra(lambda extra: extra.replace(b"entry 6", b"\\ud800")),
    "another format": WHOLE.replace(b"@v1", b"@v2"),
    "without extra": b"\n".join(line for line in WHOLE.split(b"\n") if not line.startswith(b"extra")),
    "without index": WHOLE.replace(b"index 6\n", b""),
    "leading zero": WHOLE.replace(b"index 6", b"index 06"),
    "negative index": WHOLE.replace(b"index 6", b"index -6"),
    "hash cut": WHOLE.replace(base64.b64encode(GOOD.hashes[0]), base64.b64encode(GOOD.hashes[0][:31])),
    "no empty line": WHOLE.replace(b"\n\n", b"\n", 1),
    "note cut": WHOLE[:-1],
    "signature line twice": WHOLE + WHOLE.rpartition(b"\n\n")[2],
    "extra of another form": WHOLE.replace(WHOLE.split(b"\n")[1], b"extra " + base64.b64encode(b"{}")),
    "too long": WHOLE + b"x" * 300_000,
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_file_is_no_proof(fault: str) -> None:
    with pytest.raises(NoteError):
        Proof.parse(MALFORMED[fault])


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_one_changed_byte_never_proves_something_else(at: int, change: int) -> None:
    altered = bytearray(WHOLE)
    altered[at] ^= change
    try:
        proven = judge(Proof.parse(bytes(altered)))
    except NoteError:
        return
    assert proven == judge(GOOD)


def test_the_certificate_must_name_the_log() -> None:
    chain = KEYS.log_key.chain
    assert certified("log-ca", chain, ANCHORS, now=NOW).origin == KEYS.verifier.name
    for name in ("log-ra", "ca", ""):
        with pytest.raises((NoteError, ValueError)):
            certified(name, chain, ANCHORS, now=NOW)


# -- a log on disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of 600 entries; the checkpoint covers 597 of them."""
    path = tmp_path / "ca.jsonl"
    with Journal.open(path, clock=lambda: datetime(2026, 5, 1, tzinfo=UTC)) as journal:
        for number in range(597):
            journal.append({"event": "test", "input_sha256": f"{number:064x}", "twice": f"{number // 2 + 9000:064x}"})
        note = KEYS.note(journal.head)
        cosigned = note.with_signatures(cosign(note.text, VERIFIER.name, KEY, TIME))
        CheckpointFiles(path).keep_witnessed(cosigned)
        journal.publish(cosigned.encode())
        for _ in range(3):
            journal.append({"event": "tail"})
    return path


@pytest.mark.parametrize("index", [0, 255, 256, 511, 512, 596])
def test_an_entry_of_a_log_on_disk_is_proven(path: Path, index: int) -> None:
    assert find(path, f"{index:064x}") == find(path, str(index)) == [index]
    proven = judge(Proof.parse(prove(path, index, KEYS.log_key).encode()))
    assert proven.index == index
    assert proven.entry == path.read_text().splitlines()[index]
    assert proven.witnessed == NOW


def test_an_entry_that_no_checkpoint_covers_is_not_proven_yet(path: Path) -> None:
    with pytest.raises(NoteError, match="covers 597"):
        prove(path, 597, KEYS.log_key)


def test_what_a_reference_means(path: Path) -> None:
    assert find(path, f"{9000:064x}") == [0, 1]
    assert find(path, "f" * 64) == []
    for bad in ("", "-1", "01", "abc", "f" * 63):
        with pytest.raises(ValueError, match="number"):
            find(path, bad)


def test_an_altered_tile_proves_nothing(path: Path) -> None:
    tile = path.with_suffix(".log") / "tile" / "entries" / "000"
    tile.write_bytes(tile.read_bytes().replace(f"{7:064x}".encode(), f"{8:064x}".encode()))
    with pytest.raises(AuditError, match="tile-altered"):
        prove(path, 7, KEYS.log_key)


def test_the_overview_says_who_vouches_for_how_much(path: Path) -> None:
    found = overview(path, KEYS.log_key, VERIFIER)
    assert (found.fault, found.signed, found.witnessed, found.tail) == (None, 597, 597, 3)
    assert found.witnessed_at == NOW
    assert found.key is not None
    assert found.key.startswith("log-ca ← ")


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint.witnessed"])
def test_a_checkpoint_by_another_key_is_a_fault(path: Path, name: str) -> None:
    signed, _ = CheckpointFiles(path).read(KEYS.verifier)
    assert signed is not None
    other = LogKeys(pki=KEYS.pki).sign(signed.note.text)
    (path.with_suffix(".log") / name).write_bytes(other.encode())
    assert "not-signed" in (overview(path, KEYS.log_key, VERIFIER).fault or "")


def test_a_damaged_cosignature_on_the_signed_checkpoint_is_a_fault(path: Path) -> None:
    signed, _ = CheckpointFiles(path).read(KEYS.verifier)
    assert signed is not None
    note = signed.note.with_signatures(cosign(signed.note.text, VERIFIER.name, KEY, TIME))
    file = path.with_suffix(".log") / "checkpoint"
    file.write_bytes(note.encode())
    assert overview(path, KEYS.log_key, VERIFIER).fault is None
    file.write_bytes(note.with_signatures(cosign("another\n", VERIFIER.name, KEY, TIME)).encode())
    assert "bad-signature" in (overview(path, KEYS.log_key, VERIFIER).fault or "")


def test_a_log_cut_behind_its_cosigned_checkpoint_is_a_fault(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:590]))
    assert overview(path, KEYS.log_key, VERIFIER).fault is not None


def test_a_checkpoint_without_a_known_key_is_a_fault(path: Path) -> None:
    assert "unknown-key" in (overview(path, None, None).fault or "")


def test_an_export_is_judged_by_the_commands_of_its_readme(path: Path, tmp_path: Path) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(KEYS.pki.root.certificate.public_bytes(Encoding.PEM))
    folder = tmp_path / "export"
    assert export(path, folder, KEYS.log_key, root, VERIFIER) == 600
    readme = (folder / "README").read_text()
    commands = [line.strip().partition("   #")[0] for line in readme.splitlines() if line.startswith("    ")]
    assert len(commands) == 9
    commands = [
        each.replace("python3", sys.executable).replace("openssl verify", f"openssl verify -attime {TIME}")
        for each in commands
    ]
    judged = subprocess.run(["sh", "-ec", "\n".join(commands)], cwd=folder, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stderr
    assert "whole, 600 entries" in judged.stdout
    assert "Verified OK" in judged.stdout
    assert "certificates.pem: OK" in judged.stdout
    assert f"URI:urn:kwbp:service:{key_name('ca')}" in judged.stdout
    with pytest.raises(FileExistsError):
        export(path, folder, KEYS.log_key, root, VERIFIER)


def test_an_altered_export_is_found_by_the_verifier_alone(path: Path, tmp_path: Path) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(KEYS.pki.root.certificate.public_bytes(Encoding.PEM))
    export(path, tmp_path / "export", KEYS.log_key, root, None)
    log = tmp_path / "export" / path.name
    log.write_bytes(log.read_bytes().replace(f"{7:064x}".encode(), f"{8:064x}".encode()))
    judged = subprocess.run(
        [sys.executable, "verify.py", log.name], cwd=log.parent, capture_output=True, text=True, check=False
    )
    assert judged.returncode == 1
    assert "BROKEN" in judged.stdout


def test_an_export_of_a_log_that_grows_meanwhile_is_whole(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is published after the first file was copied, tiles are completed after they were listed."""
    copy = export_module._copy
    with Journal.open(path) as journal:

        def grow(count: int) -> None:
            for number in range(count):
                journal.append({"event": "meanwhile", "number": number})

        growths = iter([3, 300])

        def meanwhile(source: Path, target: Path) -> bool:
            if source.name in {"ca.head", "000"} and (more := next(growths, 0)):
                done = copy(source, target)
                grow(more)
                if more == 3:
                    journal.publish(KEYS.note(journal.head).encode())
                else:
                    journal._write_tiles()
                return done
            return copy(source, target)

        monkeypatch.setattr(export_module, "_copy", meanwhile)
        export(path, tmp_path / "out", KEYS.log_key, _root(tmp_path), None)
    found = verify(tmp_path / "out" / "ca.jsonl")
    assert found.checkpoint is not None
    assert (found.head.size, found.checkpoint.size) == (903, 603)


def _root(folder: Path) -> Path:
    root = folder / "root-of-test.pem"
    root.write_bytes(ANCHORS[0].public_bytes(Encoding.PEM))
    return root
