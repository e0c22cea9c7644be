"""How a card gets its certificate by the protocol's own messages (`kwbp.registration`, rows 1 to 3).

What was sent is in the wallet before it is sent: after a crash, or while the authority waits for somebody, the same
request goes out again and makes no second application. The one-time key lives as long as the request is open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from kwbp.error_message import read_error
from kwbp.errors import ProtocolError
from kwbp.registration import card
from kwbp.registration.answer import (
    CheckedAnswer,
    SentRequest,
    check_response,
    open_cert_response,
)
from kwbp.registration.form import CheckedForm, build_form_request, check_form_response
from kwbp.registration.init import build_init_request, check_init_response
from kwbp.registration.signers import self_signed
from kwbp.wrapper import KwbpMessage, unwrap
from pki import cms_signed, names
from pki.cms_enveloped import unseal
from pki.der import sha256
from pki.keys import spki_sha256
from pki.oids import (
    CT_CARD_INIT_RES,
    CT_CERT_REQ,
    CT_CERT_RES,
    CT_ERROR,
    CT_REG_FORM_RES,
    MT_CARD_INIT_REQ,
    MT_CERT_RES,
)
from pki.path import Trust
from pki.roles import Role
from shetab.types import Cvv2, Expiry, Pan, Pin
from storefront import exchange
from storefront.wallet.keys import PrivateKey, PublicKey

PATH: Final = "/v1/registration"
BRAND: Final = "Shetab"
_BITS: Final = 3072

Rng = Callable[[int], bytes]


class RefusedByAuthority(Exception):
    """The registration authority answered with an Error. `error` is what it says; unsigned, it proves nothing."""

    def __init__(self, error: ProtocolError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True, repr=False)
class OpenRequest:
    """A CertReq that is under way: the message, what its answer is judged by, and the one-time key. Has no repr."""

    message: bytes
    sent: SentRequest
    one_time_key: rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, repr=False)
class CardInWallet:
    """What the wallet knows of a card that is to be certified. Has no repr."""

    pan: Pan
    expiry: Expiry
    card_secret: bytes
    key: PrivateKey


def new_one_time_key() -> rsa.RSAPrivateKey:
    """A key for one answer."""
    return rsa.generate_private_key(65537, _BITS)


def compose(
    held: CardInWallet,
    form: CheckedForm,
    *,
    pin2: Pin,
    cvv2: Cvv2,
    now: datetime,
    rng: Rng,
    one_time_key: Callable[[], rsa.RSAPrivateKey] = new_one_time_key,
) -> dict[str, str]:
    """A CertReq, as the wallet keeps it until it is answered.

    :param form: what `Registrar.form` returned. :raises ProtocolError: the bank's form asks for more than this.
    """
    request = x509.CertificateSigningRequestBuilder().subject_name(names.name(cn="KWBP cardholder"))
    one_time = one_time_key()
    asks = form.form.body.asks
    draft = card.build_cert_request(
        card.CardToEnrol(
            pan=held.pan,
            expiry=held.expiry,
            card_secret=held.card_secret,
            cvv2=cvv2 if "cvv2" in asks else None,
            pin2=pin2 if "pin2" in asks else None,
        ),
        form,
        rrpid=rng(20),
        request=request.sign(held.key, hashes.SHA256()).public_bytes(Encoding.DER),
        answer_key=one_time.public_key(),
        now=now,
        rng=rng,
    )
    certificate = self_signed(held.key, now=now)
    signed = cms_signed.sign(
        draft.content_type, draft.content, key=held.key, signer=certificate, chain=(), signing_time=now
    )
    return {
        "message": draft.message(signed).hex(),
        "chall_ee": form.body.chall_ee.hex(),
        "asked": now.isoformat(),
        "one_time_key": one_time.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()).hex(),
    }


def open_request(kept: dict[str, Any], key: PublicKey) -> OpenRequest:
    """The request that `compose` made for the private half of this key."""
    message = bytes.fromhex(kept["message"])
    inner = unwrap(message, expected=[CT_CERT_REQ])
    one_time = load_der_private_key(bytes.fromhex(kept["one_time_key"]), None)
    if not isinstance(one_time, rsa.RSAPrivateKey):
        raise TypeError("answers are sealed to an RSA key")
    sent = SentRequest(
        answered_by=CT_CERT_RES,
        rrpid=inner.rrpid,
        chall_ee=bytes.fromhex(kept["chall_ee"]),
        digest=sha256(inner.body),
        keys={card.SIGNING: spki_sha256(key)},
        asked=datetime.fromisoformat(kept["asked"]),
    )
    return OpenRequest(message, sent, one_time)


class Registrar:
    """The registration authority, seen from a wallet that pins `root`."""

    def __init__(
        self,
        client: httpx.Client,
        *,
        root: x509.Certificate,
        trust: Callable[[datetime], Trust],
        rng: Rng,
        clock: Callable[[], datetime],
    ) -> None:
        """`trust(now)` are the pinned root, CA certificates and CRLs in force."""
        self._client = client
        self._thumb = hashlib.sha256(root.public_bytes(Encoding.DER)).digest()
        self._trust = trust
        self._rng = rng
        self._clock = clock

    def form(self, bin_: str) -> CheckedForm:
        """Rows 1 and 2: is this the authority of our root, and what does the card's bank want to know?

        :raises ProtocolError: an answer does not hold. :raises RefusedByAuthority: it refused. :raises NoMessage.
        """
        asked, chall_ee = self._clock(), self._rng(32)
        init = build_init_request(
            MT_CARD_INIT_REQ, rrpid=self._rng(20), chall_ee=chall_ee, brand_id=BRAND, thumbs=[self._thumb]
        )
        found = self._post(init.message, CT_CARD_INIT_RES)
        now = self._clock()
        check_init_response(found, request=init, asked=asked, trust=self._trust(now), now=now)
        request = build_form_request(rrpid=self._rng(20), chall_ee=chall_ee, bin_=bin_)
        found = self._post(request.message, CT_REG_FORM_RES)
        now = self._clock()
        return check_form_response(found, request=request.body, asked=asked, trust=self._trust(now), now=now)

    def certificate(self, request: OpenRequest) -> CheckedAnswer:
        """Row 3, as often as it takes: how the application stands, with the certificate once it is issued. Raises as
        `form`.
        """
        found = self._post(request.message, MT_CERT_RES)
        opened = open_cert_response(
            found,
            key=request.one_time_key.public_key(),
            unseal=partial(unseal, key=request.one_time_key, rng=self._rng),
        )
        now = self._clock()
        return check_response(opened, sent=request.sent, trust=self._trust(now), now=now)

    def _post(self, message: bytes, expected: x509.ObjectIdentifier) -> KwbpMessage:
        reply = exchange.post(self._client, PATH, message)
        found = unwrap(reply.message, expected=[expected, CT_ERROR])
        if found.msg_type == CT_ERROR:
            now = self._clock()
            told = read_error(found, sent=message, role=Role.SERVICE, trust=self._trust(now), now=now).body
            raise RefusedByAuthority(ProtocolError(told.error_code, told.clause or "K1", "the authority refused"))
        return found
