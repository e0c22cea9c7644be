"""Who signed a request: the officer whose token signed it, judged as one whose key speaks TLS.

`judge` believes a signature (`ra.request_signature`) when all of this holds, in this order:

| of           | what                                                                                                |
| ------------ | --------------------------------------------------------------------------------------------------- |
| connection   | its certificate counts, and is the operator's console or another credential of the same officer     |
| time         | signed within the last `OLDEST`, and not more than `AHEAD` in the future                            |
| credential   | in the register of officers (`ra.persons`), by the SHA-256 of its certificate                       |
| signature    | by its key, by the one algorithm of that key, over the request as it came                           |
| officer      | `ra.access.actor_of`, as for TLS: the path, the lists in force now, hence nobody revoked, suspended |
| body         | Content-Digest is of the bytes that came (the route for documents compares them as they come)      |
| nonce        | used for the first time; written down before the request does anything                              |

Whatever fails, the request is refused: who signs is never taken for whoever the connection belongs to.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from starlette.requests import Request

from ra.access import OPERATOR, Actor, actor_of
from ra.errors import RequestSignatureError
from ra.rate_limit import TooManyRequests
from ra.request_signature import (
    CONTENT_DIGEST,
    CONTENT_TYPE,
    SIGNATURE,
    SIGNATURE_INPUT,
    Head,
    RequestSignature,
    parse,
    require_digest,
)
from runtime.identity import caller_from_certificate, caller_of

if TYPE_CHECKING:
    from ra.workflow import Workflow

OLDEST: Final = timedelta(minutes=2)
AHEAD: Final = timedelta(seconds=30)
_CLOCKS: Final = 2 * AHEAD
"""How far the clocks of replicas may be apart; so much longer nonces are kept."""
_FRESH_CLAUSE: Final = "RFC 9421 7.2.2"
_CREDENTIAL_CLAUSE: Final = "CPS 5.2.1"


def is_signed(request: Request) -> bool:
    """Whether the request has a signature, or something that is half of one."""
    return SIGNATURE in request.headers or SIGNATURE_INPUT in request.headers


def judge(request: Request, body: bytes | None, workflow: Workflow) -> Actor:
    """The officer who signed the request; `body` is what came of it, None where the route compares it itself.

    Raises NotAllowedError, of it RequestSignatureError, and TooManyRequests.
    """
    now = workflow.now
    head = _head(request)
    signature = _signature(request, head)
    trust = workflow.trust(now)
    carrier = actor_of(caller_of(request.scope), trust=trust, now=now)
    if carrier.name != OPERATOR and not carrier.is_officer:
        raise RequestSignatureError(
            "signed requests come over the operator's connection or the officer's own, not over that of {carrier}",
            carrier=carrier.name,
            clause=_CREDENTIAL_CLAUSE,
        )
    signed_at = _moment(signature, now)
    credential = _credential(signature, workflow)
    signature.verify(head, credential.public_key())
    officer = actor_of(caller_from_certificate(credential), trust=trust, now=now)
    if not officer.is_officer:
        raise RequestSignatureError("the credential that signed does not log in", clause=_CREDENTIAL_CLAUSE)
    if carrier.is_officer and carrier.person != officer.person:
        raise RequestSignatureError(
            "{carrier} hands in what {officer} signed",
            carrier=carrier.name,
            officer=officer.name,
            clause=_CREDENTIAL_CLAUSE,
        )
    require_digest(head, body)
    _use(signature, signed_at, workflow)
    return officer


def judge_again(request: Request, workflow: Workflow) -> Actor:
    """The officer of a request that `judge` let through, by the lists of now. Raises NotAllowedError."""
    now = workflow.now
    credential = _credential(_signature(request, _head(request)), workflow)
    return actor_of(caller_from_certificate(credential), trust=workflow.trust(now), now=now)


def _signature(request: Request, head: Head) -> RequestSignature:
    return parse(head, request.headers.getlist(SIGNATURE_INPUT), request.headers.getlist(SIGNATURE))


def _credential(signature: RequestSignature, workflow: Workflow) -> x509.Certificate:
    credential = workflow.persons.credential(signature.key_id)
    if credential is None:
        raise RequestSignatureError(
            "no officer of the register has the credential that signed", clause=_CREDENTIAL_CLAUSE
        )
    return credential


def _head(request: Request) -> Head:
    """The request as it travelled."""
    scope = request.scope
    hosts = request.headers.getlist("host")
    fields = {name: request.headers.getlist(name) for name in (CONTENT_DIGEST, CONTENT_TYPE)}
    if len(hosts) != 1 or any(len(lines) > 1 for lines in fields.values()):
        raise RequestSignatureError("a signed header stands in a request once", clause="RFC 9421 2.1")
    return Head(
        method=scope["method"],
        scheme=scope["scheme"],
        host=hosts[0],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        fields={name: lines[0].strip() for name, lines in fields.items() if lines},
    )


def _moment(signature: RequestSignature, now: datetime) -> datetime:
    try:
        signed_at = datetime.fromtimestamp(signature.created, UTC)
    except (ValueError, OverflowError, OSError):
        raise RequestSignatureError("created is no time", clause="RFC 9421 2.3") from None
    if now - signed_at > OLDEST:
        raise RequestSignatureError(
            "the request was signed at {signed}, too long before {now}", signed=signed_at, now=now, clause=_FRESH_CLAUSE
        )
    if signed_at - now > AHEAD:
        raise RequestSignatureError(
            "the request was signed at {signed}, and it is {now}", signed=signed_at, now=now, clause=_FRESH_CLAUSE
        )
    return signed_at


def _use(signature: RequestSignature, signed_at: datetime, workflow: Workflow) -> None:
    nonces = workflow.request_nonces
    if nonces.full(signature.key_id):
        raise TooManyRequests(OLDEST)
    if not nonces.take(signature.key_id, signature.nonce, good_until=signed_at + OLDEST + _CLOCKS):
        raise RequestSignatureError("this signed request came before", clause=_FRESH_CLAUSE)
