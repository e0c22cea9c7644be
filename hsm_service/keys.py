"""What a key in a token is: its kind, its usage, its attributes, and when we refuse it.

A key has exactly one usage, and only the PKCS#11 usages that this one needs are switched on. A key is refused unless
the token says that it was made there and has never been able to leave: `SENSITIVE`, `ALWAYS_SENSITIVE`,
`NEVER_EXTRACTABLE`, `LOCAL` true and `EXTRACTABLE` false. There are two exceptions, and the service knows of each key
which one it is (`Protection`): what came from outside cannot be local, and what shall be backed up must be able to
leave, but only wrapped by a key that the token's security officer marked as trusted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final

from pkcs11 import Attribute, KeyType, ObjectClass

from hsm_service.errors import WeakKey


class KeyKind(StrEnum):
    """Key types of this service."""

    RSA = "rsa"
    EC = "ec"
    AES = "aes"
    DES2 = "des2"
    DES3 = "des3"


class Usage(StrEnum):
    """The one thing that a key is for."""

    SIGN = "sign"
    """RSA or EC private key: signatures."""
    OPEN = "open"
    """RSA private key: unwrapping content keys into the token (RSAES-OAEP), and signing its own PKCS#10 request."""
    SEAL = "seal"
    """AES key: AES-GCM, both directions."""
    PIN_BLOCK = "pin-block"
    """TDES or AES zone key: encrypting PIN blocks, one direction only."""
    MAC = "mac"
    """AES zone key: AES-CMAC."""
    DIGEST = "digest"
    """AES key: AES-CMAC of what has too few unknown digits to be hashed without a key (card numbers)."""
    RETAIL_MAC = "retail-mac"
    """2-key TDES zone key, and beside it (`chain_of`) its first half as TDES of three equal parts: the MAC of ANSI
    X9.19, in encrypting steps."""
    RESTORE = "restore"
    """RSA private key: unwrapping the keys of backups into the token (RSAES-OAEP)."""
    RECEIVE = "receive"
    """AES zone master key: unwrapping zone keys that come over the line into the token."""


class Protection(StrEnum):
    """How a key is kept in its token."""

    BOUND = "bound"
    """Made there, and has never been able to leave."""
    COPYABLE = "copyable"
    """Made there; leaves only wrapped by a key with CKA_TRUSTED, which nobody but the security officer can set."""
    BROUGHT_IN = "brought-in"
    """Came from outside (a zone key, or out of a backup), and cannot leave any more."""


_REQUIRED: Final[dict[Protection, dict[str, bool]]] = {
    Protection.BOUND: {
        "sensitive": True,
        "extractable": False,
        "private": True,
        "always_sensitive": True,
        "never_extractable": True,
        "local": True,
    },
    Protection.COPYABLE: {
        "sensitive": True,
        "private": True,
        "always_sensitive": True,
        "local": True,
        "wrap_with_trusted": True,
    },
    Protection.BROUGHT_IN: {"sensitive": True, "extractable": False, "private": True},
}
"""What the token must say of a key of each kind of protection."""

IMPORTED_USAGES: Final = frozenset({Usage.PIN_BLOCK, Usage.MAC, Usage.RETAIL_MAC, Usage.RECEIVE})
"""Usages of zone keys, whose components come from outside the token."""

ZONE_WORKING_KEYS: Final = frozenset(
    {
        (KeyKind.DES2, Usage.PIN_BLOCK),
        (KeyKind.DES3, Usage.PIN_BLOCK),
        (KeyKind.AES, Usage.PIN_BLOCK),
        (KeyKind.AES, Usage.MAC),
        (KeyKind.DES2, Usage.RETAIL_MAC),
    }
)
"""Kinds and usages of the zone keys that do the work, and come over the line too."""

TDES: Final = frozenset({KeyKind.DES2, KeyKind.DES3})

ZONE_KEY_SIZES: Final = {KeyKind.DES2: frozenset({16}), KeyKind.DES3: frozenset({24}), KeyKind.AES: frozenset({16, 32})}
"""Bytes of a zone key of each kind."""

ZONE_ALGORITHMS: Final = {
    "des2": (KeyKind.DES2, 16),
    "des3": (KeyKind.DES3, 24),
    "aes-128": (KeyKind.AES, 16),
    "aes-256": (KeyKind.AES, 32),
}
"""Kind and bytes of a zone key, by the algorithm of its template."""

_ON: Final[dict[Usage, frozenset[Attribute]]] = {
    Usage.SIGN: frozenset({Attribute.SIGN}),
    # Without SIGN the key could not prove possession in its PKCS#10 request (RFC 2986 3). Only `Token.prove_possession`
    # uses it, and typed signing hands that nothing but such a request.
    Usage.OPEN: frozenset({Attribute.UNWRAP, Attribute.SIGN}),
    Usage.SEAL: frozenset({Attribute.ENCRYPT, Attribute.DECRYPT}),
    Usage.PIN_BLOCK: frozenset({Attribute.ENCRYPT}),
    Usage.MAC: frozenset({Attribute.SIGN}),
    Usage.DIGEST: frozenset({Attribute.SIGN}),
    Usage.RETAIL_MAC: frozenset({Attribute.ENCRYPT}),
    Usage.RESTORE: frozenset({Attribute.UNWRAP}),
    Usage.RECEIVE: frozenset({Attribute.UNWRAP}),
}
_PRIVATE_USAGES: Final = (
    Attribute.SIGN,
    Attribute.SIGN_RECOVER,
    Attribute.DECRYPT,
    Attribute.UNWRAP,
    Attribute.DERIVE,
)
_SECRET_USAGES: Final = (
    Attribute.SIGN,
    Attribute.VERIFY,
    Attribute.ENCRYPT,
    Attribute.DECRYPT,
    Attribute.WRAP,
    Attribute.UNWRAP,
    Attribute.DERIVE,
)

