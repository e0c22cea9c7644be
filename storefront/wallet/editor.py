"""The changes that can be made to an open wallet: cards, their enrolment, the roots that are believed.

Nothing here touches the disk; `storefront.wallet.wallet.editing` writes the wallet back when its block has ended well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp.commitment import commitment_cn, pan_secret
from kwbp.registration.answer import CheckedAnswer, check_commitment
from kwbp.registration.form import CheckedForm
from kwbp.text import text_fault
from pki import names
from pki.crl import CrlSet
from pki.errors import PkiError
from pki.path import Trust, validate_path
from pki.roles import Role
from shetab.types import Cvv2, Expiry, Pan, Pin
from storefront.errors import NoSuchCard, WalletError
from storefront.wallet import keys, renewal, roots
from storefront.wallet.keys import Algorithm, TokenKey, Tokens, no_tokens
from storefront.wallet.registration import CardInWallet, OpenRequest, compose, new_one_time_key, open_request

_LONGEST_LABEL: Final = 40
_KEPT: Final = frozenset(
    {"pan", "expiry", "card_secret", "key", "token", "certificate", "pan_secret", "enrolment", "registration"}
    | {renewal.NEXT, renewal.EARLIER, "unaccepted"}
)
"""What the document keeps of a card; see `storefront.wallet.wallet`."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What goes to the registration authority for one card; nothing in it lets the card number be guessed."""

    commitment: str
    bin: str
    request: bytes
    """PKCS#10, DER."""


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
        entry = card_entry(self._document, label)
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
        entry = card_entry(self._document, label)
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
        entry = card_entry(self._document, label)
        secret = _begun(entry, label)["pan_secret"]
        leaf, *above = chain
        commitment = commitment_cn(bytes.fromhex(secret), Pan.parse(entry["pan"]), Expiry.parse(entry["expiry"]))
        _require_for_card(leaf, entry, commitment)
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
        entry = card_entry(self._document, label)
        key = keys.private_key(renewal.key_under_way(entry), self._tokens)
        held = CardInWallet(Pan.parse(entry["pan"]), Expiry.parse(entry["expiry"]), _card_secret(entry), key)
        entry["registration"] = compose(
            held, form, pin2=pin2, cvv2=cvv2, now=now, rng=self._rng, one_time_key=one_time_key
        )
        return open_request(entry["registration"], key.public_key())

    def begin_renewal(
        self, label: str, *, algorithm: Algorithm = "rsa-3072", in_token: Callable[[], TokenKey] | None = None
    ) -> None:
        """Make the key of the card's next certificate; `begin_registration` then asks for it.

        :param in_token: as in `add_card`. :raises WalletError: the card has no certificate yet.
        """
        renewal.with_next_key(card_entry(self._document, label), algorithm=algorithm, in_token=in_token)

    def finish_registration(self, label: str, answer: CheckedAnswer, *, now: datetime | None = None) -> None:
        """Keep the certificate that the request brought, and that it is not accepted yet (`accepted`).

        :raises ProtocolError, WalletError: it is not this card's.
        """
        entry = card_entry(self._document, label)
        pan, expiry = Pan.parse(entry["pan"]), Expiry.parse(entry["expiry"])
        secret = check_commitment(answer, pan=pan, expiry=expiry, card_secret=_card_secret(entry))
        renewal.replace(entry)
        entry["enrolment"] = {"application": answer.body.application, "pan_secret": secret.hex()}
        self.finish_enrolment(label, answer.chains["signing"], now=now)
        entry["unaccepted"] = answer.body.application
        del entry["registration"]

    def accepted(self, label: str) -> None:
        """The authority has the acceptance of the card's certificate, or will never take it: none is owed any more."""
        card_entry(self._document, label).pop("unaccepted", None)

    def drop_registration(self, label: str) -> None:
        """Forget a request that came to nothing, and the key that it was for, if that is not the one that pays."""
        entry = card_entry(self._document, label)
        entry.pop("registration", None)
        entry.pop(renewal.NEXT, None)

    def remove_card(self, label: str) -> None:
        """Forget a card, all its data and its key; a key in a token stays there."""
        card_entry(self._document, label)
        del self._document["cards"][label]


def card_entry(document: Mapping[str, Any], label: str) -> dict[str, Any]:
    """What the wallet's document keeps of a card. Raises NoSuchCard."""
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


def check_entry(entry: Mapping[str, Any]) -> None:
    """That this can be what the document keeps of a card, and that its parts belong together.

    :raises WalletError, PkiError, ProtocolError, ValueFormatError, KeyError, ValueError, TypeError: it cannot.
    """
    if not entry.keys() <= _KEPT or len(_card_secret(entry)) != 32:
        raise ValueError("this is not what a wallet keeps of a card")
    pan, expiry = Pan.parse(entry["pan"]), Expiry.parse(entry["expiry"])
    if (entry["pan"], entry["expiry"]) != (pan.reveal(), expiry.reveal()):  # one card is written in one way
        raise ValueError("this is not what a wallet keeps of a card")
    keys.check_key(entry)
    if ("certificate" in entry) != ("pan_secret" in entry):
        raise WalletError("the certificate is not for this card")
    if "certificate" in entry:
        leaf, *_above = x509.load_pem_x509_certificates(entry["certificate"].encode())
        _require_for_card(leaf, entry, commitment_cn(bytes.fromhex(entry["pan_secret"]), pan, expiry))
    if "enrolment" in entry:
        begun = entry["enrolment"]
        commitment_cn(bytes.fromhex(begun["pan_secret"]), pan, expiry)
        if not isinstance(begun["application"], str):
            raise TypeError("an application has a name")
    if not isinstance(entry.get("unaccepted", ""), str):
        raise TypeError("an application has a name")
    if "registration" in entry:
        open_request(entry["registration"], keys.public_key(renewal.key_under_way(entry)))
    renewal.check(entry)


def _require_for_card(leaf: x509.Certificate, entry: Mapping[str, Any], commitment: str) -> None:
    common_names = [attribute.value for attribute in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    if leaf.public_key() != keys.public_key(entry) or common_names != [commitment]:
        raise WalletError("the certificate is not for this card")


def _card_secret(entry: Mapping[str, Any]) -> bytes:
    return bytes.fromhex(entry["card_secret"])


def check_label(label: str) -> None:
    """A name that a person types and reads: short, on one line, nothing hidden in it."""
    if not 1 <= len(label) <= _LONGEST_LABEL or text_fault(label) is not None:
        raise WalletError("a card's name has 1 to 40 letters, digits and other signs that are seen")
