"""A registration authority in service before a certificate authority in service, for tests.

    world = RaWorld(tmp_path, Office())
    application = world.open_merchant()                    # submitted, with all documents on file
    world.decide(application.id, "vet", world.office.vetter)

The CA is the real one (`CaWorld`), called through its own application and client without sockets.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509

from ca.app import create_app as create_ca_app
from ca.client import CaClient
from cps.acceptance import build_acceptance
from cps.check_model import CheckKind
from cps.decision import Choice
from cps.dossier import MerchantSubject
from cps.model import Purpose
from cps.register import PackRegister
from pki import cms_signed
from pki.extensions import OfficerData
from pki.keys import spki_sha256
from pki.oids import CT_ACCEPTANCE
from pki.path import Trust
from ra.access import Actor
from ra.authority import CertificateAuthority
from ra.openers import name_of
from ra.record import Record
from ra.records import Application
from ra.store import Store
from ra.submission import Submission
from ra.workflow import NewEvidence, Screener, Workflow
from runtime.database import open_database
from runtime.identity import SCOPE_KEY, Caller
from tests.support.ca_world import CaWorld, Clock
from tests.support.cps_cases import BIN, COMMITMENT, MERCHANT, OFFICER, Office, csr
from tests.support.databases import ra_database
from tests.support.pki_factory import Credential, Key, p256, rsa_key

OPERATOR = Actor("service:operator")
ANONYMOUS = Actor(name_of("a secret"))
DOCUMENTS = ("acquirer_agreement", "company_register", "iban_owner")


def as_caller(app: Any, caller: Caller) -> Any:
    """The ASGI application, always called by `caller`."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        scope[SCOPE_KEY] = caller
        await app(scope, receive, send)

    return called


