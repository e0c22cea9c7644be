"""What the commands about one's own certificate share (row 6): the authority to ask, and what it answers, in words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

import httpx
import typer
from cryptography import x509

from ca.errors import StatusError
from cli import output
from kwbp.codes import CertificateStatus, ErrorCode, RevocationReason
from kwbp.errors import ProtocolError
from kwbp.holder import CertInqResTBS
from pki.path import Trust
from runtime.language import Message, Term
from storefront.errors import NoMessage
from storefront.holder import CertificateDesk, Sign
from storefront.wallet.registration import RefusedByAuthority


class Why(StrEnum):
    """Why a holder has its certificate revoked, or suspended."""

    KEY_COMPROMISE = "key-compromise"
    NO_LONGER_USED = "no-longer-used"
    SUSPEND = "suspend"


REASONS: Final = {
    Why.KEY_COMPROMISE: RevocationReason.KEY_COMPROMISE,
    Why.NO_LONGER_USED: RevocationReason.CESSATION_OF_OPERATION,
    Why.SUSPEND: RevocationReason.CERTIFICATE_HOLD,
}
OPEN: Final = 3
"""Exit code: nobody knows yet."""
_AGAIN: Final = Message("run it again: what was done is not done twice")
_CLOCK: Final = Message("run it again; if it is refused again, the clock of this machine is wrong")
_HINTS: Final = {
    ErrorCode.RATE_LIMITED: Message("it was asked for too often: try again in a few minutes"),
    ErrorCode.ROLE_NOT_ALLOWED: Message("the statement does not let the holder have this; an officer can do more"),
    ErrorCode.MESSAGE_TOO_OLD: _CLOCK,
    ErrorCode.MESSAGE_TOO_NEW: _CLOCK,
    ErrorCode.CLOCK_SKEW: _CLOCK,
}
Reason = Annotated[
    Why, typer.Option("--reason", help="Lost or copied key, no longer used, or suspended until an officer releases it.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


def desk(
    client: httpx.Client, certificate: x509.Certificate, sign: Sign, trust: Callable[[datetime], Trust]
) -> CertificateDesk:
    """The authority, as the holder of this certificate sees it."""
    return CertificateDesk(client, certificate, sign, trust=trust, rng=os.urandom, clock=lambda: datetime.now(UTC))


@contextmanager
def answers(refused: Callable[[], None] = lambda: None) -> Iterator[None]:
    """End the command with a sentence when the authority refuses, or does not answer as it should.

    `refused` is called before, if the same request would be refused again. Exit code 3: nobody knows what became of it.
    """
    try:
        yield
    except RefusedByAuthority as refusal:
        if refusal.error.code is not ErrorCode.RATE_LIMITED:
            refused()
        output.fail(
            Message("the request is refused: {code}, {check}", **_named(refusal.error)),
            hint=_HINTS.get(refusal.error.code),
        )
    except ProtocolError as error:
        told = Message("the authority's answer does not hold: {code}, {check}", **_named(error))
        output.fail(told, hint=_AGAIN, code=OPEN)
    except (NoMessage, StatusError) as error:
        output.fail(Message("no answer: {reason}", reason=str(error)), hint=_AGAIN, code=OPEN)


def sure(reason: Why, name: str, yes: bool) -> None:
    """Ask before a certificate is revoked; ends the command if the answer is no."""
    question = (
        Message("Suspend the certificate of {name}? Only an officer releases it.", name=name)
        if reason is Why.SUSPEND
        else Message("Revoke the certificate of {name} for ever?", name=name)
    )
    if not yes and not typer.confirm(output.said(question), err=True):
        output.fail(Message("nothing was revoked"))


def report(told: CertInqResTBS, certificate: x509.Certificate, name: str) -> None:
    """How the certificate stands, by the authority's signed word."""
    until = certificate.not_valid_after_utc
    status = CertificateStatus(told.status)
    document: dict[str, object] = {
        "certificate": name,
        "serial": f"{told.serial:x}",
        "status": status.name.lower(),
        "until": until.isoformat(),
    }
    stands = Term("certificate status", status.name.lower())
    if told.since is None or told.reason is None:
        line = Message(
            "certificate {serial} of {name} is {status}; it ends {until}",
            serial=f"{told.serial:x}",
            name=name,
            status=stands,
            until=f"{until:%Y-%m-%d}",
        )
    else:
        since = told.since.as_datetime()
        reason = RevocationReason(told.reason)
        document |= {"since": since.isoformat(), "reason": reason.protocol_name}
        line = Message(
            "certificate {serial} of {name} is {status} since {since}: {reason}",
            serial=f"{told.serial:x}",
            name=name,
            status=stands,
            since=f"{since:%Y-%m-%d %H:%M:%S}Z",
            reason=Term("revocation reason", reason.protocol_name),
        )
    output.emit(document, [output.plain(output.said(line))])


def _named(error: ProtocolError) -> dict[str, str]:
    return {"code": f"{error.code.value} {error.code.protocol_name}", "check": error.check}
