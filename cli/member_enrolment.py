"""How a merchant and a gateway of this installation get their certificates by the protocol's own messages.

The request is in a file before it is sent: asked again, the same bytes tell how the application stands, and bring the
certificates once they are there. The file goes when there is nothing more to ask.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx
import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ca.errors import StatusError
from ca.files import replace_file
from ca.hierarchy import load_hierarchy
from ca.status_client import StatusCache
from cli import output
from cli.enrolment import now
from cli.state import Installation
from kwbp.codes import RegistrationStatus
from kwbp.error_message import read_error
from kwbp.errors import ProtocolError
from kwbp.registration.answer import CheckedAnswer, SentRequest, check_response
from kwbp.registration.init import build_init_request, check_init_response
from kwbp.registration.messages import InitResTBS
from kwbp.registration.signers import requested_keys
from kwbp.wrapper import KwbpMessage, unwrap
from pki.der import sha256
from pki.oids import CT_ERROR, CT_GW_CERT_REQ, CT_GW_CERT_RES, CT_MER_CERT_REQ, CT_MER_CERT_RES, CT_MER_INIT_RES
from pki.oids import MT_MER_INIT_REQ as INIT_REQ
from pki.path import Trust
from pki.roles import Role
from runtime.language import Message, Term
from storefront import exchange
from storefront.errors import NoMessage
from storefront.wallet.registration import BRAND, PATH

_ANSWERS: Final = {CT_MER_CERT_REQ: CT_MER_CERT_RES, CT_GW_CERT_REQ: CT_GW_CERT_RES}


class Registry:
    """The registration authority, seen from this installation's operator."""

    def __init__(self, client: httpx.Client, trust: Callable[[datetime], Trust]) -> None:
        self._client = client
        self.trust = trust

    def init(self) -> InitResTBS:
        """Row 4, first half: the authority's challenge for a merchant."""
        asked, trust = now(), self.trust(now())
        thumbs = [each.fingerprint(hashes.SHA256()) for each in trust.anchors]
        request = build_init_request(
            INIT_REQ, rrpid=os.urandom(20), chall_ee=os.urandom(32), brand_id=BRAND, thumbs=thumbs
        )
        found = self.post(request.message, CT_MER_INIT_RES)
        return check_init_response(found, request=request, asked=asked, trust=self.trust(now()), now=now()).body

    def post(self, message: bytes, expected: x509.ObjectIdentifier) -> KwbpMessage:
        """Send a message; ProtocolError with what the authority says if it refuses. Raises NoMessage."""
        found = unwrap(exchange.post(self._client, PATH, message).message, expected=[expected, CT_ERROR])
        if found.msg_type != CT_ERROR:
            return found
        instant = now()
        told = read_error(found, sent=message, role=Role.SERVICE, trust=self.trust(instant), now=instant).body
        raise ProtocolError(told.error_code, told.clause or "K1", "the authority refused")


@dataclass(frozen=True, slots=True)
class Composed:
    """A request ready to be sent: the message, the asker's challenge, the PKCS#10 requests (DER) by purpose."""

    message: bytes
    chall_ee: bytes
    requests: Mapping[str, bytes]


def register(found: Installation, name: str, compose: Callable[[Registry], Composed]) -> CheckedAnswer:
    """Send the request of `name`, or ask about the one under way; ends the command unless certificates are issued.

    When what came is where it belongs, call `finish`.
    """
    path = _file(found, name)
    try:
        with _registry(found) as registry:
            if path.exists():
                kept = json.loads(path.read_text(encoding="ascii"))
            else:
                kept = _kept(compose(registry))
                path.parent.mkdir(mode=0o700, exist_ok=True)
                replace_file(path, json.dumps(kept).encode("ascii"))
            answer = _ask(registry, kept)
    except ProtocolError as error:
        path.unlink(missing_ok=True)
        output.fail(
            Message(
                "the request is refused: {code}, {check}",
                code=f"{error.code.value} {error.code.protocol_name}",
                check=error.check,
            )
        )
    except (NoMessage, StatusError) as error:
        output.fail(Message("no answer: {reason}", reason=str(error)))
    body = answer.body
    if body.status is RegistrationStatus.ISSUED:
        return answer
    if body.status is not RegistrationStatus.PENDING and body.status is not RegistrationStatus.RETURNED:
        path.unlink(missing_ok=True)
    state = Term("state", body.status.name)
    told = Message("the application {application} is {state}", application=body.application, state=state)
    output.emit(
        {"id": body.application, "status": body.status.name.lower(), "ask_again": body.ask_again},
        [output.plain(output.said(told))],
    )
    raise typer.Exit


def finish(found: Installation, name: str) -> None:
    """The certificates are where they belong: there is nothing more to ask."""
    _file(found, name).unlink(missing_ok=True)


def _file(found: Installation, name: str) -> Path:
    return found.home.path / "registrations" / f"{name}.json"


def _kept(composed: Composed) -> dict[str, Any]:
    return {
        "message": composed.message.hex(),
        "chall_ee": composed.chall_ee.hex(),
        "requests": {purpose: request.hex() for purpose, request in composed.requests.items()},
        "asked": now().isoformat(),
    }


def _ask(registry: Registry, kept: Mapping[str, Any]) -> CheckedAnswer:
    message = bytes.fromhex(kept["message"])
    inner = unwrap(message, expected=_ANSWERS)
    requests = {purpose: bytes.fromhex(request) for purpose, request in kept["requests"].items()}
    sent = SentRequest(
        answered_by=_ANSWERS[inner.msg_type],
        rrpid=inner.rrpid,
        chall_ee=bytes.fromhex(kept["chall_ee"]),
        digest=sha256(inner.body),
        keys=requested_keys(requests, check="C4"),
        asked=datetime.fromisoformat(kept["asked"]),
    )
    found = registry.post(message, sent.answered_by)
    instant = now()
    return check_response(found, sent=sent, trust=registry.trust(instant), now=instant)


@contextmanager
def _registry(found: Installation) -> Iterator[Registry]:
    hierarchy = load_hierarchy(found.home.pki)
    status = StatusCache(found.settings.repository.url, hierarchy.anchors, hierarchy.intermediates, with_bci=True)
    try:
        with found.client(found.settings.ra.url) as client:
            yield Registry(client, status.trust)
    finally:
        status.close()
