"""The next certificate of a card that has one: for a new key, while the old one stays in use until the new one is here.

A key is certified once, and cardholders apply anew for each certificate (CPS 4.6, 4.7): the request is a registration
as the first one was, signed with the new key. The new key is in the wallet before anything is sent. What the old
certificate proves about purchases stays; its key goes.

    entry   key, certificate, pan_secret      what pays
            next: key                         what is being certified
            earlier: certificate, pan_secret  what paid before, the oldest first
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography import x509

from kwbp.commitment import commitment_cn
from shetab.types import Expiry, Pan
from storefront.errors import WalletError
from storefront.wallet import keys
from storefront.wallet.keys import Algorithm, TokenKey

NEXT: Final = "next"
EARLIER: Final = "earlier"
_KEYS: Final = ("key", "token")
_CERTIFIED: Final = ("certificate", "pan_secret")


def with_next_key(
    entry: dict[str, Any], *, algorithm: Algorithm, in_token: Callable[[], TokenKey] | None = None
) -> Mapping[str, Any]:
    """The key that is to be certified next, made now unless it is there: what an entry keeps of a key.

    :raises WalletError: the card has no certificate that could be renewed.
    """
    if "certificate" not in entry:
        raise WalletError("the card has no certificate yet; enrol it first")
    if NEXT not in entry:
        entry[NEXT] = keys.new_key(algorithm) if in_token is None else keys.key_in_token(in_token())
    found: Mapping[str, Any] = entry[NEXT]
    return found


def key_under_way(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry of the key that a request under way is for: the next one, else the card's own."""
    found: Mapping[str, Any] = entry.get(NEXT, entry)
    return found


def replace(entry: dict[str, Any]) -> None:
    """Put the next key in the place of the card's own, and keep what its certificate proves; if there is a next key."""
    if NEXT not in entry:
        return
    entry.setdefault(EARLIER, []).append({name: entry.pop(name) for name in _CERTIFIED})
    for name in _KEYS:
        entry.pop(name, None)
    entry.update(entry.pop(NEXT))


def check(entry: Mapping[str, Any]) -> None:
    """That what an entry keeps of next and earlier keys is in form, and of this card.

    :raises WalletError, KeyError, ValueError, TypeError, CertificateError: it is not.
    """
    if NEXT in entry:
        if not entry[NEXT].keys() <= set(_KEYS) or "certificate" not in entry:
            raise ValueError("this is not what a wallet keeps of a card")
        keys.check_key(entry[NEXT])
    for each in entry.get(EARLIER, ()):
        if each.keys() != set(_CERTIFIED):
            raise ValueError("this is not what a wallet keeps of a card")
        leaf = x509.load_pem_x509_certificates(each["certificate"].encode())[0]
        secret, pan, expiry = bytes.fromhex(each["pan_secret"]), Pan.parse(entry["pan"]), Expiry.parse(entry["expiry"])
        names = [name.value for name in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
        if names != [commitment_cn(secret, pan, expiry)]:
            raise WalletError("the certificate is not for this card")
