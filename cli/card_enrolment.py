"""A cardholder's way to the certificate, by the protocol's own messages (`storefront.wallet.registration`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import httpx
from cryptography import x509

from ca.errors import StatusError
from ca.hierarchy import load_hierarchy
from ca.status_client import StatusCache
from cli import output, wallet_roots
from cli.enrolment import now, ra
from cli.state import Installation
from cps.acceptance import build_acceptance
from kwbp.codes import ErrorCode, RegistrationStatus
from kwbp.errors import ProtocolError
from kwbp.registration.answer import CheckedAnswer
from pki import cms_signed
from pki.oids import CT_ACCEPTANCE
from pki.path import Trust
from runtime.client import http_client
from runtime.language import Message, Term
from runtime.problems import Problem
from runtime.secrets import Secret
from shetab.types import Cvv2, Pin
from storefront.errors import NoMessage
from storefront.wallet import wallet
from storefront.wallet.keys import Tokens
from storefront.wallet.registration import RefusedByAuthority, Registrar
from storefront.wallet.wallet import CardCredential, Wallet

OPEN: Final = 3  # exit code: nobody knows yet
_TIMEOUT: Final = 90.0  # seconds: the authority waits for the bank, the CA and two tokens


def enrol_card(
    found: Installation,
    folder: Path,
    passphrase: Secret,
    label: str,
    secrets: Callable[[], tuple[Pin, Cvv2]],
    tokens: Tokens,
    *,
    renewal: Mapping[str, Any] | None = None,
) -> tuple[x509.Certificate, ...]:
    """From CardCInitReq to the certificate and its acceptance (CPS 4.4.1), which goes out again until it is taken.

    A request that is under way already is asked about again; so is an acceptance that is owed sent, before all else.

    `secrets` is asked for PIN2 and CVV2 only if there is none under way: the card's bank wants them, the wallet keeps
    neither. `tokens` finds the card's key if it is in one. `renewal` are the arguments of `WalletEditor.begin_renewal`,
    for a card that has a certificate and gets its next one; a renewal that is under way goes on without them.
    """
    opened = Wallet.open(folder, passphrase, tokens=tokens)
    if opened.unaccepted(label) is not None:
        return _accept(found, folder, passphrase, label, tokens)
    again = Message(
        "{command} asks again", command=f"kwbp wallet {'enrol' if renewal is None else 'certificate renew'} {label}"
    )
    try:
        with authority(found, opened, passphrase, tokens) as (http, root, trust):
            registrar = Registrar(http, root=root, trust=trust, rng=os.urandom, clock=lambda: datetime.now(UTC))
            request = opened.registration(label)
            if request is None:
                pin2, cvv2 = secrets()
                form = registrar.form(opened.bin(label))
                with wallet.editing(folder, passphrase, tokens=tokens) as editor:
                    if renewal is not None:
                        editor.begin_renewal(label, **renewal)
                    request = editor.begin_registration(label, form, pin2=pin2, cvv2=cvv2, now=now())
            answer = registrar.certificate(request)
    except RefusedByAuthority as refusal:
        _refused(folder, passphrase, label, refusal.error)
    except ProtocolError as error:
        output.fail(
            Message("the authority's answer does not hold: {code}, {check}", code=_name(error), check=error.check)
        )
    except (NoMessage, StatusError) as error:
        output.fail(Message("no answer: {reason}", reason=str(error)), hint=again, code=OPEN)
    if answer.body.status is not RegistrationStatus.ISSUED:
        _not_issued(folder, passphrase, label, answer, again)
    with wallet.editing(folder, passphrase, rng=os.urandom) as editor:
        editor.finish_registration(label, answer)
    return _accept(found, folder, passphrase, label, tokens)


@contextmanager
def authority(
    found: Installation, opened: Wallet, passphrase: Secret, tokens: Tokens
) -> Iterator[tuple[httpx.Client, x509.Certificate, Callable[[datetime], Trust]]]:
    """The registration authority for a wallet: a client, the root that the wallet pins, and what it believes when."""
    hierarchy = load_hierarchy(found.home.pki)
    opened = wallet_roots.follow(opened, passphrase, hierarchy.anchors, tokens)
    status = StatusCache(found.settings.repository.url, opened.roots, hierarchy.intermediates, with_bci=True)
    client = http_client(None, found.settings.ra.url, ca=found.home.trust_anchors, timeout=_TIMEOUT)
    try:
        yield client, opened.root, status.trust
    finally:
        client.close()
        status.close()


def _refused(folder: Path, passphrase: Secret, label: str, error: ProtocolError) -> NoReturn:
    if error.code is not ErrorCode.RATE_LIMITED:  # asked again, the same request would be refused again
        with wallet.editing(folder, passphrase, rng=os.urandom) as editor:
            editor.drop_registration(label)
    output.fail(
        Message("the card is not certified: {code}, {check}", code=_name(error), check=error.check),
        document={
            "refused": True,
            "code": error.code.value,
            "name": error.code.protocol_name,
            "check": error.check,
        },
    )


def _not_issued(folder: Path, passphrase: Secret, label: str, answer: CheckedAnswer, again: Message) -> NoReturn:
    body = answer.body
    if body.status is RegistrationStatus.PENDING:
        output.fail(
            Message("the application {application} waits for a decision", application=body.application),
            hint=again,
            code=OPEN,
        )
    with wallet.editing(folder, passphrase, rng=os.urandom) as editor:
        editor.drop_registration(label)
    state = Term("state", body.status.name)
    output.fail(Message("the application {application} is {state}", application=body.application, state=state))


def _name(error: ProtocolError) -> str:
    return f"{error.code.value} {error.code.protocol_name}"


def _accept(
    found: Installation, folder: Path, passphrase: Secret, label: str, tokens: Tokens
) -> tuple[x509.Certificate, ...]:
    """Accept the certificate that the card has; its chain. Raises Problem: what was not taken is sent again next time,
    what was refused is not.
    """
    opened = Wallet.open(folder, passphrase, tokens=tokens)
    card, application = opened.card(label), opened.unaccepted(label)
    assert application is not None
    try:
        with ra(found, None) as client:
            client.accept(application, _acceptance(card, application))
    except Problem as problem:
        if problem.type == "wrong-state":  # it was revoked, perhaps for want of this: nothing is left to accept
            _settled(folder, passphrase, label)
        raise
    _settled(folder, passphrase, label)
    return (card.certificate, *card.chain)


def _settled(folder: Path, passphrase: Secret, label: str) -> None:
    with wallet.editing(folder, passphrase, rng=os.urandom) as editor:
        editor.accepted(label)


def _acceptance(card: CardCredential, application_id: str) -> bytes:
    """The holder's acceptance, signed with the card's key (CPS 4.4.1)."""
    instant = now().replace(microsecond=0)
    return cms_signed.sign(
        CT_ACCEPTANCE,
        build_acceptance(application_id, [card.certificate], instant),
        key=card.key,
        signer=card.certificate,
        chain=card.chain,
        signing_time=instant,
    )
