"""The whole authority on real tokens: founded in SoftHSM2, in service through the vault, judged by OpenSSL."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ca.authority import CertificateAuthority
from ca.ceremony import founding_ceremony, ready_made, run, undo, verify
from ca.errors import CeremonyAbortedError, NotApprovedError, SigningRefusedError
from ca.orders import orders
from ca.prepare import new_serial, prepare
from ca.record import Record
from ca.signing import sign_certificate
from ca.store import CertificateRecord
from cps.dossier import Dossier, GatewaySubject, OfficerSubject
from cps.model import Purpose
from cps.packs import published
from cps.rekey_statement import build_rekey
from hsm_service.service import Basis
from hsm_service.vault import Vault
from pki import cms_signed
from pki.builder import tbs_certificate
from pki.crl import verify_crl
from pki.der import sha256
from pki.keys import spki_sha256
from pki.names import name
from pki.oids import CT_REKEY
from pki.roles import Role, role_of
from runtime.database import open_database
from runtime.problems import Problem
from runtime.settings import Home
from statements.published import founding_only
from tests.support.ceremonies import PUBLICATION, act, holders, planned
from tests.support.cps_cases import MERCHANT, Office, csr, evidence
from tests.support.judges import openssl, openssl_accepts
from tests.support.pki_factory import Credential, Key, p256, pem
from tests.support.softhsm import provisioned_home

GATEWAY = GatewaySubject(
    gateway_id="GW-1", name="Gateway One", organisation="Acquirer", acquirer_bin="603770", suites=("oaep-sha1",)
)


class RaInToken:
    """The registration authority, whose key signs in its token."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault.as_caller("service:ra")

    def sign(self, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
        return self._vault.sign_cms("ra-system", content_type.dotted_string, content)


class FoundedOffice(Office):
    """An office whose officers and services were certified by the founded hierarchy itself."""

    def __init__(self, vault: Vault) -> None:
        self.pack = published()
        self.ra = RaInToken(vault)  # type: ignore[assignment]  # what it says is signed, not who holds the key

    @property
    def now(self) -> datetime:  # type: ignore[override]  # this office lives in real time
        return datetime.now(UTC).replace(microsecond=0)


class Installation:
    """A founded installation: its home, the keys that members made for themselves, the authority in service."""

    def __init__(self, home: Home, keys: Mapping[str, Key], vault: Vault) -> None:
        self.home = home
        self.office = FoundedOffice(vault)
        self.vault = vault
        self.record = Record.open(home.audit / "ca.jsonl")
        self.engine = open_database(home.db / "ca.db")
        self.authority = CertificateAuthority(
            folder=home.pki,
            engine=self.engine,
            signer=vault.as_caller("service:ca"),
            record=self.record,
            statements=founding_only(self.office.pack),
            publication=PUBLICATION,
            rng=os.urandom,
            clock=lambda: datetime.now(UTC),
        )
        self.authority.start()
        self.founders = [
            self.credential(self.published("officers", f"security-officer-{n}"), keys[f"officer/security-officer-{n}"])
            for n in (1, 2)
        ]

    def published(self, folder: str, stem: str) -> tuple[x509.Certificate, ...]:
        return tuple(x509.load_pem_x509_certificates((self.home.pki / folder / f"{stem}.pem").read_bytes()))

    def credential(self, chain: tuple[x509.Certificate, ...], key: Key) -> Credential:
        return Credential(chain[0], key, chain[1:], self.office.now)

    def appoint(self, person: str, role: str) -> Credential:
        """A new officer, sponsored by one founder and approved by the other."""
        key = p256()
        subject = OfficerSubject(person_id=person, name=person, organisation="RA", roles=(role,))
        case = self.office.case(subject, {"signing": csr(key)}, application_id=f"case-{person}")
        case = self.office.decided(case, "sponsor", self.founders[0])
        case = self.office.decided(case, "approve", self.founders[1])
        record = self.authority.issuance.issue(case)["signing"]
        return self.credential((record.certificate, *self.authority.hierarchy.chain(record.issuer)), key)

    def judge(self, record: CertificateRecord, folder: Path) -> bool:
        crls = [x509.load_der_x509_crl(path.read_bytes()) for path in (self.home.pki / "crls").glob("*.crl")]
        (folder / "crls.pem").write_bytes(pem(*crls))
        (folder / "cas.pem").write_bytes(pem(*self.authority.hierarchy.intermediates))
        (folder / "leaf.pem").write_bytes(pem(record.certificate))
        return openssl_accepts(
            "verify", "-x509_strict", "-CAfile", self.home.pki / "root.pem", "-untrusted", folder / "cas.pem",
            "-crl_check_all", "-CRLfile", folder / "crls.pem", folder / "leaf.pem",
        )  # fmt: skip

    def close(self) -> None:
        self.record.close()
        self.engine.dispose()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    home = provisioned_home(tmp_path_factory.mktemp("installation"))
    home.create()
    keys = holders(founding_ceremony())

    @contextlib.contextmanager
    def service_room() -> Any:
        with Vault.open(home) as vault:
            yield vault.as_caller("ceremony")

    @contextlib.contextmanager
    def root_room() -> Any:
        with Vault.open_root(home) as vault:
            yield vault.as_caller("ceremony")

    run(
        planned(keys=keys),
        service_room=service_room,
        root_room=root_room,
        folder=home.pki,
        rng=os.urandom,
        clock=lambda: datetime.now(UTC),
        journal=home.path / "ceremony" / "journal.jsonl",
    )
    with Vault.open(home) as vault:
        made = Installation(home, keys, vault)
        yield made
        made.close()


@pytest.fixture(scope="module")
def officers(installation: Installation) -> dict[str, Credential]:
    return {
        "vetter": installation.appoint("vetting-officer-1", "vetting_officer"),
        "approver": installation.appoint("approving-officer-1", "approving_officer"),
        "approver-2": installation.appoint("approving-officer-2", "approving_officer"),
    }


def test_the_ceremony_in_tokens_verifies(installation: Installation) -> None:
    assert verify(installation.home.pki, now=datetime.now(UTC)).certificates == 31


def test_the_services_process_cannot_reach_the_roots_key(installation: Installation) -> None:
    names = {key.name for key in installation.vault.as_caller("ceremony").list_keys()}

    assert "root" not in names
    assert {"brand", "merchant-ca", "attestation", "ra-system"} <= names


def test_founders_appoint_officers_and_officers_enrol_a_merchant(
    installation: Installation, officers: dict[str, Credential], tmp_path: Path
) -> None:
    office = installation.office
    case = office.merchant_case({"signing": csr(p256())})
    case = office.decided(office.decided(case, "vet", officers["vetter"]), "approve", officers["approver"])

    record = installation.authority.issuance.issue(case)["signing"]

    assert installation.judge(record, tmp_path)
    revoked = installation.authority.revocation.apply(
        office.revocation(record.certificate, officers["vetter"], reason="cessationOfOperation")
    )
    assert revoked.crl is not None
    assert not installation.judge(record, tmp_path)


def test_the_next_key_is_certified_by_one_officer_while_the_certificate_it_follows_is_in_force(
    installation: Installation, officers: dict[str, Credential], tmp_path: Path
) -> None:
    """The HSM service judges the proof of the old key itself, by the list of whoever issued what is replaced."""
    office, authority, old_key = installation.office, installation.authority, p256()
    subject = MERCHANT.model_copy(update={"merchant_id": "M-next"})
    case = office.merchant_case({"signing": csr(old_key)}, subject=subject, application_id="case-next-0")
    case = office.decided(office.decided(case, "vet", officers["vetter"]), "approve", officers["approver"])
    old = authority.issuance.issue(case)["signing"]

    def next_case(number: int) -> Dossier:
        key, application_id = p256(), f"case-next-{number}"
        content = build_rekey(application_id, old.certificate, [spki_sha256(key.public_key())], office.now)
        chain = authority.hierarchy.chain(old.issuer)
        proof = cms_signed.sign(
            CT_REKEY, content, key=old_key, signer=old.certificate, chain=chain, signing_time=office.now
        )
        made = office.case(
            subject,
            {"signing": csr(key)},
            (evidence("old_key", at=office.now, body=proof),),
            application_id=application_id,
            replaces={"signing": sha256(old.der)},
        )
        return office.decided(made, "approve", officers["approver"])

    assert installation.judge(authority.issuance.issue(next_case(1))["signing"], tmp_path)
    signed_ahead = next_case(2)
    authority.revocation.apply(office.revocation(old.certificate, officers["vetter"], reason="keyCompromise"))
    with pytest.raises(NotApprovedError, match="REKEY"):
        authority.issuance.issue(signed_ahead)


def test_a_gateway_is_certified_only_for_keys_that_the_token_attests(
    installation: Installation, officers: dict[str, Credential], tmp_path: Path
) -> None:
    office, vault = installation.office, installation.vault.as_caller("service:gateway")
    subject = name(cn="Gateway One", o="Acquirer").public_bytes()
    requests: dict[Purpose, bytes] = {}
    pieces = []
    for purpose in ("signing", "encryption"):
        key = installation.vault.generate_key("ceremony", f"gateway-{purpose}", f"gateway-{purpose}")
        requests[purpose] = vault.certification_request(key.name, subject)  # type: ignore[index]  # a Purpose
        pieces.append(evidence("key_attestation", at=office.now, body=vault.attest_key(key.name)))
    case = office.case(GATEWAY, requests, tuple(pieces), application_id="case-gw")

    def decided(dossier: Any) -> Any:
        dossier = office.decided(dossier, "vet", officers["vetter"])
        dossier = office.decided(dossier, "approve", officers["approver"], officers["approver-2"])
        return office.decided(dossier, "release", installation.founders[0])

    issued = installation.authority.issuance.issue(decided(case))

    assert {purpose: role_of(record.certificate) for purpose, record in issued.items()} == {
        "signing": Role.GATEWAY_SIGNING,
        "encryption": Role.GATEWAY_ENCRYPTION,
    }
    assert all(installation.judge(record, tmp_path) for record in issued.values())
    vault.attach_certificate(
        "gateway-signing",
        [issued["signing"].der, *(pem_to_der(above) for above in installation.authority.hierarchy.chain("gateway-ca"))],
    )
    soft = office.case(GATEWAY, {**requests, "signing": csr(p256())}, tuple(pieces), application_id="case-soft")
    with pytest.raises(NotApprovedError, match="KEY-TOKEN"):
        installation.authority.issuance.issue(decided(soft))


def pem_to_der(certificate: x509.Certificate) -> bytes:
    return openssl("x509", "-outform", "DER", stdin=pem(certificate))


def test_after_a_restart_everything_is_still_known(installation: Installation, officers: dict[str, Credential]) -> None:
    certificate = officers["vetter"].certificate
    story = installation.authority.story("operations-ca", format(certificate.serial_number, "x"))

    assert story.certificate.spki_sha256 == spki_sha256(certificate.public_key()).hex()
    assert story.intent is not None
    assert {each["person"] for each in story.intent.approvals} == {"security-officer-1", "security-officer-2"}
    installation.authority.start()  # as a restart does: imports, loads and resumes, and changes nothing
    again = installation.authority.story("operations-ca", story.certificate.serial)
    assert again.intent is not None
    intent = replace(again.intent, lease_owner=story.intent.lease_owner, lease_until=story.intent.lease_until)
    assert replace(again, intent=intent) == story


def test_whoever_took_over_the_cas_process_gets_no_certificate_without_officers(
    installation: Installation, officers: dict[str, Credential]
) -> None:
    office, key = installation.office, p256()
    issuance, signer = installation.authority.issuance, installation.vault.as_caller("service:ca")
    subject = OfficerSubject(person_id="mallory", name="Mallory", organisation="RA", roles=("approving_officer",))
    case = office.case(subject, {"signing": csr(key)}, application_id="case-mallory")
    case = office.decided(case, "sponsor", installation.founders[0])
    issuer = installation.authority.hierarchy["operations-ca"].issuer
    (order,) = orders(case, office.pack, not_after=None)
    tbs = prepare(
        order.profile,
        order.holder,
        issuer=issuer,
        serial=new_serial(os.urandom),
        now=datetime.now(UTC),
        publication=PUBLICATION,
    )
    crls = installation.authority.publisher.supporting("operations-ca")

    for basis in (None, Basis(case.to_json(), crls)):
        with pytest.raises(SigningRefusedError):  # CPS 4.3.1: one of the two officers is missing
            sign_certificate(signer, "operations-ca", tbs, issuer.public_key, basis)

    decided = office.decided(case, "approve", installation.founders[1])
    record = issuance.issue(decided)["signing"]
    assert record.spki_sha256 == spki_sha256(key.public_key()).hex()
    with pytest.raises(SigningRefusedError):  # one approval, one certificate: this TBS has another serial number
        sign_certificate(signer, "operations-ca", tbs, issuer.public_key, Basis(decided.to_json(), crls))


def test_the_crl_of_an_authority_whose_key_was_rotated_is_signed_by_the_key_that_it_certified_with(
    installation: Installation, officers: dict[str, Credential]
) -> None:
    issuer, brand = (installation.authority.hierarchy[each] for each in ("operations-ca", "brand"))
    leaver = officers["approver-2"].certificate
    assert installation.vault.life.rotate("ceremony", "operations-ca").version == 2
    new = installation.vault.describe_key("ceremony", "operations-ca", 2).public_key
    tbs = recertified(issuer.certificate, load_der_public_key(new), brand.issuer.public_key)
    certified = installation.vault.sign_certificate("ceremony", "brand", tbs).signed
    installation.vault.attach_certificate("ceremony", "operations-ca", [certified, pem_to_der(brand.certificate)])
    assert installation.vault.describe_key("service:ca", "operations-ca").version == 2

    revocation = installation.office.revocation(leaver, installation.founders[0], reason="cessationOfOperation")
    record = installation.authority.revocation.apply(revocation).crl

    assert record is not None
    crl = x509.load_der_x509_crl((installation.home.pki / "crls" / "operations-ca.crl").read_bytes())
    verify_crl(crl, issuer.certificate, crl.last_update_utc)
    assert crl.get_revoked_certificate_by_serial_number(leaver.serial_number) is not None
    with pytest.raises(SigningRefusedError):  # with the certificate of the retired version nothing new is issued
        installation.appoint("vetting-officer-2", "vetting_officer")


def recertified(certificate: x509.Certificate, key: Any, issuer_key: Any) -> bytes:
    """TBSCertificate (DER) like that of `certificate`, for another key."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.issuer)
        .public_key(key)
        .serial_number(int.from_bytes(os.urandom(16), "big") | 1 << 120)
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
    )
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectKeyIdentifier):
            value = x509.SubjectKeyIdentifier.from_public_key(key)
        builder = builder.add_extension(value, critical=extension.critical)
    return tbs_certificate(builder, issuer_key)


def test_a_ceremony_in_tokens_that_stopped_is_undone_and_run_again(installation: Installation) -> None:
    """The key is destroyed in the token and its name is free again; nothing of it was published."""
    room = installation.vault.as_caller("ceremony")
    journal = installation.home.path / "ceremony" / "journal.jsonl"
    text = ready_made()["key-backup-recipient"].read_text(encoding="utf-8").replace("backup-recipient", "raw-ec")
    text = text.replace("template: raw-ec", "template: raw-ec, owner: bench")
    made = act(installation.home.pki, text)
    rooms: dict[str, Any] = {
        "service_room": lambda: contextlib.nullcontext(room),
        "root_room": lambda: contextlib.nullcontext(room),
        "folder": installation.home.pki,
        "clock": lambda: datetime.now(UTC),
    }

    def stop(step: Any, _entry: Any) -> None:
        raise OSError(f"the power failed after {step}")

    with pytest.raises(CeremonyAbortedError):
        run(made, journal=journal, rng=os.urandom, progress=stop, **rooms)
    assert "backup-1" in {key.name for key in room.list_keys()}

    done = undo(journal, revoke=lambda _issuer, _entries: None, **rooms)

    assert done.destroyed == ("backup-1",)
    assert "backup-1" not in {key.name for key in room.list_keys()}
    again = act(installation.home.pki, text)
    run(again, journal=journal, rng=os.urandom, **rooms)
    assert verify(installation.home.pki, now=datetime.now(UTC)).keys == 23


def test_a_key_in_service_is_not_taken_back(installation: Installation) -> None:
    for caller, key, refusal in (
        ("ceremony", "merchant-ca", "key-certified"),
        ("ceremony", "nobody", "key-not-found"),
        ("service:ca", "merchant-ca", "ceremony-only"),
    ):
        with pytest.raises(Problem) as refused:
            installation.vault.keys.take_back(caller, key)
        assert refused.value.type == refusal
    assert installation.vault.describe_key("ceremony", "merchant-ca").state == "ENABLED"
