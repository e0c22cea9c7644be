from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoint import TreeHead
from audit.errors import NoteError
from audit.note import Note, Signature, VerifierKey, cosign
from tests.support.tlog import LogKeys, witness_key

TEXT = "kwbp/0011223344556677/log-ca\n3\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"

QUASIMODO = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3Ze"
    "kRwNtIc=\n"
).encode()
"""The example of c2sp.org/signed-note."""


@pytest.fixture(scope="module")
def keys() -> LogKeys:
    return LogKeys()


@pytest.fixture(scope="module")
def note(keys: LogKeys) -> Note:
    return keys.sign(TEXT)


def test_the_example_of_the_specification_is_read_and_written_alike() -> None:
    note = Note.parse(QUASIMODO)
    assert note.text.endswith("\n\ned è subito sera.\n")
    assert note.signatures[0].name == "quasimodo.example/salvatore"
    assert note.encode() == QUASIMODO


def test_a_note_is_verified_by_its_key_alone(note: Note, keys: LogKeys) -> None:
    assert Note.parse(note.encode()) == note
    assert note.verify(keys.verifier) is None
    other = VerifierKey.log(keys.verifier.name, ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(NoteError, match="not-signed"):
        note.verify(other)


def test_the_key_id_of_an_ecdsa_key_is_of_its_subject_public_key_info(keys: LogKeys) -> None:
    spki = keys.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = subprocess.run(["openssl", "dgst", "-sha256", "-binary"], input=spki, capture_output=True, check=True)
    assert keys.verifier.key_id == digest.stdout[:4]


def test_a_cosignature_says_when(note: Note) -> None:
    key, verifier = witness_key()
    cosigned = note.with_signatures(cosign(note.text, verifier.name, key, 1_900_000_000))
    assert Note.parse(cosigned.encode()).verify(verifier) == 1_900_000_000
    later = cosigned.signatures[-1].value
    forged = Signature(verifier.name, verifier.key_id, (1_900_000_001).to_bytes(8, "big") + later[8:])
    with pytest.raises(NoteError, match="bad-signature"):
        note.with_signatures(forged).verify(verifier)


def test_openssl_verifies_a_log_s_signature_by_the_documented_commands(keys: LogKeys, tmp_path: Path) -> None:
    key, verifier = witness_key()
    note = keys.note(TreeHead(3, b"\x07" * 32))
    whole = note.with_signatures(cosign(note.text, verifier.name, key, 1_900_000_000))
    (tmp_path / "checkpoint").write_bytes(whole.encode())
    (tmp_path / "log-hsm.pem").write_bytes(keys.credential.certificate.public_bytes(Encoding.PEM))
    commands = """set -e
        sed '/^$/,$d' checkpoint > text
        grep -- "^— $ORIGIN " checkpoint | cut -d' ' -f3 | base64 -d | tail -c +5 > signature
        openssl x509 -in log-hsm.pem -pubkey -noout > key.pem
        openssl dgst -sha256 -verify key.pem -signature signature text"""
    run = {"cwd": tmp_path, "env": {"ORIGIN": keys.verifier.name, "PATH": "/usr/bin:/bin"}, "text": True}
    judged = subprocess.run(["sh", "-c", commands], capture_output=True, check=False, **run)  # type: ignore[call-overload]
    assert judged.stdout == "Verified OK\n", judged.stderr
    (tmp_path / "checkpoint").write_bytes(whole.encode().replace(b"\n3\n", b"\n4\n"))
    judged = subprocess.run(["sh", "-c", commands], capture_output=True, check=False, **run)  # type: ignore[call-overload]
    assert judged.returncode != 0


def _line(raw: bytes) -> str:
    return f"— {TEXT.partition(chr(10))[0]} {base64.b64encode(raw).decode()}\n"


def _by_the_same_key(note: bytes) -> bytes:
    own = Note.parse(note).signatures[0]
    return Signature(own.name, own.key_id, b"another").encode().encode()


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda note: b"",
    "without signatures": lambda note: note.partition(b"\n\n")[0] + b"\n",
    "without an empty line": lambda note: note.replace(b"\n\n", b"\n"),
    "cut in the last line": lambda note: note[:-1],
    "cut in a signature": lambda note: note[:-8] + b"\n",
    "a signature line twice": lambda note: note + note.rpartition(b"\n\n")[2],
    "another signature by the same key": lambda note: note + _by_the_same_key(note),
    "a hyphen instead of the dash": lambda note: note.replace("—".encode(), b"-"),
    "two spaces": lambda note: note.replace("— ".encode(), "—  ".encode()),
    "a space behind the signature": lambda note: note[:-1] + b" \n",
    "text behind the signatures": lambda note: note + b"more\n",
    "an empty line behind the signatures": lambda note: note + b"\n",
    "carriage returns": lambda note: note.replace(b"\n", b"\r\n"),
    "a control character": lambda note: b"\x07" + note,
    "another line separator in a signature": lambda note: note[:-1] + "\u2028\n".encode(),
    "not UTF-8": lambda note: b"\xff" + note,
    "a signature without key": lambda note: TEXT.encode() + b"\n" + _line(b"\x00" * 4).encode(),
    "stray bits in the base64": lambda note: TEXT.encode() + b"\n" + _line(b"\x00" * 5)[:-4].encode() + b"AB==\n",
    "too many signatures": lambda note: (
        TEXT.encode()
        + b"\n"
        + b"".join(Signature(f"k{number}", b"\x00" * 4, b"x").encode().encode() for number in range(17))
    ),
    "too long": lambda note: b"x" * 70_000 + b"\n" + note,
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_note_with_one_thing_wrong_is_none(note: Note, fault: str) -> None:
    with pytest.raises(NoteError):
        Note.parse(HOSTILE[fault](note.encode()))


_KEYS = LogKeys()
_WHOLE = _KEYS.sign(TEXT).encode()


@given(st.integers(0, len(_WHOLE) - 1), st.integers(1, 255))
def test_one_changed_byte_never_verifies(at: int, change: int) -> None:
    altered = bytearray(_WHOLE)
    altered[at] ^= change
    with pytest.raises(NoteError):
        Note.parse(bytes(altered)).verify(_KEYS.verifier)


def test_vkeys_are_read_as_they_are_written(keys: LogKeys) -> None:
    _, witness = witness_key()
    for key in (keys.verifier, witness):
        assert VerifierKey.parse(key.encode()) == key


@pytest.mark.parametrize(
    "change",
    [
        lambda vkey: vkey.replace("+", " "),
        lambda vkey: vkey + "\n",
        lambda vkey: "x" + vkey,  # the key id of a witness's key covers its name
        lambda vkey: vkey[:-8],
        lambda vkey: vkey.rpartition("+")[0] + "+AQ==",
        lambda vkey: "",
    ],
)
def test_a_vkey_with_one_thing_wrong_is_none(change: Callable[[str], str]) -> None:
    _, witness = witness_key()
    with pytest.raises(NoteError):
        VerifierKey.parse(change(witness.encode()))


def test_a_key_on_another_curve_is_no_log_s_key() -> None:
    with pytest.raises(NoteError, match="P-256"):
        VerifierKey.log("x", ec.generate_private_key(ec.SECP384R1()).public_key())


def test_signatures_by_others_are_not_passed_on(note: Note, keys: LogKeys) -> None:
    stranger, verifier = witness_key("somebody")
    both = note.with_signatures(cosign(note.text, verifier.name, stranger, 1))
    assert both.keep([keys.verifier]) == note


def test_a_witness_key_is_not_mistaken_for_a_log_key() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    assert VerifierKey.parse(VerifierKey.witness("w", key.public_key()).encode()).type == 4