PKCS11_TYPE: Final = {
    KeyKind.RSA: KeyType.RSA,
    KeyKind.EC: KeyType.EC,
    KeyKind.AES: KeyType.AES,
    KeyKind.DES2: KeyType.DES2,
    KeyKind.DES3: KeyType.DES3,
}
KIND_OF_TYPE: Final = {value: key for key, value in PKCS11_TYPE.items()}


@dataclass(frozen=True, slots=True)
class KeyRef:
    """Names a private or secret key in a token; says nothing secret. `protection` is what its users insist on."""

    token: str
    kind: KeyKind
    cka_id: bytes
    label: str
    protection: Protection = Protection.BOUND

    @property
    def object_class(self) -> ObjectClass:
        """CKA_CLASS of the key that the token must never give away."""
        return ObjectClass.PRIVATE_KEY if self.kind in {KeyKind.RSA, KeyKind.EC} else ObjectClass.SECRET_KEY


_CHAIN: Final = b"/K1"


def chain_of(ref: KeyRef) -> KeyRef:
    """The second part of an X9.19 key (`Usage.RETAIL_MAC`): its first half as TDES of three equal parts."""
    return replace(ref, kind=KeyKind.DES3, cka_id=ref.cka_id + _CHAIN)


@dataclass(frozen=True, slots=True)
class KeyAttributes:
    """What the token says about a key: the protection attributes, and the usages that are switched on."""

    sensitive: bool
    always_sensitive: bool
    never_extractable: bool
    local: bool
    extractable: bool
    private: bool
    wrap_with_trusted: bool
    usages: frozenset[str]
    """Names of the true CKA_ usage attributes in lower case, for example {"sign"}."""

    @property
    def imported(self) -> bool:
        """True for a key whose value existed outside the token (zone keys)."""
        return not self.local

    def protection(self) -> dict[str, bool]:
        """The protection attributes by name, as shown to people and put into attestations."""
        values = asdict(self)
        del values["usages"]
        return values

    def faults(self, usage: Usage, protection: Protection = Protection.BOUND) -> tuple[str, ...]:
        """Each attribute that is not as required, for example ("EXTRACTABLE=true",); empty for a sound key.

        A zone key counts as brought in, whatever `protection` says.
        """
        required = _REQUIRED[Protection.BROUGHT_IN if usage in IMPORTED_USAGES else protection]
        values = self.protection()
        faults = [
            f"{name.upper()}={str(values[name]).lower()}" for name, want in required.items() if values[name] != want
        ]
        wanted = {attribute.name.lower() for attribute in _ON[usage]}
        faults += [f"{name.upper()}=true" for name in sorted(self.usages - wanted)]
        faults += [f"{name.upper()}=false" for name in sorted(wanted - self.usages)]
        return tuple(faults)

    def require(self, label: str, usage: Usage, protection: Protection = Protection.BOUND) -> None:
        """Raise WeakKey unless the key is protected and restricted as `usage` and `protection` require."""
        if faults := self.faults(usage, protection):
            raise WeakKey(label, faults)


PROTECTION_ATTRIBUTES: Final = (
    Attribute.SENSITIVE,
    Attribute.ALWAYS_SENSITIVE,
    Attribute.NEVER_EXTRACTABLE,
    Attribute.LOCAL,
    Attribute.EXTRACTABLE,
    Attribute.PRIVATE,
    Attribute.WRAP_WITH_TRUSTED,
)


def attributes_to_read(object_class: ObjectClass) -> tuple[Attribute, ...]:
    """The attributes that `parse_attributes` needs, for a private or a secret key."""
    return PROTECTION_ATTRIBUTES + _usages_of(object_class)


def parse_attributes(object_class: ObjectClass, values: dict[Attribute, Any]) -> KeyAttributes:
    """Build KeyAttributes from what the token answered; an attribute that it left out counts against the key."""
    return KeyAttributes(
        sensitive=values.get(Attribute.SENSITIVE, False),
        always_sensitive=values.get(Attribute.ALWAYS_SENSITIVE, False),
        never_extractable=values.get(Attribute.NEVER_EXTRACTABLE, False),
        local=values.get(Attribute.LOCAL, False),
        extractable=values.get(Attribute.EXTRACTABLE, True),
        private=values.get(Attribute.PRIVATE, False),
        wrap_with_trusted=values.get(Attribute.WRAP_WITH_TRUSTED, False),
        usages=frozenset(each.name.lower() for each in _usages_of(object_class) if values.get(each, False)),
    )


def protected_template(
    object_class: ObjectClass, usage: Usage, *, store: bool, copyable: bool = False
) -> dict[Attribute, Any]:
    """The template of a key that cannot leave the token and can do only `usage`; `store` puts it on the token.

    A `copyable` one can leave, wrapped by a key that the security officer marked as trusted.
    """
    return {
        Attribute.TOKEN: store,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: copyable,
        **({Attribute.WRAP_WITH_TRUSTED: True} if copyable else {}),
        # Otherwise C_SetAttributeValue could switch further usages on later.
        Attribute.MODIFIABLE: False,
        **{each: each in _ON[usage] for each in _usages_of(object_class)},
    }


def _usages_of(object_class: ObjectClass) -> tuple[Attribute, ...]:
    return _PRIVATE_USAGES if object_class == ObjectClass.PRIVATE_KEY else _SECRET_USAGES