class InProcess(httpx.BaseTransport):
    """Hands requests to an ASGI application in this process."""

    def __init__(self, app: Any) -> None:
        self._app = httpx.ASGITransport(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run(self._answer(request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        sent = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
        response = await self._app.handle_async_request(sent)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)


class InProcessCa(CaClient):
    """The CA's own client on the CA's own application, without a socket between."""

    def __init__(self, world: CaWorld) -> None:
        self._world = world
        self._timeout = 60.0

    @cached_property
    def _http(self) -> httpx.Client:  # type: ignore[override]  # made at the first call, which most tests never make
        app = as_caller(create_ca_app(self._world.authority), Caller("service", "ra"))
        return httpx.Client(transport=InProcess(app), base_url="http://ca")


def officer(credential: Credential) -> Actor:
    """The actor that an officer's credential makes."""
    data = OfficerData.from_certificate(credential.certificate)
    assert data is not None
    return Actor(f"officer:{data.person_id}", data.organisation, data.person_id, frozenset(data.roles), data.grants)


class RaWorld:
    """An RA over `folder`; another one over the same folder is the RA after a restart."""

    def __init__(
        self,
        folder: Path,
        office: Office,
        *,
        ca: CaWorld | None = None,
        authority: Callable[[CertificateAuthority], CertificateAuthority] = lambda ca: ca,
        sign: Callable[[x509.ObjectIdentifier, bytes], bytes] | None = None,
        screener: Callable[[RaWorld], Screener] | None = None,
        database: str | None = None,
        replica: str = "ra",
    ) -> None:
        """`authority` may put something between the RA and the CA; `screener` makes one that asks registers.

        `database` is a URL, by default of a file in the folder; `replica` names this RA among those that share it.
        """
        self.office = office
        self.ca = ca or CaWorld(folder, office)
        self.clock: Clock = self.ca.clock
        self.trust_source: Callable[[], Trust] = self.ca.authority.publisher.trust
        self.engine = open_database(database or ra_database("sqlite", folder / "db"))
        self.store = Store(self.engine, replica=replica)
        self.journal = folder / "audit" / "ra.jsonl"
        self.record = Record.open(self.journal, self.store)
        self.register = PackRegister((office.pack,))
        self.workflow = Workflow(
            store=self.store,
            record=self.record,
            statements=lambda: self.register,
            authority=authority(InProcessCa(self.ca)),
            trust=lambda _now: self.trust_source(),
            sign=sign or self._sign,
            rng=os.urandom,
            clock=self.clock,
            screener=None if screener is None else screener(self),
            blinding=b"blinding",
        )

    def _sign(self, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
        return self.office.ra.sign(content_type, content, signing_time=self.clock.now)

    def close(self) -> None:
        """Let go of journals and databases, as the end of the process does."""
        self.record.close()
        self.engine.dispose()
        self.ca.close()

    @property
    def now(self) -> datetime:
        return self.clock.now

    # Applications

    def open_merchant(
        self,
        *,
        key: Key | None = None,
        opener: Actor = OPERATOR,
        documents: tuple[str, ...] = DOCUMENTS,
        csrs: Mapping[Purpose, bytes] | None = None,
        **changes: Any,
    ) -> Application:
        """A submitted merchant with documents on file; `changes` go to the subject."""
        subject = merchant_subject(**changes)
        application = self.workflow.open(opener, "merchant")
        submission = Submission(subject, csrs or {"signing": csr(key or p256())})
        application = self.workflow.submit(opener, application.id, submission)
        for kind in documents:
            application = self.add_document(application.id, kind)
        return application

    def add_document(self, application_id: str, kind: str) -> Application:
        """A document that the vetting officer saw, or what a register answered, as the RA signs it."""
        if kind in ("company_register", "iban_owner"):
            return self.add_answer(application_id, "company_register" if kind == "company_register" else "iban_owner")
        new = NewEvidence(kind=kind, body=f"{kind} of {application_id}".encode(), source="register")
        return self.workflow.add_evidence(officer(self.office.vetter), application_id, new)

    def add_answer(self, application_id: str, kind: CheckKind, **changes: Any) -> Application:
        """A register's answer about the application as it is now, as the RA signs it and takes it in."""
        revision = self.workflow.dossier(self.store.application(application_id)).revision
        body = self.office.answer(revision, kind, **{"date": self.now, **changes})
        new = NewEvidence(kind=kind, body=body, source="register")
        return self.workflow.add_evidence(OPERATOR, application_id, new)

    def open_officer(self, *, key: Key | None = None, **changes: Any) -> Application:
        subject = OFFICER.model_copy(update=changes).model_dump(mode="json", by_alias=True)
        application = self.workflow.open(OPERATOR, "officer")
        return self.workflow.submit(OPERATOR, application.id, Submission(subject, {"signing": csr(key or p256())}))

    def open_gateway(self, gateway_id: str = "GW-1") -> Application:
        """A submitted gateway with both keys attested."""
        signing, encryption = p256(), rsa_key(3)
        subject = {
            "gateway_id": gateway_id,
            "name": "Gateway One",
            "organisation": "Acquirer",
            "acquirer_bin": BIN,
            "suites": ["oaep-sha256"],
        }
        application = self.workflow.open(OPERATOR, "gateway")
        for key in (signing, encryption):
            body = self.office.attestation(spki_sha256(key.public_key()), at=self.now)
            self.workflow.add_evidence(
                OPERATOR, application.id, NewEvidence(kind="key_attestation", body=body, source="hsm")
            )
        csrs: dict[Purpose, bytes] = {"signing": csr(signing), "encryption": csr(encryption)}
        return self.workflow.submit(OPERATOR, application.id, Submission(subject, csrs))

    def open_cardholder(
        self, *, key: Key | None = None, commitment: str = COMMITMENT, bin_: str = BIN, confirmed: bool = True
    ) -> Application:
        """An anonymous applicant's card, confirmed by its bank."""
        key = key or p256()
        application = self.workflow.open(ANONYMOUS, "cardholder")
        if confirmed:
            self.confirm(application.id, key, commitment=commitment, bin_=bin_)
        subject = {"commitment": commitment, "bin": bin_}
        return self.workflow.submit(ANONYMOUS, application.id, Submission(subject, {"signing": csr(key)}))

    def confirm(self, application_id: str, key: Key, **changes: Any) -> Application:
        """The issuing bank's confirmation, put on file by the applicant."""
        fields: dict[str, Any] = {"spki_sha256": spki_sha256(key.public_key()), "date": self.now}
        body = self.office.confirmation(**{**fields, **changes})
        new = NewEvidence(kind="issuer_bank_confirmation", body=body, source="issuer")
        return self.workflow.add_evidence(ANONYMOUS, application_id, new)

    # Decisions

    def sign(self, application_id: str, step: str, by: Credential, **changes: Any) -> bytes:
        """A decision on the application as it is now."""
        dossier = self.workflow.dossier(self.store.application(application_id))
        changes.setdefault("date", self.now)
        return self.office.decision(dossier, step, by, **changes)

    def decide(self, application_id: str, step: str, by: Credential, **changes: Any) -> Application:
        """Sign a decision and hand it in."""
        signed = self.sign(application_id, step, by, **changes)
        return self.workflow.decide(OPERATOR, application_id, signed)

    def reject(self, application_id: str, step: str, by: Credential) -> Application:
        return self.decide(
            application_id, step, by, choice=Choice.REJECT, code="misleading_name", reason="not the shop it says"
        )

    def acceptance(self, application_id: str, key: Key) -> bytes:
        """The acceptance of a case's certificates, signed with one of the certified keys."""
        issued = self.store.certificates(application_id)
        certificates = [x509.load_der_x509_certificate(each.der) for each in issued]
        signer = next(each for each in certificates if each.public_key() == key.public_key())
        return cms_signed.sign(
            CT_ACCEPTANCE,
            build_acceptance(application_id, certificates, self.now),
            key=key,
            signer=signer,
            chain=[x509.load_der_x509_certificate(der) for der in issued[0].chain],
            signing_time=self.now,
        )

    def certified_merchant(self, **changes: Any) -> Application:
        """A merchant vetted, approved and certified."""
        application = self.open_merchant(**changes)
        self.decide(application.id, "vet", self.office.vetter)
        return self.decide(application.id, "approve", self.office.approver)


def merchant_subject(**changes: Any) -> dict[str, Any]:
    """The JSON of a merchant's subject as an applicant writes it: the account's salt is the RA's business."""
    fields = MerchantSubject.model_validate(MERCHANT).model_copy(update=changes)
    return fields.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"iban_salt"})
