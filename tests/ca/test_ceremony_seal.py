"""The seal of a transcript: two persons, the audit key, a time-stamp; and every way in which one is not true."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ceremony import founding_ceremony
from ca.ceremony.seal import Recorded, SealFolder, countersign, participate, recorded, seal_folder, stamp
from ca.ceremony.seal_check import judge_participant, verify_seals
from ca.ceremony.transcript import read_transcript
from ca.errors import CeremonyError
from hsm_service.ledger import SERIAL_BITS
from pki import oids
from pki.ceremony_seal import CeremonySeal
from pki.cms_signed import sign
from pki.der import any_value, encode, tlv
from pki.oids import CT_CEREMONY_SEAL, CT_TST_INFO
from pki.timestamp import grant
from pki.timestamp_structures import TstInfo, imprint_of
from tests.support.ceremonies import Rooms, found, holders, planned
from tests.support.judges import openssl, openssl_accepts
from tests.support.pki_factory import Key, p256

ONE, TWO = "security-officer-1", "security-officer-2"


class Site:
    """A founded hierarchy with its officers' keys, and the keys in its tokens."""

    def __init__(self, folder: Path, rooms: Rooms, keys: dict[str, Key]) -> None:
        self.folder, self.rooms, self.keys = folder, rooms, keys

    @property
    def of(self) -> Recorded:
        return recorded(self.folder)[0]

    @property
    def seal(self) -> SealFolder:
        return seal_folder(self.folder, self.of)

    def certificates(self, name: str) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates((self.folder / f"{name}.pem").read_bytes())

    def signed(self, person: str, content: CeremonySeal | None = None, at: datetime | None = None) -> bytes:
        leaf, *chain = self.certificates(f"officers/{person}")
        content = content or self.of.statement()
        return sign(
            CT_CEREMONY_SEAL, content.to_der(), key=self.keys[f"officer/{person}"], signer=leaf, chain=chain,
            signing_time=at or datetime.now(UTC),
        )  # fmt: skip

    def in_token(self, name: str, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
        leaf, *chain = self.certificates(f"keys/{name}")
        key: Any = self.rooms.service._keys[name].private  # type: ignore[attr-defined]
        return sign(content_type, content, key=key, signer=leaf, chain=chain, signing_time=datetime.now(UTC))

    def audit(self, content: bytes) -> bytes:
        return self.in_token("attestation", CT_CEREMONY_SEAL, content)

    def token(self, data: bytes, at: datetime | None = None) -> bytes:
        now = (at or datetime.now(UTC)).replace(microsecond=0)
        subject = self.certificates("keys/tsa")[0].subject.public_bytes()
        info = TstInfo(
            version=1,
            policy=oids.POLICY_TIMESTAMP,
            message_imprint=imprint_of(data),
            serial_number=int(now.timestamp()) << SERIAL_BITS | secrets.randbits(SERIAL_BITS),
            gen_time=asn1.GeneralizedTime(now),
            accuracy=None,
            ordering=False,
            nonce=None,
            tsa=any_value(tlv(0xA4, subject)),
        )
        return self.in_token("tsa", CT_TST_INFO, encode(info))

    def sealed(self) -> Site:
        for person in (ONE, TWO):
            participate(self.folder, self.of, person, self.signed(person))
        stamp(countersign(self.folder, self.of, self.audit), self.token)
        return self


@pytest.fixture(scope="module")
def rooms() -> Rooms:
    return Rooms.software()


@pytest.fixture(scope="module")
def keys() -> dict[str, Key]:
    return holders(founding_ceremony())


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, rooms: Rooms, keys: dict[str, Key]) -> Path:
    folder = tmp_path_factory.mktemp("founded") / "pki"
    found(folder, rooms, planned(keys=keys))
    return folder


@pytest.fixture
def site(original: Path, tmp_path: Path, rooms: Rooms, keys: dict[str, Key]) -> Site:
    shutil.copytree(original, tmp_path / "pki")
    return Site(tmp_path / "pki", rooms, keys)


def test_a_seal_tells_who_when_and_what(site: Site) -> None:
    root = site.sealed().certificates("root")[0].fingerprint(SHA256())

    report = verify_seals(site.folder, root_sha256=root.hex(":").upper())

    (seal,) = report.seals
    assert [person.person for person in seal.participants] == [ONE, TWO]
    assert all(person.roles == ("security_officer",) for person in seal.participants)
    assert (seal.tip, seal.entries) == (site.of.transcript.tip, len(site.of.transcript.entries))
    assert seal.countersigned_at is not None
    assert seal.stamped_at is not None
    assert (report.missing, seal.missing, report.root) == ((), (), root.hex())


