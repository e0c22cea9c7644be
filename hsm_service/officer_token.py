"""An officer's own token or smart card: a signing key in it, named by a PKCS#11 URI (RFC 7512), and its certificate.

A key that is made here is protected like those of the services (`hsm_service.keys`). A card that was filled by its
maker is held to less, since cards answer little about a key's past: it must be a private key that the card calls
sensitive and does not give away, and that signs. Whose key it is the certificate says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pkcs11 import Attribute, CertificateType, ObjectClass

from hsm_service.errors import BadInput, KeyExists, KeyMisused, KeyNotFound, TokenNotFound, WeakKey
from hsm_service.keys import KeyAttributes, KeyKind, KeyRef, Usage
from hsm_service.officer_token_place import OfficerTokenPlace
from hsm_service.pkcs11_module import Pkcs11Module, find_module, load_module
from hsm_service.private_key import TokenEcPrivateKey, TokenRsaPrivateKey, private_key
from hsm_service.sessions import Session
from hsm_service.token_uri import TokenUri
from hsm_service.tokens import Token
from runtime.secrets import Secret

RSA: Final = "rsa-3072"
EC: Final = "ec-p256"
"""The kinds of key that are made; both sign the messages of this product (KWBP global rule 2)."""

_SESSIONS: Final = 2


class OfficerToken(Token):
    """An officer's token, logged in."""

    def require_sound(self, ref: KeyRef, usage: Usage) -> KeyAttributes:
        """As of any token, of what a card tells of a key that it got from its maker. Raises WeakKey."""
        attributes = self.attributes(ref)
        faults = [
            fault
            for fault, found in (
                ("PRIVATE=false", not attributes.private),
                ("SENSITIVE=false", not attributes.sensitive),
                ("EXTRACTABLE=true", attributes.extractable),
                ("SIGN=false", "sign" not in attributes.usages),
            )
            if found
        ]
        if faults or usage is not Usage.SIGN:
            raise WeakKey(ref.label, tuple(faults) or (f"{usage} is not for officers",))
        return attributes

    @property
    def serial(self) -> str | None:
        """The token's serial number, as a URI names it; None if it has none that is text."""
        serial = bytes(self._token.serial).rstrip(b"\0 ")
        return serial.decode("ascii") if serial and serial.isascii() else None

    def make(self, label: str, algorithm: str) -> KeyRef:
        """Make a signing key, `rsa-3072` or `ec-p256`, protected like a service's. Raises KeyExists, BadInput."""
        if self.find(label=label) is not None:
            raise KeyExists(f"token {self.label!r} already holds a key {label!r}")
        if algorithm not in {RSA, EC}:
            raise BadInput(f"an officer's key is {RSA} or {EC}, not {algorithm}")
        ref, _public = self.generate_rsa(label) if algorithm == RSA else self.generate_ec(label)
        try:
            super().require_sound(ref, Usage.SIGN)
        except WeakKey:
            self.destroy(ref)
            raise
        return ref

    def key(self, uri: TokenUri) -> TokenRsaPrivateKey | TokenEcPrivateKey:
        """The key that the URI names by `object` and `id`, or the only one. Raises KeyNotFound, KeyMisused, WeakKey."""
        return private_key(self, self.named(uri))

    def named(self, uri: TokenUri) -> KeyRef:
        """The private key that the URI names. Raises KeyNotFound, KeyMisused, WeakKey."""
        ref = self.find(cka_id=uri.id, label=uri.object)
        if ref is None:
            raise KeyNotFound(f"token {self.label!r} holds no such key")
        if ref.kind not in {KeyKind.RSA, KeyKind.EC}:
            raise KeyMisused(f"{ref.label!r} is a secret key; it signs nothing")
        self.require_sound(ref, Usage.SIGN)
        return ref

    def certificate(self, ref: KeyRef) -> x509.Certificate | None:
        """The X.509 certificate of the key that is stored beside it, found by its CKA_ID; None if there is none."""

        def read(session: Session) -> list[bytes]:
            found = session.raw.get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE, Attribute.ID: ref.cka_id})
            return [bytes(each[Attribute.VALUE]) for each in found]

        key = self.public_key(ref)
        for der in self._run(read):
            try:
                certificate = x509.load_der_x509_certificate(der)
            except ValueError:
                continue
            if certificate.public_key() == key:
                return certificate
        return None

    def store_certificate(self, ref: KeyRef, certificate: x509.Certificate) -> None:
        """Store the certificate of a key beside it, in the place of an older one. Raises KeyMisused for another key."""
        if certificate.public_key() != self.public_key(ref):
            raise KeyMisused(f"the certificate is not one of {ref.label!r}")
        mine = {Attribute.CLASS: ObjectClass.CERTIFICATE, Attribute.ID: ref.cka_id}
        content = {
            **mine,
            Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
            Attribute.TOKEN: True,
            Attribute.PRIVATE: False,
            Attribute.LABEL: ref.label,
            Attribute.SUBJECT: certificate.subject.public_bytes(),
            Attribute.VALUE: certificate.public_bytes(Encoding.DER),
        }

        def store(session: Session) -> None:
            older = list(session.raw.get_objects(mine))
            session.raw.create_object(content)
            for each in older:
                each.destroy()

        self._administer(store)


def open_officer_token(place: OfficerTokenPlace, pin: Callable[[], Secret]) -> OfficerToken:
    """Log in, after one try of the PIN; close it when done.

    Raises TokenNotFound, PinRefused, ModuleBusy, TokenUnavailable, and what `pin` raises.
    """
    module = load_module(_module(place.uri), place.configuration)
    return OfficerToken.open(module, _label(module, place.uri), pin(), sessions=_SESSIONS)


def _module(uri: TokenUri) -> Path:
    if uri.module_path is None:
        return find_module()
    module = Path(uri.module_path)
    if not module.is_file():
        raise TokenNotFound(f"there is no PKCS#11 module {module}")
    return module


def _label(module: Pkcs11Module, uri: TokenUri) -> str:
    labels = module.labels() if uri.token is None else [uri.token]
    if len(labels) != 1:
        raise TokenNotFound(f"the URI names no token, and there are {len(labels)}")
    serial = bytes(module.token(labels[0]).serial).rstrip(b"\0 ")
    if uri.serial is not None and uri.serial.encode() != serial:
        raise TokenNotFound(f"the token {labels[0]!r} has another serial number than the URI names")
    return labels[0]
