"""Running a ceremony: a hierarchy that every judge accepts, or nothing at all; and a transcript that cannot be bent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ceremony import Founded, Step, read_transcript, resume, verify
from ca.errors import CeremonyAbortedError, CeremonyError, KeysExistError
from ca.hierarchy import load_hierarchy
from ca.profile import profiles
from hsm_service.service import KeyInfo
from pki.crl import CrlSet
from pki.path import validate_path
from runtime.problems import Problem
from tests.support.ceremonies import Rooms, environment, found, journal_of, planned
from tests.support.judges import certtool, openssl
from tests.support.pki_factory import pem
from tests.support.software_signing import SoftwareSigning


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("founded")


@pytest.fixture(scope="module")
def rooms() -> Rooms:
    return Rooms.software()


@pytest.fixture(scope="module")
def founded(home: Path, rooms: Rooms) -> Founded:
    return found(home / "pki", rooms)


@pytest.fixture
def copy(home: Path, founded: Founded, tmp_path: Path) -> Path:
    """The published hierarchy, to be tampered with."""
    shutil.copytree(home / "pki", tmp_path / "pki")
    return tmp_path / "pki"


def test_rooms_are_never_open_together_and_the_root_room_once(founded: Founded, rooms: Rooms) -> None:
    assert rooms.opened == ["service", "root", "service"]


def test_openssl_accepts_every_certificate_under_the_crls(home: Path, founded: Founded, tmp_path: Path) -> None:
    folder = home / "pki"
    (tmp_path / "crls.pem").write_bytes(pem(*founded.crls.values()))
    cas = b"".join(path.read_bytes() for path in sorted((folder / "cas").glob("*.pem")))
    (tmp_path / "cas.pem").write_bytes(cas)
    files = sorted(folder.glob("*/*.pem"))

    assert len(files) == 30
    for path in files:
        openssl(
            "verify", "-x509_strict", "-CAfile", folder / "root.pem", "-untrusted", tmp_path / "cas.pem",
            "-crl_check_all", "-CRLfile", tmp_path / "crls.pem", path,
        )  # fmt: skip
        openssl("x509", "-in", path, "-noout", "-text")


def test_certtool_accepts_every_chain_and_crl(home: Path, founded: Founded) -> None:
    folder = home / "pki"
    for path in [*sorted((folder / "services").glob("*.pem")), *sorted((folder / "officers").glob("*.pem"))]:
        chain = path.read_bytes() + (folder / "root.pem").read_bytes()
        assert b"Chain verification output: Verified" in certtool("--verify-chain", stdin=chain)
    for path in (folder / "crls").glob("*.crl"):
        assert b"CRL Number" in certtool("--inder", "--crl-info", stdin=path.read_bytes())


def test_the_root_is_rsa_4096_and_self_signed(founded: Founded) -> None:
    root = founded.certificates["root"]

    root.verify_directly_issued_by(root)
    assert root.public_key().key_size == 4096  # type: ignore[union-attr]  # RSA


def test_every_certificate_has_its_role_for_relying_parties(home: Path, founded: Founded) -> None:
    trust = load_hierarchy(home / "pki").trust(CrlSet(founded.crls.values()))
    for order in planned().orders.values():
        certificate = founded.certificates[order.id]
        assert validate_path(certificate, trust=trust, now=datetime.now(UTC), roles=[order.profile.role])


def test_keys_in_tokens_carry_their_chain(founded: Founded, rooms: Rooms) -> None:
    def chain(room: Any, key: str) -> list[x509.Certificate]:
        return [x509.load_der_x509_certificate(der) for der in room.describe_key(key).certificate_chain]

    assert chain(rooms.root, "root") == [founded.certificates["root"]]
    assert chain(rooms.service, "brand") == [founded.certificates["cas/brand"]]
    assert chain(rooms.service, "merchant-ca") == [
        founded.certificates["cas/merchant-ca"],
        founded.certificates["cas/brand"],
    ]
    attestation = rooms.service.list_keys()[5]
    assert attestation.name == "attestation"
    assert len(attestation.certificate_chain) == 3


def test_the_transcript_names_every_step_with_fingerprints(home: Path, founded: Founded) -> None:
    transcript = read_transcript((home / "pki" / "transcript.json").read_bytes())

    assert [entry.step for entry in transcript.entries] == ["begin", *map(str, planned().steps)]
    made = {entry.step: entry.outcome for entry in transcript.entries}
    assert made["certificate cas/brand"]["sha256"] == founded.certificates["cas/brand"].fingerprint(SHA256()).hex()
    assert made["key root"]["attributes"]["never_extractable"] is True


def test_progress_is_told_step_by_step(tmp_path: Path) -> None:
    told: list[str] = []

    def progress(step: Step, entry: Any) -> None:
        assert str(step) == entry.step
        told.append(entry.step)

    found(tmp_path / "pki", Rooms.software(), progress=progress)

    assert told == [str(step) for step in planned().steps]


def test_what_was_published_verifies_offline(home: Path, founded: Founded) -> None:
    verified = verify(home / "pki", now=datetime.now(UTC))

    assert (verified.keys, verified.certificates, verified.crls) == (21, 31, 6)
    assert verified.tip == founded.transcript.tip


# --- nothing half-made


def test_a_second_ceremony_does_not_replace_a_hierarchy(home: Path, founded: Founded) -> None:
    rooms = Rooms.software()
    with pytest.raises(CeremonyError, match="holds a hierarchy already"):
        found(home / "pki", rooms)
    assert rooms.opened == []


class Failing:
    """A room in which the n-th call of one method fails."""

    def __init__(self, keys: SoftwareSigning, method: str, after: int) -> None:
        self.keys, self.method, self.left = keys, method, after

    def __getattr__(self, name: str) -> Any:
        real: Callable[..., Any] = getattr(self.keys, name)
        if name != self.method:
            return real

        def call(*arguments: Any, **named: Any) -> Any:
            if self.left == 0:
                raise Problem(503, "token-unavailable", "the token is gone")
            self.left -= 1
            return real(*arguments, **named)

        return call


@pytest.mark.parametrize(
    ("room", "method", "after", "step", "keys"),
    [
        ("service", "generate_key", 2, "key cas/merchant-ca", 2),
        ("root", "generate_key", 0, "key root", 19),
        ("root", "sign_certificate", 1, "certificate cas/brand", 21),
        ("service", "sign_certificate", 22, "certificate services/gateway", 21),
        ("service", "sign_crl", 4, "crl cas/operations-ca", 21),
    ],
)
def test_an_interrupted_ceremony_publishes_nothing_and_names_the_keys_it_left(
    tmp_path: Path, room: str, method: str, after: int, step: str, keys: int
) -> None:
    rooms = Rooms.software()
    setattr(rooms, room, Failing(getattr(rooms, room), method, after))

    with pytest.raises(CeremonyAbortedError) as aborted:
        found(tmp_path / "pki", rooms)

    assert aborted.value.step == step
    assert len(aborted.value.keys) == keys
    assert not (tmp_path / "pki").exists()
    registered = [*rooms.service.list_keys(), *rooms.root.list_keys()]
    assert {key.name for key in aborted.value.keys} == {key.name for key in registered}


def test_a_kill_while_publishing_leaves_nothing_that_anybody_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def rename(_self: Path, _target: Path) -> Path:
        raise Killed

    rooms = Rooms.software()
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Path, "rename", rename)
        found(tmp_path / "pki", rooms)
    assert not (tmp_path / "pki").exists()

    resume(journal_of(tmp_path / "pki"), folder=tmp_path / "pki", **environment(rooms))

    assert {path.name for path in tmp_path.iterdir()} == {"pki", "ceremony"}
    assert verify(tmp_path / "pki", now=datetime.now(UTC)).certificates == 31


def test_keys_that_are_there_already_stop_the_ceremony_before_anything_is_touched(tmp_path: Path) -> None:
    rooms = Rooms.software()
    rooms.service.generate_key("brand", "brand-ca")

    with pytest.raises(KeysExistError, match="brand") as exist:
        found(tmp_path / "pki", rooms)

    assert [key.name for key in exist.value.keys] == ["brand"]
    assert [key.name for key in rooms.service.list_keys()] == ["brand"]
    assert not journal_of(tmp_path / "pki").exists()


def test_a_key_of_another_kind_under_a_planned_name_stops_the_ceremony(tmp_path: Path) -> None:
    rooms = Rooms.software()
    rooms.service.generate_key("merchant-ca", "attestation")

    with pytest.raises(CeremonyError, match="another kind"):
        found(tmp_path / "pki", rooms)
    assert not journal_of(tmp_path / "pki").exists()


@pytest.mark.parametrize("attribute", ["extractable", "local", "sensitive", "always_sensitive", "never_extractable"])
def test_a_key_that_its_token_does_not_protect_stops_the_ceremony(tmp_path: Path, attribute: str) -> None:
    class Leaky(SoftwareSigning):
        def generate_key(self, name: str, template: str, *, owner: str | None = None) -> KeyInfo:
            info = super().generate_key(name, template, owner=owner)
            wrong = {**info.attributes, attribute: not info.attributes[attribute]}
            return msgspec.structs.replace(info, attributes=wrong)

    with pytest.raises(CeremonyAbortedError) as aborted:
        found(tmp_path / "pki", Rooms(Leaky(), SoftwareSigning()))
    assert attribute in str(aborted.value.__cause__)


def test_a_token_that_makes_a_smaller_root_key_stops_the_ceremony(tmp_path: Path) -> None:
    small = SoftwareSigning(algorithms={"rsa-4096": "rsa-3072", "rsa-3072": "ec-p256"})

    with pytest.raises(CeremonyAbortedError) as aborted:
        found(tmp_path / "pki", Rooms(SoftwareSigning(), small))
    assert "at least 4096" in str(aborted.value.__cause__)


# --- the transcript and what it covers


def tampered(copy: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = copy / "transcript.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


TAMPERING: dict[str, Callable[[dict[str, Any]], None]] = {
    "an entry altered": lambda d: d["entries"][3]["outcome"].update(key="other"),
    "an entry deleted": lambda d: d["entries"].pop(4),
    "two entries swapped": lambda d: d["entries"].insert(2, d["entries"].pop(3)),
    "an entry inserted": lambda d: d["entries"].insert(2, d["entries"][2]),
    "a digest forged": lambda d: d["entries"][5].update(digest="0" * 64),
    "a field added": lambda d: d["entries"][0].update(note="hello"),
    "a date that is none": lambda d: d["entries"][0].update(at="yesterday"),
    "another format": lambda d: d.update(format="kwbp-ceremony-transcript-0"),
    "no entries": lambda d: d.pop("entries"),
}


@pytest.mark.parametrize("tampering", TAMPERING)
def test_a_transcript_that_was_tampered_with_is_found(copy: Path, tampering: str) -> None:
    tampered(copy, TAMPERING[tampering])

    with pytest.raises(CeremonyError):
        verify(copy, now=datetime.now(UTC))


def test_a_transcript_cut_at_the_end_is_found(copy: Path) -> None:
    tampered(copy, lambda d: d["entries"].pop())

    with pytest.raises(CeremonyError, match="no publish entry"):
        verify(copy, now=datetime.now(UTC))


@pytest.mark.parametrize("name", ["services/hsm.pem", "officers/security-officer-1.pem", "keys/attestation.pem"])
def test_a_file_that_was_replaced_or_removed_is_found(copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / "services" / "ca.pem").read_bytes())
    with pytest.raises(CeremonyError, match="not the file that was published"):
        verify(copy, now=datetime.now(UTC))
    (copy / name).unlink()
    with pytest.raises(CeremonyError, match="missing"):
        verify(copy, now=datetime.now(UTC))


def test_a_crl_older_than_the_ceremony_or_of_another_is_found(copy: Path, tmp_path: Path) -> None:
    other = found(tmp_path / "other", Rooms.software())
    (copy / "crls" / "brand.crl").write_bytes(other.crls["brand"].public_bytes(Encoding.DER))

    with pytest.raises(CeremonyError, match="CRL of brand"):
        verify(copy, now=datetime.now(UTC))


def test_a_crl_past_its_end_is_found(copy: Path) -> None:
    crl = profiles()["brand"].ca
    assert crl is not None
    with pytest.raises(CeremonyError, match="crl_expired"):
        verify(copy, now=datetime.now(UTC) + crl.crl.lifetime + timedelta(days=1))


def test_a_folder_without_ceremony_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CeremonyError, match="no transcript"):
        verify(tmp_path, now=datetime.now(UTC))
