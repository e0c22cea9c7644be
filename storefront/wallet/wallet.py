"""The wallet: several cards, each with a key and a certificate of its own, in one file under one passphrase.

The number, expiry and secrets of a card live inside that file only, and are gone from it with the card; nobody is shown
more of the number than its first six and last four digits. PIN and CVV2 are typed at each purchase, not kept. The key
of a card is in the file too, or in a token (`storefront.wallet.keys`); the roots that are believed change by
`storefront.wallet.roots` alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.commitment import commitment_cn, pan_secret
from kwbp.registration.answer import CheckedAnswer, check_commitment
from kwbp.registration.form import CheckedForm
from kwbp.text import text_fault
from kwbp.wallet import Card
from pki import names
from pki.crl import CrlSet
from pki.errors import PkiError
from pki.path import Trust, validate_path
from pki.roles import Role
from runtime.secrets import Secret
from shetab.types import Cvv2, Expiry, Pan, Pin
from storefront.errors import NoSuchCard, WalletError
from storefront.wallet import container, keys, roots
from storefront.wallet.keys import Algorithm, PrivateKey, TokenKey, Tokens, no_tokens
from storefront.wallet.lockout import Clock, utc_now
from storefront.wallet.registration import CardInWallet, OpenRequest, compose, new_one_time_key, open_request

FILE_NAME: Final = "wallet.kwbp"
PURCHASES: Final = "purchases"
"""Folder of the buyer's evidence, beside the file."""
_LONGEST_LABEL: Final = 40


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What goes to the registration authority for one card; nothing in it lets the card number be guessed."""

    commitment: str
    bin: str
    request: bytes
    """PKCS#10, DER."""


@dataclass(frozen=True, slots=True, repr=False)
class CardCredential:
    """A card that can pay: its secrets, key and certificate. Has no repr."""

    label: str
    pan: Pan
    expiry: Expiry
    card_secret: bytes
    pan_secret: bytes
    key: PrivateKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]

    def in_hand(self, pin2: Pin | None, cvv2: Cvv2 | None) -> Card:
        """The card together with what its holder just typed."""
        return Card(self.pan, self.expiry, self.card_secret, self.pan_secret, pin2, cvv2)

    @property
    def bin(self) -> str:
        """First six digits: the issuer."""
        return self.pan.bin


@dataclass(frozen=True, slots=True)
class CardSummary:
    """What may be shown of a card. `token`: the PKCS#11 URI of its key; None if that is in the wallet file."""

    label: str
    masked_pan: str
    token: str | None
    serial: int | None
    not_after: datetime | None


class Wallet:
    """An opened wallet. Read-only; changes happen inside `editing`, which writes the file anew."""

    def __init__(self, folder: Path, document: Mapping[str, Any], tokens: Tokens = no_tokens) -> None:
        self.folder = folder
        self._document = document
        self._tokens = tokens

    @classmethod
    def create(
        cls, folder: Path, passphrase: Secret, *, root: x509.Certificate, rng: Callable[[int], bytes] = os.urandom
    ) -> None:
        """Make an empty wallet that trusts `root` alone (scenario B: the buyer has a copy of the CA certificate)."""
        container.create(folder / FILE_NAME, passphrase, {**roots.first(root), "cards": {}}, rng=rng)

    @classmethod
    def open(cls, folder: Path, passphrase: Secret, *, tokens: Tokens = no_tokens, clock: Clock = utc_now) -> Wallet:
        """Open for reading; `tokens` finds the keys in tokens. Raises WalletLocked, LockedOut, WalletError."""
        return cls(folder, container.read(folder / FILE_NAME, passphrase, clock=clock), tokens)

    @property
    def root(self) -> x509.Certificate:
        """The oldest root that is believed."""
        return self.roots[0]

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        """The roots that are believed, the oldest first."""
        return roots.pinned(self._document)

    def next_roots(self, found: Sequence[x509.Certificate], now: datetime) -> list[x509.Certificate]:
        """Those of the certificates found that follow the newest root, and could be believed at `now`."""
        return roots.following(self._document, found, now)

    @property
    def purchases(self) -> Path:
        """Folder of the evidence of purchases, one folder each."""
        return self.folder / PURCHASES

    def cards(self) -> list[CardSummary]:
        """All cards, masked."""
        return [self._summary(label, entry) for label, entry in sorted(self._document["cards"].items())]

    def card(self, label: str) -> CardCredential:
        """A card ready to pay; raises NoSuchCard, or WalletError if it has no certificate yet."""
        entry = _entry(self._document, label)
        if "certificate" not in entry:
            raise WalletError("the card {label} has no certificate yet; enrol it first", label=label)
        certificate, *chain = x509.load_pem_x509_certificates(entry["certificate"].encode())
        return CardCredential(
            label=label,
            pan=Pan.parse(entry["pan"]),
            expiry=Expiry.parse(entry["expiry"]),
            card_secret=bytes.fromhex(entry["card_secret"]),
            pan_secret=bytes.fromhex(entry["pan_secret"]),
            key=keys.private_key(entry, self._tokens),
            certificate=certificate,
            chain=tuple(chain),
        )

    def bin(self, label: str) -> str:
        """First six digits of a card: its issuer. Raises NoSuchCard."""
        return Pan.parse(_entry(self._document, label)["pan"]).bin

    def application(self, label: str) -> str | None:
        """The application under which the card is being enrolled."""
        begun = _entry(self._document, label).get("enrolment")
        return None if begun is None else str(begun["application"])

    def registration(self, label: str) -> OpenRequest | None:
        """The request for a certificate that is under way for the card."""
        return _registration(_entry(self._document, label))

    @staticmethod
    def _summary(label: str, entry: Mapping[str, Any]) -> CardSummary:
        place = keys.place_of(entry)
        certificate = (
            x509.load_pem_x509_certificates(entry["certificate"].encode())[0] if "certificate" in entry else None
        )
        return CardSummary(
            label=label,
            masked_pan=Pan.parse(entry["pan"]).masked,
            token=None if place is None else place.uri,
            serial=None if certificate is None else certificate.serial_number,
            not_after=None if certificate is None else certificate.not_valid_after_utc.astimezone(UTC),
        )