def test_openssl_agrees_with_every_signature_and_with_the_time_stamp(site: Site, tmp_path: Path) -> None:
    folder = site.sealed().seal.path
    cas = b"".join(path.read_bytes() for path in sorted((site.folder / "cas").glob("*.pem")))
    (tmp_path / "cas.pem").write_bytes(cas)
    trust = ("-CAfile", site.folder / "root.pem")
    for name in (ONE, TWO, "audit"):
        verify = ("cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", *trust)
        content = openssl(*verify, "-in", folder / f"{name}.p7s")
        assert content == (folder / "statement.der").read_bytes() or name == "audit"
    stamped = ("ts", "-verify", "-in", folder / "audit.tsr", *trust, "-untrusted", tmp_path / "cas.pem")
    assert openssl_accepts(*stamped, "-data", folder / "audit.p7s")
    assert not openssl_accepts(*stamped, "-data", folder / "statement.der")


def test_what_is_missing_is_told_step_by_step(site: Site) -> None:
    entries = len(site.of.transcript.entries)
    unsealed = f"transcript.json: entries 0 to {entries - 1} are not sealed"
    assert verify_seals(site.folder).missing == (unsealed,)

    participate(site.folder, site.of, ONE, site.signed(ONE))
    report = verify_seals(site.folder)
    assert report.missing == (unsealed,)
    assert report.seals[0].missing == (
        "1 of 2 participants have signed",
        "the audit key has not countersigned",
        "there is no time-stamp",
    )
    with pytest.raises(CeremonyError, match="1 have signed of 2"):
        countersign(site.folder, site.of, site.audit)

    participate(site.folder, site.of, TWO, site.signed(TWO))
    with pytest.raises(CeremonyError, match="nothing to stamp"):
        stamp(site.seal, site.token)
    seal = countersign(site.folder, site.of, site.audit)
    assert verify_seals(site.folder).seals[0].missing == ("there is no time-stamp",)

    stamp(seal, site.token)
    assert verify_seals(site.folder).missing == ()


def test_a_seal_that_is_closed_stays_as_it_is(site: Site) -> None:
    before = {path: path.read_bytes() for path in site.sealed().seal.path.iterdir()}
    stamp(countersign(site.folder, site.of, site.audit), site.token)
    with pytest.raises(CeremonyError, match="nobody can join"):
        participate(site.folder, site.of, "security-officer-3", site.signed(ONE))
    assert {path: path.read_bytes() for path in site.seal.path.iterdir()} == before


def test_a_transcript_that_goes_on_is_sealed_anew_and_the_older_seal_stays_true(site: Site) -> None:
    site.sealed()
    first = len(site.of.transcript.entries)
    append(site)
    assert verify_seals(site.folder).missing == (f"transcript.json: entries {first} to {first} are not sealed",)
    site.sealed()
    report = verify_seals(site.folder)
    assert [seal.entries for seal in report.seals] == [first, first + 1]
    assert report.missing == ()


def append(site: Site) -> None:
    path = site.folder / "transcript.json"
    transcript = read_transcript(path.read_bytes())
    transcript.append("crl root", {"issuer": "root", "number": 2, "sha256": "00" * 32}, datetime.now(UTC))
    path.write_bytes(transcript.to_json())


def rewrite(site: Site, change: Callable[[list[Any]], object]) -> None:
    """Change entries and chain them again, as who would forge the whole file could."""
    path = site.folder / "transcript.json"
    transcript = read_transcript(path.read_bytes())
    entries = [(entry.step, entry.outcome, entry.at) for entry in transcript.entries]
    change(entries)
    transcript.entries.clear()
    for step, outcome, at in entries:
        transcript.append(step, outcome, at)
    path.write_bytes(transcript.to_json())


# -- hostile twins -----------------------------------------------------------------------------------------------------


def test_another_root_than_the_pinned_one_is_refused(site: Site) -> None:
    with pytest.raises(CeremonyError, match="another one"):
        verify_seals(site.sealed().folder, root_sha256="00" * 32)


def test_a_transcript_changed_after_sealing_is_noticed(site: Site) -> None:
    site.sealed()
    rewrite(site, lambda entries: entries[5][1].update(adopted="yes"))
    with pytest.raises(CeremonyError, match="is not transcript"):
        verify_seals(site.folder)
    (site.seal.path / "statement.der").unlink()
    with pytest.raises(CeremonyError, match="what was signed is not the transcript"):
        verify_seals(site.folder)


