"""Who may not seal, and seals that are made again: refused before anything is kept, so that the seal is not spoilt."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from ca.ceremony.seal import countersign, participate, recorded, seal_folder, stamp
from ca.ceremony.seal_check import judge_participant, require_sealable, verify_seals
from ca.errors import CeremonyError
from pki.cms_signed import sign
from pki.extensions import OfficerData
from pki.oids import CT_CEREMONY_SEAL
from tests.ca.test_ceremony_seal import ONE, TWO, Site, append, keys, original, revoke, rooms, site
from tests.support.pki_factory import Key, p256

__all__ = ["keys", "original", "rooms", "site"]

THREE = "security-officer-3"


def now() -> datetime:
    return datetime.now(UTC)


class Officer:
    """A certificate of the operations CA like that of the first officer, with one thing else."""

    def __init__(
        self,
        site: Site,
        person: str = THREE,
        roles: Sequence[str] = ("security_officer",),
        key: Key | None = None,
        begins: timedelta | None = None,
        ends: timedelta | None = None,
    ) -> None:
        leaf, *self.chain = site.certificates(f"officers/{ONE}")
        self.site, self.key = site, key or p256()
        data = OfficerData(person, "KWBP", tuple(roles))
        made = now().replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(leaf.subject).issuer_name(leaf.issuer).public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(leaf.not_valid_before_utc if begins is None else made + begins)
            .not_valid_after(leaf.not_valid_after_utc if ends is None else made + ends)
        )  # fmt: skip
        for each in leaf.extensions:
            if each.oid == OfficerData.OID:
                builder = builder.add_extension(x509.UnrecognizedExtension(each.oid, data.to_der()), each.critical)
            elif isinstance(each.value, x509.SubjectKeyIdentifier):
                own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
                builder = builder.add_extension(own, each.critical)
            else:
                builder = builder.add_extension(each.value, each.critical)
        issuing: Any = site.rooms.service._keys["operations-ca"].private  # type: ignore[attr-defined]
        self.certificate = builder.sign(issuing, SHA256())

    def signed(self, at: datetime | None = None, entries: int | None = None) -> bytes:
        content = self.site.of.statement(entries).to_der()
        return sign(
            CT_CEREMONY_SEAL, content, key=self.key, signer=self.certificate, chain=self.chain,
            signing_time=at or now(),
        )  # fmt: skip


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def joins(site: Site, signed: bytes, at: datetime | None = None) -> None:
    """As `kwbp ceremony seal --as` has it, now or later: judged, then kept."""
    sealer = judge_participant(site.folder, site.of, signed, now=at or now())
    participate(site.folder, site.of, sealer.person, signed)


def refused(site: Site, signed: bytes, matching: str, at: datetime | None = None) -> None:
    before = contents(site.folder)
    with pytest.raises(CeremonyError, match=matching):
        joins(site, signed, at)
    assert contents(site.folder) == before


# -- who ---------------------------------------------------------------------------------------------------------------


def test_an_officer_like_the_others_seals(site: Site) -> None:
    """So that what follows is refused for the one thing that is wrong with it."""
    joins(site, site.signed(ONE))
    joins(site, Officer(site).signed())
    stamp(countersign(site.folder, site.of, site.audit), site.token)
    assert verify_seals(site.folder).missing == ()


def test_a_person_with_two_certificates_seals_once(site: Site) -> None:
    joins(site, site.signed(ONE))
    refused(site, site.signed(ONE), "sealed this transcript already")
    refused(site, Officer(site, ONE).signed(), "sealed this transcript already")


def test_two_persons_with_one_key_are_one_participant(site: Site) -> None:
    joins(site, site.signed(ONE))
    second = Officer(site, key=site.keys[f"officer/{ONE}"]).signed()
    refused(site, second, "the same key")
    participate(site.folder, site.of, THREE, second)
    with pytest.raises(CeremonyError, match="the same key"):
        verify_seals(site.folder)


@pytest.mark.parametrize("roles", [("vetting_officer",), ("issuing_officer", "vetting_officer")])
def test_an_officer_of_other_roles_does_not_seal(site: Site, roles: tuple[str, ...]) -> None:
    refused(site, Officer(site, roles=roles).signed(), "is none of auditor, security_officer")


def test_an_officer_whose_certificate_is_revoked_does_not_seal(site: Site) -> None:
    revoke(site, site.certificates(f"officers/{ONE}")[0], now() + timedelta(hours=1))
    refused(site, site.signed(ONE), "is revoked")


def test_an_officer_whose_certificate_has_ended_does_not_seal_not_even_with_an_earlier_date(site: Site) -> None:
    signs = now()
    short, later = Officer(site, ends=timedelta(minutes=30)), signs + timedelta(hours=1)
    refused(site, short.signed(later), "expired", later)
    refused(site, short.signed(signs), "is not now", later)
    early = Officer(site, begins=timedelta(hours=1))
    refused(site, early.signed(signs), "not_yet_valid")
    refused(site, early.signed(signs + timedelta(hours=2)), "is not now")


@pytest.mark.parametrize("minutes", [-20, 20])
def test_a_signature_that_says_another_time_than_now_is_not_kept(site: Site, minutes: int) -> None:
    """Kept, it would spoil the seal: nobody replaces it, and what it says is untrue for ever."""
    signs = now()
    refused(site, site.signed(ONE, at=signs), "is not now", signs + timedelta(minutes=minutes))


# -- what --------------------------------------------------------------------------------------------------------------


def test_a_seal_made_for_an_earlier_state_is_not_kept_for_the_present_one(site: Site) -> None:
    earlier = site.signed(ONE)
    append(site)
    refused(site, earlier, "not the transcript that is here")
    with pytest.raises(CeremonyError, match="not this transcript"):
        participate(site.folder, site.of, ONE, earlier)
    refused(site, Officer(site).signed(entries=3), "not the transcript that is here")


def test_a_seal_of_another_transcript_of_the_folder_is_refused(site: Site) -> None:
    site.sealed()
    (site.folder / "transcripts").mkdir()
    later = recorded(site.folder)[0].transcript
    tip = later.tip
    later.entries.clear()
    later.append("begin", {"ceremony": "root-crl", "after": tip}, now())
    (site.folder / "transcripts" / "0001-root-crl.json").write_bytes(later.to_json())
    second = recorded(site.folder)[1]
    with pytest.raises(CeremonyError, match="not this transcript"):
        participate(site.folder, second, ONE, site.signed(ONE))
    with pytest.raises(CeremonyError, match="not the transcript that is here"):
        judge_participant(site.folder, second, site.signed(ONE), now=now())
    assert not seal_folder(site.folder, second).path.exists()


# -- closing -----------------------------------------------------------------------------------------------------------


def test_the_audit_key_does_not_stand_beside_whose_certificate_has_ended_since(site: Site) -> None:
    """What is stamped is judged as of its stamp: closed now, this seal would be untrue for ever."""
    short = Officer(site, ends=timedelta(hours=1))
    joins(site, site.signed(ONE))
    joins(site, short.signed())
    require_sealable(site.folder, site.of, now=now())
    with pytest.raises(CeremonyError, match=rf"{THREE}\.p7s.*expired.*remove it"):
        require_sealable(site.folder, site.of, now=now() + timedelta(hours=2))
    countersign(site.folder, site.of, site.audit)
    with pytest.raises(CeremonyError, match=rf"{THREE}\.p7s.*expired"):
        require_sealable(site.folder, site.of, now=now() + timedelta(hours=2))
    verify_seals(site.folder)


def test_the_audit_key_does_not_stand_beside_whose_certificate_was_revoked_since(site: Site) -> None:
    for person in (ONE, TWO):
        joins(site, site.signed(person))
    revoke(site, site.certificates(f"officers/{TWO}")[0], now())
    with pytest.raises(CeremonyError, match="is revoked"):
        require_sealable(site.folder, site.of, now=now())


def test_nobody_joins_while_the_audit_key_signs(site: Site) -> None:
    """Its signature names the participants: one who joins in between would make it untrue."""
    for person in (ONE, TWO):
        joins(site, site.signed(person))
    late = Officer(site).signed()
    said: list[str] = []

    def join() -> None:
        try:
            participate(site.folder, site.of, THREE, late)
        except CeremonyError as error:
            said.append(str(error))

    thread = threading.Thread(target=join)

    def slowly(content: bytes) -> bytes:
        thread.start()
        thread.join(0.2)
        return site.audit(content)

    stamp(countersign(site.folder, site.of, slowly), site.token)
    thread.join()
    assert len(said) == 1
    assert "nobody can join" in said[0]
    assert verify_seals(site.folder).missing == ()
