"""A card's bank in the registration of cardholders: its form, and whether it confirms a card (`kwbp.registration`).

The registration authority passes on what a cardholder sealed to the bank. Both signatures are verified before the key
of the bank is used; then everything that is decided about a card is one transaction: the attempt is counted, the card
data are judged, the answer is stored. The same request again gets the stored answer and counts for nothing.

Attempts are counted here and nowhere else by card number, because nowhere else is it known (F6). The count is in the
database: a restart takes nothing back. Beside it wrong card data count as wrong tries of the card, as in a payment.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from sqlalchemy import Connection, delete, insert, select

from kwbp.codes import ErrorCode
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.registration.form import build_issuer_form
from kwbp.registration.issuer import (
    OpenedCard,
    VerifiedCardRequest,
    check_card_request,
    open_card,
    receive_card_request,
)
from kwbp.wrapper import unwrap, wrap
from pki.algorithms import SealingSuite
from pki.cms_enveloped import unseal
from pki.der import sha256
from pki.oids import CT_CARD_CONFIRM_REQ, CT_CARD_CONFIRMATION
from pki.path import Trust
from runtime.client import TlsFiles
from runtime.database import put
from runtime.secrets import read_secret, write_secret
from runtime.settings import Home
from runtime.token_bucket import NONE, Rate, take, whole_seconds
from shetab.iran import Banks
from shetab.jalali import expires_at
from switch import ledger
from switch.bank import Transact
from switch.card_check import Presented, check_card
from switch.confirmation import sign_as_issuer, sign_confirmation
from switch.errors import BankError, KeyFileError
from switch.issuer_keys import IssuerKeys
from switch.schema import accounts, registration_answers, registration_buckets

ASKS: Final = frozenset({"cvv2", "pin2"})
"""What the form asks for beside card number and expiry: what a payment asks for."""
_SUITE: Final = SealingSuite.OAEP_SHA256
_FORM_LIFETIME: Final = timedelta(days=1)
_BITS: Final = 3072

Rng = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Reply:
    """A KwbpMessage (DER) for the authority; `retry_after` in seconds if the card was tried too often."""

    message: bytes
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class _Refusal:
    error: ProtocolError
    retry_after: int | None = None


class CardRegistration:
    """The banks of the network at the counter of the registration authority; safe for threads."""

    def __init__(
        self,
        transact: Transact,
        keys: IssuerKeys,
        *,
        home: Home,
        trust: Callable[[datetime], Trust],
        rate: Rate,
        rng: Rng,
        clock: Callable[[], datetime],
    ) -> None:
        """`trust(now)` are roots, CAs and CRLs in force; `rate` is how often one card may be tried."""
        self._transact = transact
        self._keys = keys
        self._home = home
        self._trust = trust
        self._rate = rate
        self._rng = rng
        self._clock = clock
        self._banks = Banks.load()
        self._making = threading.Lock()

    def form(self, bin_: str) -> bytes:
        """The form of the bank that issues cards of this BIN: SignedData (DER), in force for a day.

        :raises BankError: `unknown_issuer`, `issuer_identity`.
        """
        prefix, now = bin_[:6], self._clock()
        draft = build_issuer_form(
            bin_=prefix,
            issuer=self._name(prefix),
            asks=ASKS,
            key=self._sealing_key(prefix).public_key(),
            suite=_SUITE,
            not_after=now + _FORM_LIFETIME,
            now=now,
        )
        return self._signed(prefix, draft.content_type, draft.content)

    def confirm(self, message: bytes) -> Reply:
        """CardConfirmReq in; CardConfirmation or Error out, both signed by the bank that the request is for.

        :raises BankError: `unknown_issuer`, `issuer_identity`.
        :raises ProtocolError: it cannot be read, so that nobody knows which bank is asked.
        """
        now = self._clock()
        found = receive_card_request(unwrap(message, expected=[CT_CARD_CONFIRM_REQ]))
        prefix = found.bin[:6]
        self._name(prefix)
        key = self._sealing_key(prefix)
        try:
            request = check_card_request(found, key=key.public_key(), suite=_SUITE, trust=self._trust(now), now=now)
            stored = self._transact(partial(self._stored, request))
            if stored is not None:
                return Reply(stored)
            card = open_card(request, asks=ASKS, unseal=partial(unseal, key=key, rng=self._rng))
            answer = self._transact(partial(self._judge, message, request, card, now))
        except ProtocolError as error:
            answer = _Refusal(error)
        if isinstance(answer, bytes):
            return Reply(answer)
        return Reply(self._error(prefix, message, answer.error, now), answer.retry_after)

    # inside

    def _judge(
        self, message: bytes, request: VerifiedCardRequest, card: OpenedCard, now: datetime, db: Connection
    ) -> bytes | _Refusal:
        """One transaction: count the attempt, judge the card, store the answer."""
        stored = self._stored(request, db)
        if stored is not None:
            return stored
        wait = self._count(card, now, db)
        if wait > NONE:
            error = ProtocolError(ErrorCode.RATE_LIMITED, "F6", "card was tried too often")
            return _Refusal(error, whole_seconds(wait))
        if not self._is_held(card, now, db):
            error = ProtocolError(ErrorCode.UNSPECIFIED_FAILURE, "F7", "card's bank must find the card data good")
            answer = self._error(request.bin[:6], message, error, now)
        else:
            answer = self._confirmation(request, card, now)
        db.execute(
            insert(registration_answers).values(
                request=_name_of(request), answer=answer, answered_at=ledger.naive_utc(now)
            )
        )
        return answer

    def _count(self, card: OpenedCard, now: datetime, db: Connection) -> timedelta:
        table, lookup, instant = registration_buckets, self._keys.pan_lookup(card.pan), ledger.naive_utc(now)
        db.execute(delete(table).where(table.c.full_at <= instant))  # full ones need no row
        full_at = db.execute(select(table.c.full_at).where(table.c.pan_lookup == lookup)).scalar_one_or_none()
        known = None if full_at is None else full_at.replace(tzinfo=UTC)
        full_at, wait = take(self._rate, known, now)
        if wait == NONE:
            put(db, table, pan_lookup=lookup, full_at=ledger.naive_utc(full_at))
        return wait

    def _is_held(self, card: OpenedCard, now: datetime, db: Connection) -> bool:
        presented = Presented(card.pan, card.expiry, card.cvv2, lambda: card.pin2)
        verdict = check_card(db, self._keys, presented, now)
        if verdict.rc != "00" or verdict.card is None:
            return False
        query = select(accounts.c.national_code).where(accounts.c.iban == verdict.card.iban)
        known = db.execute(query).scalar_one()
        return card.national_code is None or hmac.compare_digest(str(known).encode(), card.national_code.encode())

    def _confirmation(self, request: VerifiedCardRequest, card: OpenedCard, now: datetime) -> bytes:
        prefix = card.pan.bin[:6]
        signed = sign_confirmation(
            self._identity(prefix),
            commitment=card.commitment,
            spki_sha256=request.spki_sha256,
            bin_=prefix,
            expires_at=expires_at(card.expiry, now),
            issuer=self._name(prefix),
            now=now,
            card_ref=self._keys.card_reference(card.pan),
        )
        return wrap(CT_CARD_CONFIRMATION, signed, rrpid=request.body.rrpid)

    def _stored(self, request: VerifiedCardRequest, db: Connection) -> bytes | None:
        table = registration_answers
        query = select(table.c.answer).where(table.c.request == _name_of(request))
        return db.execute(query).scalar_one_or_none()

    def _error(self, prefix: str, refused: bytes, error: ProtocolError, now: datetime) -> bytes:
        draft = build_error(error, refused=refused, now=now)
        return draft.message(self._signed(prefix, draft.content_type, draft.content))

    def _signed(self, prefix: str, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
        return sign_as_issuer(self._identity(prefix), content_type, content, bin_=prefix, now=self._clock())

    def _identity(self, prefix: str) -> TlsFiles:
        return self._home.tls_files(f"issuer-{prefix}")

    def _name(self, prefix: str) -> str:
        bank = self._banks.of_bin(prefix)
        if bank is None:
            raise BankError("unknown_issuer", "no bank of the network has this BIN")
        return bank.name_en

    def _sealing_key(self, prefix: str) -> rsa.RSAPrivateKey:
        """The bank's key that card data are sealed to, made at its first use; a real bank has it in its own HSM."""
        if not self._identity(prefix).certificate.exists():
            raise BankError("issuer_identity", f"the issuer of {prefix} has no certificate yet")
        path = self._home.secrets / f"issuer-{prefix}-sealing-key"
        with self._making:
            if not path.exists():
                made = rsa.generate_private_key(65537, _BITS)
                write_secret(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        try:
            key = load_pem_private_key(read_secret(path).reveal(), None)
        except ValueError:
            key = None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise KeyFileError(f"{path.name} must hold an RSA key")
        return key


def _name_of(request: VerifiedCardRequest) -> bytes:
    """What makes a request the same: the cardholder's bytes, and what the authority adds to them."""
    return sha256(request.digest + request.body.nonce_cca + request.body.ca_key_id)