def test_entries_cut_off_after_sealing_are_noticed(site: Site) -> None:
    site.sealed()
    rewrite(site, lambda entries: entries.pop())
    with pytest.raises(CeremonyError, match="cut off"):
        verify_seals(site.folder)


def test_a_transcript_that_is_gone_is_missed(site: Site) -> None:
    path = site.sealed().seal.path
    path.rename(path.with_name(path.name.replace("0000-", "0001-")))
    with pytest.raises(CeremonyError, match="is gone"):
        verify_seals(site.folder)


def test_the_seal_of_another_ceremony_is_refused(site: Site, tmp_path: Path, rooms: Rooms) -> None:
    other = Site(tmp_path / "other", Rooms.software(), holders(founding_ceremony()))
    found(other.folder, other.rooms, planned(keys=other.keys))
    other.sealed()
    shutil.copytree(other.seal.path, site.seal.path)
    with pytest.raises(CeremonyError):
        verify_seals(site.folder)
    for path in site.seal.path.iterdir():
        path.unlink()
    shutil.copy(other.seal.path / f"{ONE}.p7s", site.seal.path)
    with pytest.raises(CeremonyError, match="what was signed is not the transcript"):
        verify_seals(site.folder)


def test_one_person_does_not_seal_twice(site: Site) -> None:
    participate(site.folder, site.of, ONE, site.signed(ONE))
    with pytest.raises(CeremonyError, match="sealed this transcript already"):
        participate(site.folder, site.of, ONE, site.signed(ONE))
    (site.seal.path / f"{TWO}.p7s").write_bytes(site.signed(ONE))
    with pytest.raises(CeremonyError, match="the person it is filed under"):
        verify_seals(site.folder)


def test_what_is_not_this_statement_is_not_kept(site: Site) -> None:
    foreign = CeremonySeal("kwbp-founding", 3, b"\0" * 32)
    for signed in (site.signed(ONE, foreign), b"garbage"):
        with pytest.raises(CeremonyError):
            participate(site.folder, site.of, ONE, signed)
    for name in ("audit", "../x", ".x"):
        with pytest.raises(CeremonyError, match="called so"):
            participate(site.folder, site.of, name, site.signed(ONE))
    assert not site.seal.path.exists()


def test_a_key_of_nobody_here_does_not_seal(site: Site) -> None:
    leaf = site.certificates(f"officers/{ONE}")[0]
    key = p256()
    forged = (
        x509.CertificateBuilder(extensions=list(leaf.extensions))
        .subject_name(leaf.subject).issuer_name(leaf.issuer).public_key(key.public_key())
        .serial_number(leaf.serial_number).not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc).sign(key, SHA256())
    )  # fmt: skip
    signed = sign(
        CT_CEREMONY_SEAL, site.of.statement().to_der(), key=key, signer=forged, chain=[], signing_time=datetime.now(UTC)
    )
    with pytest.raises(CeremonyError):
        judge_participant(site.folder, site.of, signed, now=datetime.now(UTC))
    site.seal.path.mkdir(parents=True)
    (site.seal.path / f"{ONE}.p7s").write_bytes(signed)
    with pytest.raises(CeremonyError, match=r"issuer it names|chain to a pinned root"):
        verify_seals(site.folder)


def test_a_service_does_not_stand_in_for_a_person_nor_a_person_for_the_audit_key(site: Site) -> None:
    statement = site.of.statement().to_der()
    with pytest.raises(CeremonyError, match="service where officer"):
        judge_participant(site.folder, site.of, site.audit(statement), now=datetime.now(UTC))
    for person in (ONE, TWO):
        participate(site.folder, site.of, person, site.signed(person))
    for name in ("ra-system", "log-hsm"):
        countersign(site.folder, site.of, partial(site.in_token, name, CT_CEREMONY_SEAL))
        with pytest.raises(CeremonyError, match="not signed by the audit key"):
            verify_seals(site.folder)
        site.seal.audit.unlink()
    leaf, *chain = site.certificates("services/hsm")
    countersign(
        site.folder, site.of,
        lambda content: sign(
            CT_CEREMONY_SEAL, content, key=site.keys["service/hsm"], signer=leaf, chain=chain,
            signing_time=datetime.now(UTC),
        ),
    )  # fmt: skip
    with pytest.raises(CeremonyError, match="key of a TLS server"):
        verify_seals(site.folder)


