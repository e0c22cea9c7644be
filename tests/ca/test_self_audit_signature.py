"""The signature of a self-audit's report, judged offline by us and by OpenSSL; each twin has one thing wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy import insert, update

from ca import tables
from ca.errors import SelfAuditError
from ca.self_audit_signature import statement_of, verify_report
from ca.self_auditor import ReportRecord
from hsm_service.service import SigningService
from pki import oids
from pki.cms_signed import sign
from pki.oids import CT_BCI, CT_SELF_AUDIT
from pki.self_audit import SelfAudit
from runtime.problems import Problem
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office
from tests.support.der_surgery import parse
from tests.support.judges import openssl
from tests.support.pki_factory import Credential, PkiFactory, pem
from tests.support.signed_data_twins import ATTRIBUTES, Twin

TLS = {"extended_key_usage": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, office: Office) -> Iterator[CaWorld]:
    made = CaWorld(tmp_path_factory.mktemp("signed"), office)
    made.authority.issuance.issue(made.approved_merchant())
    made.clock.forward(timedelta(minutes=10))
    yield made
    made.close()


@pytest.fixture(scope="module")
def kept(world: CaWorld) -> ReportRecord:
    return world.authority.self_audit.audit(share=1)


def signature(kept: ReportRecord) -> bytes:
    assert kept.signed is not None
    return kept.signed


def by(
    credential: Credential, content: SelfAudit, at: datetime, content_type: x509.ObjectIdentifier = CT_SELF_AUDIT
) -> bytes:
    return sign(
        content_type, content.to_der(), key=credential.key, signer=credential.certificate, chain=credential.chain,
        signing_time=at,
    )  # fmt: skip


def test_a_report_is_signed_as_it_is_kept_and_verified_from_public_files(world: CaWorld, kept: ReportRecord) -> None:
    found = verify_report(kept.report, signature(kept), world.folder)
    assert (found.sha256, found.report) == (kept.sha256, kept.parsed)
    assert found.signed_at == world.clock.now.replace(microsecond=0)
    assert world.authority.self_audit.report(kept.sha256) == kept


def test_openssl_agrees_and_shows_what_was_signed(world: CaWorld, kept: ReportRecord, tmp_path: Path) -> None:
    (tmp_path / "report.p7s").write_bytes(signature(kept))
    (tmp_path / "root.pem").write_bytes(pem(world.pki.root.certificate))
    content = openssl(
        "cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-in", tmp_path / "report.p7s",
        "-CAfile", tmp_path / "root.pem", "-attime", str(int(world.clock.now.timestamp())),
    )  # fmt: skip
    assert content == statement_of(kept.report).to_der()
    assert SelfAudit.from_der(content).report_sha256 == hashlib.sha256(kept.report).digest()
    shown = openssl("asn1parse", "-inform", "DER", stdin=content).decode()
    assert kept.sha256.upper() in shown


# -- hostile twins


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "no findings": lambda body: body.replace(b'"findings":[]', b'"findings": []'),
    "more looked at": lambda body: body.replace(b'"sampled":1', b'"sampled":2'),
    "another seed": lambda body: body.replace(b'"seed":"', b'"seed":"00'),
    "garbage": lambda _body: b"{}",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_report_that_was_changed_is_refused(world: CaWorld, kept: ReportRecord, change: str) -> None:
    changed = CHANGES[change](kept.report)
    assert changed != kept.report
    with pytest.raises(SelfAuditError, match=r"another report|not the report of a self-audit"):
        verify_report(changed, signature(kept), world.folder)


def test_another_signer_is_refused(world: CaWorld, kept: ReportRecord, office: Office) -> None:
    content, at = statement_of(kept.report), world.clock.now
    verify_report(kept.report, by(world.pki.service("self-audit"), content, at), world.folder)
    for credential, said in (
        (world.pki.service("bci"), "not signed by urn:kwbp:service:self-audit"),
        (world.pki.service("self-audit", replace=TLS), "not signed by urn:kwbp:service"),
        (world.office.security, "officer where service"),
    ):
        with pytest.raises(SelfAuditError, match=said):
            verify_report(kept.report, by(credential, content, at), world.folder)


def test_a_key_below_another_root_is_refused(world: CaWorld, kept: ReportRecord) -> None:
    stranger = PkiFactory(now=world.office.now).service("self-audit")
    with pytest.raises(SelfAuditError, match="does not hold"):
        verify_report(kept.report, by(stranger, statement_of(kept.report), world.clock.now), world.folder)


def test_another_content_type_and_another_time_are_refused(world: CaWorld, kept: ReportRecord) -> None:
    credential, content = world.pki.service("self-audit"), statement_of(kept.report)
    with pytest.raises(SelfAuditError, match="eContentType"):
        verify_report(kept.report, by(credential, content, world.clock.now, CT_BCI), world.folder)
    with pytest.raises(SelfAuditError, match="before it was made"):
        verify_report(kept.report, by(credential, content, world.clock.now - timedelta(minutes=6)), world.folder)


@pytest.mark.parametrize(
    "attribute", [oids.AA_CONTENT_TYPE, oids.AA_MESSAGE_DIGEST, oids.AA_SIGNING_TIME, oids.AA_SIGNING_CERTIFICATE_V2]
)
def test_a_signature_without_an_attribute_is_refused(
    world: CaWorld, kept: ReportRecord, attribute: x509.ObjectIdentifier
) -> None:
    """Signed again without it, so that the signature is not what is wrong."""
    twin = twin_of(world, kept)
    twin.drop(attribute)
    twin.sign_again()
    with pytest.raises(SelfAuditError, match="does not hold"):
        verify_report(kept.report, twin.tree.encode(), world.folder)


def test_a_signature_without_all_attributes_is_refused(world: CaWorld, kept: ReportRecord) -> None:
    twin = twin_of(world, kept)
    del twin.signer_info.children[ATTRIBUTES]
    with pytest.raises(SelfAuditError, match="does not hold"):
        verify_report(kept.report, twin.tree.encode(), world.folder)


def test_a_signature_over_other_attributes_is_refused(world: CaWorld, kept: ReportRecord) -> None:
    twin = twin_of(world, kept)
    assert verify_report(kept.report, twin.tree.encode(), world.folder)
    twin.attribute(oids.AA_SIGNING_TIME).at(1, 0).content = b"260101000000Z"
    with pytest.raises(SelfAuditError, match="signature"):
        verify_report(kept.report, twin.tree.encode(), world.folder)


def twin_of(world: CaWorld, kept: ReportRecord) -> Twin:
    credential = world.pki.service("self-audit")
    twin = Twin(world.pki, credential)
    twin.tree = parse(by(credential, statement_of(kept.report), world.clock.now))
    return twin


def test_a_signer_that_was_revoked_signed_nothing(tmp_path: Path, fresh_office: Office) -> None:
    world = CaWorld(tmp_path, fresh_office)
    kept, credential = world.authority.self_audit.audit(), world.pki.service("self-audit")
    signed = by(credential, statement_of(kept.report), world.clock.now)
    verify_report(kept.report, signed, world.folder)
    world.pki.revoke(credential, at=world.clock.now + timedelta(days=1))
    crl = world.pki.operations_ca.crl(world.clock.now).public_bytes(Encoding.DER)
    (world.folder / "crls" / "operations-ca.crl").write_bytes(crl)
    with pytest.raises(SelfAuditError, match="is revoked"):
        verify_report(kept.report, signed, world.folder)
    world.close()


# -- while the key cannot be asked


class Away:
    """The keys, of which the one of self-audits cannot be asked for as long as told."""

    def __init__(self, keys: SigningService, problem: Problem) -> None:
        self.keys, self.problem, self.is_away = keys, problem, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.keys, name)

    def sign_cms(self, name: str, content_type: str, content: bytes) -> bytes:
        if name == "self-audit" and self.is_away:
            raise self.problem
        return self.keys.sign_cms(name, content_type, content)


@pytest.mark.parametrize("problem", [Problem(503, "token-away", "gone"), Problem(404, "key-not-found", "none")])
def test_a_report_made_while_the_key_is_away_is_kept_and_signed_the_next_night(
    tmp_path: Path, office: Office, problem: Problem
) -> None:
    keys: list[Away] = []
    world = CaWorld(tmp_path, office, signer=lambda found: keys.append(Away(found, problem)) or keys[0])  # type: ignore[arg-type,func-returns-value]
    auditor = world.authority.self_audit
    kept = auditor.nightly()
    assert kept.signed is None
    assert kept in auditor.reports()
    keys[0].is_away = False
    world.clock.forward(timedelta(days=1))
    auditor.nightly()
    verify_report(kept.report, signature(auditor.report(kept.sha256)), world.folder)
    world.close()


def test_a_report_that_somebody_put_into_the_database_is_not_signed(tmp_path: Path, office: Office) -> None:
    world = CaWorld(tmp_path, office)
    auditor = world.authority.self_audit
    kept = auditor.nightly()
    forged = kept.report.replace(b'"issued":', b'"issued": ')
    sha256 = hashlib.sha256(forged).hexdigest()
    with world.engine.begin() as db:
        db.execute(update(tables.self_audits).values(report=forged, signed=None))
        row = {"sha256": sha256, "until": kept.until, "sampled": 0, "findings": 0, "report": forged}
        db.execute(insert(tables.self_audits).values(**row))
    world.clock.forward(timedelta(days=1))
    auditor.nightly()
    assert auditor.report(kept.sha256).signed is None
    assert auditor.report(sha256).signed is None
    world.close()


def test_the_first_signature_stays(world: CaWorld, kept: ReportRecord) -> None:
    """Another replica signed the report in between: what was handed out once is on record for ever."""
    auditor = world.authority.self_audit
    assert auditor._sign(kept).signed == kept.signed
