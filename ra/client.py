"""The registration authority as its callers see it: `RaClient`."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import BaseModel, TypeAdapter

from cps.model import MemberClass, Purpose
from ra.checks.views import CheckView, GiveCode, GivePhone, PhoneView
from ra.est_wire import CodeView, PrepareEst
from ra.left_wire import LeftView, SeenJournal, TakenOverView, TakeOver
from ra.notices.kinds import NoticeState
from ra.notices.wire import NoticeView, RetriedView, RetryNotices
from ra.queue_order import Order
from ra.queue_wire import QueuePage, StatisticsView
from ra.states import State
from ra.story_wire import StoryView
from ra.wire import (
    Accept,
    AddEvidence,
    ApplicationSummary,
    ApplicationView,
    CertificateView,
    CredentialView,
    DossierView,
    OfficerView,
    OpenApplication,
    OpenedView,
    PackView,
    PostDecision,
    PostReview,
    Reason,
    ReviewView,
    Revoke,
    RevokedView,
    Submit,
    Wire,
    Withdraw,
)
from runtime.client import TlsFiles, http_client, raise_problem
from runtime.language import Language
from runtime.problems import Problem

__all__ = [
    "ApplicationSummary",
    "ApplicationView",
    "CertificateView",
    "CheckView",
    "CredentialView",
    "DossierView",
    "LeftView",
    "NoticeState",
    "NoticeView",
    "OfficerView",
    "PackView",
    "PhoneView",
    "RaClient",
    "RevokedView",
    "SeenJournal",
    "State",
    "StoryView",
    "TakenOverView",
]

_JSON = {"content-type": "application/json"}
_OFFICERS = TypeAdapter(tuple[OfficerView, ...])
_IDS = TypeAdapter(tuple[str, ...])
_CHECKS = TypeAdapter(tuple[CheckView, ...])
_REVIEWS = TypeAdapter(tuple[ReviewView, ...])
_LEFT = TypeAdapter(tuple[LeftView, ...])
_NOTICES = TypeAdapter(tuple[NoticeView, ...])


class RaClient:
    """Calls the RA over TLS. Every method raises `runtime.problems.Problem` when the RA refuses or does not answer."""

    def __init__(
        self,
        url: str,
        tls: TlsFiles | None = None,
        *,
        ca: Path | None = None,
        timeout: float = 60.0,
        language: Language = Language.EN,
        signer: httpx.Auth | None = None,
        secret: str | None = None,
    ) -> None:
        """`tls` is the caller's certificate and key; an anonymous applicant passes `ca`, the pinned roots, and for an
        application that they opened before its `secret`.

        With `signer` (`ra.request_signer`) it is who signs that acts, and `tls` only carries what is signed.

        `timeout` in seconds a call: the last decision on a case waits for the CA and its token. `language` is that of
        whoever reads findings and refusals.
        """
        self._http = http_client(tls, url, ca=ca, timeout=timeout, language=language)
        if signer is not None:
            self._http.auth = signer
        if secret is not None:
            self._http.headers["authorization"] = f"Bearer {secret}"

    def statement(self) -> PackView:
        """The CPS in force."""
        return PackView.model_validate_json(self._get("/v1/cps"))

    # applications

    def open(
        self,
        member_class: MemberClass,
        *,
        contact: str | None = None,
        language: Language | None = None,
        replaces: str | None = None,
    ) -> OpenedView:
        """Open a draft; `nonce` of the answer is what a cardholder's commitment is made with.

        `contact`: an e-mail address that is told what becomes of it, in `language`. `replaces`: the certified
        application whose keys are replaced; `submit` then takes new requests and no subject. A caller without a
        certificate gets a `secret`: this client brings it to every call from then on, another one is given it.
        """
        body = {"class": member_class, "contact": contact, "language": language, "replaces": replaces}
        answer = self._post("/v1/applications", OpenApplication.model_validate(body))
        opened = OpenedView.model_validate_json(answer)
        if opened.secret is not None:
            self._http.headers["authorization"] = f"Bearer {opened.secret}"
        return opened

    def submit(
        self,
        application_id: str,
        subject: BaseModel | Mapping[str, Any],
        csrs: Mapping[Purpose, bytes],
        *,
        national_code: str | None = None,
        version: int | None = None,
    ) -> ApplicationView:
        """Submit a draft: the subject (of `cps.dossier`, or its JSON) and a PKCS#10 request (DER or PEM) by purpose."""
        return self._view(f"/v1/applications/{application_id}/submit", _submit(subject, csrs, national_code, version))

    def prepare_est(
        self, application_id: str, subject: Mapping[str, Any], *, national_code: str | None = None
    ) -> CodeView:
        """Prepare a case for a machine that enrols by EST; the code of the answer is shown this once."""
        body = PrepareEst(subject=dict(subject), national_code=national_code)
        answer = self._post(f"/v1/applications/{application_id}/est", body)
        return CodeView.model_validate_json(answer)

    def amend(
        self,
        application_id: str,
        subject: BaseModel | Mapping[str, Any],
        csrs: Mapping[Purpose, bytes],
        *,
        national_code: str | None = None,
        version: int | None = None,
    ) -> ApplicationView:
        """Write a new revision of a returned or waiting application."""
        return self._view(f"/v1/applications/{application_id}/amend", _submit(subject, csrs, national_code, version))

    def apply(
        self,
        member_class: MemberClass,
        subject: BaseModel | Mapping[str, Any],
        csrs: Mapping[Purpose, bytes],
        *,
        national_code: str | None = None,
        contact: str | None = None,
    ) -> ApplicationView:
        """Open and submit in one go."""
        opened = self.open(member_class, contact=contact)
        return self.submit(opened.id, subject, csrs, national_code=national_code)

    def withdraw(self, application_id: str, reason: str = "") -> ApplicationView:
        """End an open application."""
        return self._view(f"/v1/applications/{application_id}/withdraw", Withdraw(reason=reason))

    def list(
        self, *, states: Iterable[State] = (), member_class: MemberClass | None = None
    ) -> list[ApplicationSummary]:
        """The newest applications in one of the states (any, if none is named), newest first; 200 at most."""
        classes = () if member_class is None else (member_class,)
        return list(self.queue(states=states, classes=classes, sort=Order.NEWEST, limit=200).applications)

    def queue(
        self,
        *,
        states: Iterable[State] = (),
        classes: Iterable[MemberClass] = (),
        roles: Iterable[str] = (),
        mine: bool = False,
        overdue: bool = False,
        begins: str = "",
        sort: Order = Order.URGENCY,
        after: str | None = None,
        limit: int = 50,
    ) -> QueuePage:
        """A page of the cases with all the given properties, see `ra.queue`; the next is `after` = `next` of this one.

        `roles`: waits for one of them; `mine`: for a role that the caller holds. `begins`: the beginning of a subject's
        id or of an organisation. `limit` is 200 at most.
        """
        query: dict[str, Any] = {
            "state": [str(state) for state in states],
            "class": [*classes],
            "role": [*roles],
            "mine": mine,
            "overdue": overdue,
            "begins": begins,
            "sort": str(sort),
            "limit": limit,
        }
        if after is not None:
            query["after"] = after
        return QueuePage.model_validate_json(self._get("/v1/applications", query))

    def statistics(self) -> StatisticsView:
        """What waits for whom, how long already, and what is late."""
        return StatisticsView.model_validate_json(self._get("/v1/statistics"))

    def beginning_with(self, prefix: str) -> tuple[str, ...]:
        """The ids of the applications that begin so, at most ten of them; for whoever types the first digits only."""
        return _IDS.validate_json(self._get(f"/v1/application-ids/{prefix}"))

    def show(self, application_id: str) -> ApplicationView:
        """An application with everything on its file; `certificates` once it is ISSUED."""
        return ApplicationView.model_validate_json(self._get(f"/v1/applications/{application_id}"))

    # evidence, decisions

    def add_evidence(
        self, application_id: str, kind: str, body: bytes, *, source: str, expires_at: datetime | None = None
    ) -> ApplicationView:
        """Put evidence on file."""
        new = AddEvidence(kind=kind, body=body, source=source, expires_at=expires_at)
        return self._view(f"/v1/applications/{application_id}/evidence", new)

    def upload_evidence(
        self,
        application_id: str,
        kind: str,
        body: Iterable[bytes],
        *,
        sha256: bytes,
        size: int,
        source: str,
        media_type: str = "application/octet-stream",
        expires_at: datetime | None = None,
    ) -> ApplicationView:
        """Put a document on file as it is, in pieces: `size` bytes with this digest (`ra.evidence_routes`)."""
        query = {"source": source} | ({} if expires_at is None else {"expires_at": expires_at.isoformat()})
        headers = {
            "content-type": media_type,
            "content-length": str(size),
            "content-digest": f"sha-256=:{base64.b64encode(sha256).decode()}:",
        }
        path = f"/v1/applications/{application_id}/evidence/{kind}"
        try:
            answer = self._http.post(path, params=query, content=body, headers=headers)
        except httpx.TransportError as error:
            raise _away(error) from error
        return ApplicationView.model_validate_json(raise_problem(answer).content)

    def evidence(self, application_id: str, sha256: bytes) -> bytes:
        """A document on file."""
        return self._get(f"/v1/applications/{application_id}/evidence/{sha256.hex()}")

    def dossier(self, application_id: str) -> DossierView:
        """The case to judge and sign (`ra.officer`)."""
        return DossierView.model_validate_json(self._get(f"/v1/applications/{application_id}/dossier"))

    def decide(self, application_id: str, decision: bytes) -> ApplicationView:
        """Hand in a signed decision (CMS, DER)."""
        return self._view(f"/v1/applications/{application_id}/decisions", PostDecision(decision=decision))

    def hold(self, application_id: str, reason: str, *, version: int | None = None) -> ApplicationView:
        """Stop a case for the time being."""
        return self._view(f"/v1/applications/{application_id}/hold", Reason(reason=reason, version=version))

    def release(self, application_id: str, reason: str, *, version: int | None = None) -> ApplicationView:
        """Let a held case go on."""
        return self._view(f"/v1/applications/{application_id}/release", Reason(reason=reason, version=version))

    def send_back(self, application_id: str, reason: str, *, version: int | None = None) -> ApplicationView:
        """Return a case to its applicant."""
        return self._view(f"/v1/applications/{application_id}/return", Reason(reason=reason, version=version))

    def accept(self, application_id: str, acceptance: bytes | None = None) -> ApplicationView:
        """Accept the certificates of a case, by a signed statement (`cps.acceptance`) or as who opened it."""
        return self._view(f"/v1/applications/{application_id}/accept", Accept(acceptance=acceptance))

    def issue(self, application_id: str) -> ApplicationView:
        """Ask the CA again for an approved case."""
        return ApplicationView.model_validate_json(self._post(f"/v1/applications/{application_id}/issue", None))

    # certificates

    def notices(self, *, states: Iterable[NoticeState] = ()) -> tuple[NoticeView, ...]:
        """Notices in one of the states, newest first; by default those that could not be delivered."""
        return _NOTICES.validate_json(self._get("/v1/notices", {"state": [state.value for state in states]}))

    def retry_notices(self, identifier: str | None = None) -> int:
        """Have an undelivered notice, or all of them, delivered after all; how many these were."""
        answer = self._post("/v1/notices/retry", RetryNotices(id=identifier))
        return RetriedView.model_validate_json(answer).count

    def checks(self, application_id: str) -> tuple[CheckView, ...]:
        """What registers of others were asked about an application, and what they answered."""
        return _CHECKS.validate_json(self._get(f"/v1/applications/{application_id}/checks"))

    def give_phone(self, application_id: str, phone: str) -> PhoneView:
        """Give the applicant's mobile number, or have another code sent to it."""
        return PhoneView.model_validate_json(
            self._post(f"/v1/applications/{application_id}/phone", GivePhone(phone=phone))
        )

    def confirm_phone(self, application_id: str, code: str) -> PhoneView:
        """Type in the code that came to the phone."""
        return PhoneView.model_validate_json(
            self._post(f"/v1/applications/{application_id}/phone/code", GiveCode(code=code))
        )

    def revoke(self, statement: bytes) -> RevokedView:
        """Hand in a signed order to revoke (CMS, DER)."""
        return RevokedView.model_validate_json(self._post("/v1/revocations", Revoke(statement=statement)))

    def explain(self, serial: str) -> StoryView:
        """The story of the certificate with this serial number (hexadecimal)."""
        return StoryView.model_validate_json(self._get(f"/v1/certificates/{serial}/story"))

    def explain_application(self, application_id: str) -> StoryView:
        """The story of a case, also of one that never came to a certificate."""
        return StoryView.model_validate_json(self._get(f"/v1/applications/{application_id}/story"))

    # officers

    def officers(self) -> tuple[OfficerView, ...]:
        """Everybody who is or was an officer."""
        return _OFFICERS.validate_json(self._get("/v1/officers"))

    def officer(self, person_id: str) -> OfficerView:
        """One officer."""
        return OfficerView.model_validate_json(self._get(f"/v1/officers/{person_id}"))

    def reviews(self) -> tuple[ReviewView, ...]:
        """Orders that one officer gave alone and nobody has reviewed, the most urgent first."""
        return _REVIEWS.validate_json(self._get("/v1/reviews"))

    def review(self, order_sha256: str, review: bytes) -> ReviewView:
        """Hand in the signed review of an order."""
        return ReviewView.model_validate_json(self._post(f"/v1/reviews/{order_sha256}", PostReview(review=review)))

    def left_behind(self) -> tuple[LeftView, ...]:
        """What lost replicas stored and wrote into no journal, the oldest first."""
        return _LEFT.validate_json(self._get("/v1/left-behind"))

    def take_over(self, replica: str, journal: SeenJournal | None) -> TakenOverView:
        """Have what a lost replica left written, but for what stands in its journal; None: that is gone."""
        answer = self._post(f"/v1/left-behind/{replica}", TakeOver(journal=journal))
        return TakenOverView.model_validate_json(answer)

    # transport

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _view(self, path: str, body: Wire) -> ApplicationView:
        return ApplicationView.model_validate_json(self._post(path, body))

    def _post(self, path: str, body: Wire | None) -> bytes:
        content = b"" if body is None else body.to_json()
        try:
            return raise_problem(self._http.post(path, content=content, headers=_JSON)).content
        except httpx.TransportError as error:
            raise _away(error) from error

    def _get(self, path: str, query: Mapping[str, Any] | None = None) -> bytes:
        try:
            return raise_problem(self._http.get(path, params=query)).content
        except httpx.TransportError as error:
            raise _away(error) from error


def _submit(
    subject: BaseModel | Mapping[str, Any],
    csrs: Mapping[Purpose, bytes],
    national_code: str | None,
    version: int | None,
) -> Submit:
    fields = (
        subject.model_dump(mode="json", by_alias=True, exclude_none=True)
        if isinstance(subject, BaseModel)
        else dict(subject)
    )
    return Submit(subject=fields, csrs=dict(csrs), national_code=national_code, version=version)


def _away(error: httpx.TransportError) -> Problem:
    return Problem(503, "ra-unreachable", f"the registration authority does not answer: {type(error).__name__}")
