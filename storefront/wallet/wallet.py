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

from kwbp.wallet import Card
from runtime.secrets import Secret
from shetab.types import Cvv2, Expiry, Pan, Pin
from storefront.errors import WalletError
from storefront.wallet import container, keys, renewal, roots
from storefront.wallet.editor import WalletEditor, card_entry
from storefront.wallet.keys import PrivateKey, Tokens, no_tokens
from storefront.wallet.lockout import Clock, utc_now
from storefront.wallet.registration import OpenRequest, open_request

FILE_NAME: Final = "wallet.kwbp"
PURCHASES: Final = "purchases"
"""Folder of the buyer's evidence, beside the file."""


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
        entry = card_entry(self._document, label)
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

    def earlier(self, label: str) -> list[tuple[x509.Certificate, ...]]:
        """The certificates that the card had before, each with the CAs above it, the oldest first."""
        kept = card_entry(self._document, label).get(renewal.EARLIER, ())
        return [tuple(x509.load_pem_x509_certificates(each["certificate"].encode())) for each in kept]

    def bin(self, label: str) -> str:
        """First six digits of a card: its issuer. Raises NoSuchCard."""
        return Pan.parse(card_entry(self._document, label)["pan"]).bin

    def application(self, label: str) -> str | None:
        """The application under which the card is being enrolled."""
        begun = card_entry(self._document, label).get("enrolment")
        return None if begun is None else str(begun["application"])

    def registration(self, label: str) -> OpenRequest | None:
        """The request for a certificate that is under way for the card."""
        return _registration(card_entry(self._document, label))

    def unaccepted(self, label: str) -> str | None:
        """The application whose certificate the card has, and whose acceptance the authority may not have yet."""
        found: str | None = card_entry(self._document, label).get("unaccepted")
        return found

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


def _registration(entry: Mapping[str, Any]) -> OpenRequest | None:
    kept = entry.get("registration")
    return None if kept is None else open_request(kept, keys.public_key(renewal.key_under_way(entry)))