class WalletEditor:
    """The changes that can be made to an open wallet."""

    def __init__(self, document: dict[str, Any], rng: Callable[[int], bytes], tokens: Tokens = no_tokens) -> None:
        self._document = document
        self._rng = rng
        self._tokens = tokens

    def add_card(
        self,
        label: str,
        pan: Pan,
        expiry: Expiry,
        *,
        algorithm: Algorithm = "rsa-3072",
        in_token: Callable[[], TokenKey] | None = None,
    ) -> None:
        """Add a card and make its key; raises WalletError if the label or the card is there already.

        :param in_token: makes the key in a token; it is called once nothing else stands in the way.
        """
        cards = self._document["cards"]
        check_label(label)
        if label in cards:
            raise WalletError("there is already a card {label}", label=label)
        if any(Pan.parse(entry["pan"]) == pan for entry in cards.values()):
            raise WalletError("this card is already in the wallet")
        cards[label] = {
            "pan": pan.reveal(),
            "expiry": expiry.reveal(),
            "card_secret": self._rng(32).hex(),
            **(keys.new_key(algorithm) if in_token is None else keys.key_in_token(in_token())),
        }

    def rename_card(self, label: str, new: str) -> None:
        """Call a card otherwise. Raises NoSuchCard, or WalletError if there is a card of the new name."""
        entry = _entry(self._document, label)
        check_label(new)
        if new in self._document["cards"]:
            raise WalletError("there is already a card {label}", label=new)
        self._document["cards"][new] = entry
        del self._document["cards"][label]

    def accept_root(
        self, candidate: x509.Certificate, *, now: datetime, known: Sequence[x509.Certificate] = ()
    ) -> None:
        """Believe the root that follows the newest one, from now on. Raises RootRefused for any other."""
        roots.accept(self._document, candidate, now=now, known=known)

    def drop_older_roots(self) -> tuple[x509.Certificate, ...]:
        """Believe the newest root alone; returns those that are not believed any more, and never will be again."""
        return roots.drop_older(self._document)

    def begin_enrolment(self, label: str, *, application: str, nonce_cca: bytes, ca_key_id: bytes) -> Enrolment:
        """Derive PANSecret and the commitment, and make the PKCS#10 request (proof of possession).

        A certificate that the card has already stays in use until `finish_enrolment` brings the next one.

        :param nonce_cca: the registration authority's 32 bytes for this application.
        :param ca_key_id: subjectKeyIdentifier of the cardholder CA.
        """
        entry = _entry(self._document, label)
        secret = pan_secret(bytes.fromhex(entry["card_secret"]), nonce_cca, ca_key_id)
        pan = Pan.parse(entry["pan"])
        commitment = commitment_cn(secret, pan, Expiry.parse(entry["expiry"]))
        entry["enrolment"] = {"application": application, "pan_secret": secret.hex()}
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(names.name(cn=commitment))
            .sign(keys.private_key(entry, self._tokens), hashes.SHA256())
        )
        return Enrolment(commitment, pan.bin, request.public_bytes(Encoding.DER))

    def finish_enrolment(self, label: str, chain: tuple[x509.Certificate, ...], *, now: datetime | None = None) -> None:
        """Keep the certificate (leaf first), if it is for this card's key and commitment, below the pinned root.

        :param now: aware UTC; the machine's clock without it. :raises WalletError: it is not.
        """
        entry = _entry(self._document, label)
        secret = _begun(entry, label)["pan_secret"]
        leaf, *above = chain
        commitment = commitment_cn(bytes.fromhex(secret), Pan.parse(entry["pan"]), Expiry.parse(entry["expiry"]))
        common_names = [attribute.value for attribute in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
        if leaf.public_key() != keys.public_key(entry) or common_names != [commitment]:
            raise WalletError("the certificate is not for this card")
        trust = Trust(roots.pinned(self._document), (), CrlSet(()))
        try:
            validate_path(
                leaf,
                above,
                trust=trust,
                now=now or datetime.now(UTC),
                roles=(Role.CARDHOLDER,),
                check_revocation=False,  # it was issued a moment ago; every purchase asks
            )
        except PkiError as error:
            raise WalletError(
                "the certificate is no cardholder's below the root of this wallet: {reason}", reason=error.reason
            ) from None
        entry["certificate"] = "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in chain)
        entry["pan_secret"] = secret
        del entry["enrolment"]

    def begin_registration(
        self,
        label: str,
        form: CheckedForm,
        *,
        pin2: Pin,
        cvv2: Cvv2,
        now: datetime,
        one_time_key: Callable[[], rsa.RSAPrivateKey] = new_one_time_key,
    ) -> OpenRequest:
        """Make the request for a certificate (`storefront.wallet.registration`), and keep it until it is answered."""
        entry = _entry(self._document, label)
        key = keys.private_key(entry, self._tokens)
        held = CardInWallet(Pan.parse(entry["pan"]), Expiry.parse(entry["expiry"]), _card_secret(entry), key)
        entry["registration"] = compose(
            held, form, pin2=pin2, cvv2=cvv2, now=now, rng=self._rng, one_time_key=one_time_key
        )
        return open_request(entry["registration"], key.public_key())

    def finish_registration(self, label: str, answer: CheckedAnswer, *, now: datetime | None = None) -> None:
        """Keep the certificate that the request brought. :raises ProtocolError, WalletError: it is not this card's."""
        entry = _entry(self._document, label)
        pan, expiry = Pan.parse(entry["pan"]), Expiry.parse(entry["expiry"])
        secret = check_commitment(answer, pan=pan, expiry=expiry, card_secret=_card_secret(entry))
        entry["enrolment"] = {"application": answer.body.application, "pan_secret": secret.hex()}
        self.finish_enrolment(label, answer.chains["signing"], now=now)
        del entry["registration"]

    def drop_registration(self, label: str) -> None:
        """Forget a request that came to nothing."""
        _entry(self._document, label).pop("registration", None)

    def remove_card(self, label: str) -> None:
        """Forget a card, all its data and its key; a key in a token stays there."""
        _entry(self._document, label)
        del self._document["cards"][label]


@contextmanager
def editing(
    folder: Path,
    passphrase: Secret,
    *,
    rng: Callable[[int], bytes] = os.urandom,
    tokens: Tokens = no_tokens,
    clock: Clock = utc_now,
) -> Iterator[WalletEditor]:
    """Change the wallet in `folder`; it is written back if the block ends without an error."""
    with container.editing(folder / FILE_NAME, passphrase, rng=rng, clock=clock) as document:
        yield WalletEditor(document, rng, tokens)


def _entry(document: Mapping[str, Any], label: str) -> dict[str, Any]:
    try:
        entry = document["cards"][label]
    except KeyError:
        raise NoSuchCard("the wallet has no card {label}", label=label) from None
    assert isinstance(entry, dict)
    return entry


def _begun(entry: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """The enrolment under way: its application and the PANSecret that the next certificate will commit with."""
    begun = entry.get("enrolment")
    if begun is None:
        raise WalletError("the enrolment of the card {label} has not begun", label=label)
    assert isinstance(begun, dict)
    return begun


def _card_secret(entry: Mapping[str, Any]) -> bytes:
    return bytes.fromhex(entry["card_secret"])


def _registration(entry: Mapping[str, Any]) -> OpenRequest | None:
    kept = entry.get("registration")
    return None if kept is None else open_request(kept, keys.public_key(entry))


def check_label(label: str) -> None:
    """A name that a person types and reads: short, on one line, nothing hidden in it."""
    if not 1 <= len(label) <= _LONGEST_LABEL or text_fault(label) is not None:
        raise WalletError("a card's name has 1 to 40 letters, digits and other signs that are seen")
