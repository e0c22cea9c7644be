"""Where the private key of a card is: sealed in the wallet's own file, or in a PKCS#11 token, which it never leaves.

The wallet itself loads no PKCS#11 module. Whoever opens it brings a function that finds a key in a token (`Tokens`); it
is called only when such a key has to sign, so a card whose key is in a file costs nobody a module or a PIN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from hsm_service.token_uri import TokenUri
from pki.algorithms import SignatureSuite
from pki.keys import screen_public_key
from storefront.errors import WalletError

Algorithm = Literal["rsa-3072", "ec-p256"]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """A key in a token: its PKCS#11 URI (RFC 7512), and SoftHSM2's configuration file where the token is software."""

    uri: str
    configuration: str | None = None


Tokens = Callable[[TokenPlace], PrivateKey]
"""Finds a key in a token; what it signs is signed there."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key that was made in a token for a card."""

    place: TokenPlace
    public: PublicKey


def no_tokens(place: TokenPlace) -> PrivateKey:
    """For whoever has no token at hand."""
    raise WalletError("the key of this card is in the token {uri}, which is not at hand", uri=place.uri)


def new_key(algorithm: Algorithm) -> dict[str, Any]:
    """A new key, as the wallet file keeps it."""
    key: PrivateKey = (
        rsa.generate_private_key(65537, 3072) if algorithm == "rsa-3072" else ec.generate_private_key(ec.SECP256R1())
    )
    return {"key": key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()).hex()}


def key_in_token(key: TokenKey) -> dict[str, Any]:
    """A key in a token, as the wallet file keeps it: where it is, and its public half."""
    spki = key.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    place = {"uri": key.place.uri, "configuration": key.place.configuration}
    return {"token": {**place, "public": spki.hex()}}


def place_of(entry: Mapping[str, Any]) -> TokenPlace | None:
    """Where the key of a card's entry is; None if it is in the entry itself."""
    token = entry.get("token")
    if token is None:
        return None
    return TokenPlace(str(TokenUri.parse(token["uri"])), token["configuration"])


def forget_module(entry: dict[str, Any]) -> None:
    """Keep of a token what names it and the key, not which module is loaded for it, nor where its PIN lies."""
    token = entry.get("token")
    if token is not None:
        uri = replace(TokenUri.parse(token["uri"]), module_path=None, module_name=None, pin_source=None)
        entry["token"] = {"uri": str(uri), "configuration": None, "public": token["public"]}


def public_key(entry: Mapping[str, Any]) -> PublicKey:
    """The public half, which no token is needed for."""
    if "token" not in entry:
        return _in_file(entry).public_key()
    key = load_der_public_key(bytes.fromhex(entry["token"]["public"]))
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    return key


def check_key(entry: Mapping[str, Any]) -> None:
    """That the entry has one key, of a kind that signs messages, and not a weak one (KWBP global rule 2).

    :raises ValueError, TypeError, KeyError, UnsupportedAlgorithm, CertificateError: it has not.
    """
    place = place_of(entry)
    if place is None:
        public: Any = load_der_private_key(bytes.fromhex(entry["key"]), None).public_key()
    elif "key" in entry:
        raise ValueError("a key in the file and one in a token")
    else:
        public = load_der_public_key(bytes.fromhex(entry["token"]["public"]))
    SignatureSuite.for_key(public)
    screen_public_key(public)


def private_key(entry: Mapping[str, Any], tokens: Tokens) -> PrivateKey:
    """The key of a card's entry. :raises WalletError: the token holds another key, or none is at hand."""
    place = place_of(entry)
    if place is None:
        return _in_file(entry)
    key = tokens(place)
    if key.public_key() != public_key(entry):
        raise WalletError("the key in the token {uri} is not the one of this card", uri=place.uri)
    return key


def _in_file(entry: Mapping[str, Any]) -> PrivateKey:
    key = load_der_private_key(bytes.fromhex(entry["key"]), None)
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    return key