def test_the_audit_key_signs_what_it_was_shown(site: Site) -> None:
    for person in (ONE, TWO):
        participate(site.folder, site.of, person, site.signed(person))
    with pytest.raises(CeremonyError, match="something else"):
        countersign(site.folder, site.of, lambda _content: site.audit(site.of.statement().to_der()))
    assert not site.seal.audit.exists()


def test_a_participant_left_out_or_exchanged_after_countersigning_is_missed(site: Site) -> None:
    kept = site.sealed().seal.path / f"{TWO}.p7s"
    kept.write_bytes(site.signed(TWO))
    with pytest.raises(CeremonyError, match="or not these signatures"):
        verify_seals(site.folder)
    kept.unlink()
    with pytest.raises(CeremonyError, match="or not these signatures"):
        verify_seals(site.folder)


def test_a_time_stamp_over_other_bytes_is_refused(site: Site) -> None:
    site.sealed().seal.stamp.write_bytes(grant(site.token(b"something else")))
    with pytest.raises(CeremonyError, match="over other bytes"):
        verify_seals(site.folder)


def test_a_time_stamp_without_its_signature_or_before_the_ceremony_is_refused(site: Site) -> None:
    site.sealed()
    audit = site.seal.audit.read_bytes()
    site.seal.audit.unlink()
    with pytest.raises(CeremonyError, match="stamped is gone"):
        verify_seals(site.folder)
    site.seal.audit.write_bytes(audit)
    rewrite_time = datetime.now(UTC) - timedelta(minutes=30)
    site.seal.stamp.write_bytes(grant(site.token(audit, rewrite_time)))
    with pytest.raises(CeremonyError):
        verify_seals(site.folder)


def test_a_foreign_folder_in_the_seals_is_not_passed_over(site: Site) -> None:
    (site.folder / "seal" / "notes").mkdir(parents=True)
    with pytest.raises(CeremonyError, match="is not a seal"):
        verify_seals(site.folder)


def test_a_crl_of_somebody_else_is_not_believed(site: Site) -> None:
    site.sealed()
    shutil.copy(site.folder / "crls" / "brand.crl", site.folder / "crls" / "operations-ca.crl")
    with pytest.raises(CeremonyError, match="not signed by it"):
        verify_seals(site.folder)


@pytest.mark.parametrize(("when", "stamped", "holds"), [(-2, True, False), (2, True, True), (2, False, False)])
def test_a_revocation_unmakes_what_was_not_proven_to_be_older(
    site: Site, when: int, stamped: bool, holds: bool
) -> None:
    site.sealed()
    if not stamped:
        site.seal.stamp.unlink()
    revoke(site, site.certificates(f"officers/{ONE}")[0], datetime.now(UTC) + timedelta(hours=when))
    if holds:
        assert verify_seals(site.folder).missing == ()
    else:
        with pytest.raises(CeremonyError, match="is revoked"):
            verify_seals(site.folder)


def revoke(site: Site, certificate: x509.Certificate, at: datetime) -> None:
    path = site.folder / "crls" / "operations-ca.crl"
    old = x509.load_der_x509_crl(path.read_bytes())
    entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(at).build()
    builder = (
        x509.CertificateRevocationListBuilder(extensions=list(old.extensions)).issuer_name(old.issuer)
        .last_update(datetime.now(UTC)).next_update(datetime.now(UTC) + timedelta(days=1))
        .add_revoked_certificate(entry)
    )  # fmt: skip
    key: Any = site.rooms.service._keys["operations-ca"].private  # type: ignore[attr-defined]
    path.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.DER))


def test_later_transcripts_follow_from_the_ones_before(site: Site) -> None:
    later = read_transcript((site.folder / "transcript.json").read_bytes())
    tip = later.tip
    later.entries.clear()
    later.append("begin", {"ceremony": "root-crl", "after": tip}, datetime.now(UTC))
    (site.folder / "transcripts").mkdir()
    path = site.folder / "transcripts" / "0001-root-crl.json"
    path.write_bytes(later.to_json())
    second = recorded(site.folder)[1]
    assert (second.ceremony, seal_folder(site.folder, second).path.name) == ("root-crl", "0001-0001")

    rewritten = json.loads(path.read_bytes())
    assert rewritten["entries"][0]["outcome"]["after"] == tip
    later.entries.clear()
    later.append("begin", {"ceremony": "root-crl", "after": "00" * 32}, datetime.now(UTC))
    path.write_bytes(later.to_json())
    with pytest.raises(CeremonyError, match="does not follow"):
        recorded(site.folder)
