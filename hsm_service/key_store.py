"""The keys on a token: made there or loaded from components, found, described, checked, destroyed.

A key that the token protects less than its usage requires is refused at its first use and destroyed if it is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pkcs11 import Attribute, KeyType, ObjectClass
from pkcs11.util.ec import encode_named_curve_parameters

from hsm_service import encodings
from hsm_service.errors import BadInput, KeyExists, KeyMisused, KeyNotFound, TokenUnavailable
from hsm_service.keys import (
    KIND_OF_TYPE,
    PKCS11_TYPE,
    ZONE_WORKING_KEYS,
    KeyAttributes,
    KeyKind,
    KeyRef,
    Protection,
    Usage,
    attributes_to_read,
    chain_of,
    parse_attributes,
    protected_template,
)
from hsm_service.logged_in import LoggedInToken
from hsm_service.sessions import Session
from runtime.secrets import Secret

_ID_BYTES: Final = 16
_CURVES: Final = {"P-256": "secp256r1", "P-384": "secp384r1"}
_PAIR_USAGES: Final = frozenset({Usage.SIGN, Usage.OPEN, Usage.RESTORE})


class KeyStore(LoggedInToken):
    """A logged-in token seen as a store of keys."""

    def generate_rsa(
        self,
        label: str,
        bits: int = 3072,
        *,
        usage: Usage = Usage.SIGN,
        cka_id: bytes | None = None,
        copyable: bool = False,
    ) -> tuple[KeyRef, rsa.RSAPublicKey]:
        """Make an RSA key pair in the token, exponent 65537; `usage` is SIGN, OPEN or RESTORE.

        Returns its reference and public key. The new key is checked; a key that is less protected than required is
        destroyed and WeakKey raised. Raises KeyExists if `cka_id` (default: 16 random bytes) is taken. A `copyable` key
        can be backed up (`hsm_service.keys.Protection`).
        """
        ref = self._generate_pair(label, KeyKind.RSA, usage, cka_id, bits=bits, copyable=copyable)
        public = self.public_key(ref)
        if not isinstance(public, rsa.RSAPublicKey):  # pragma: no cover  # the type was just generated
            raise TokenUnavailable("the token made a key of another type")
        return ref, public

    def generate_ec(
        self, label: str, curve: str = "P-256", *, cka_id: bytes | None = None, copyable: bool = False
    ) -> tuple[KeyRef, ec.EllipticCurvePublicKey]:
        """Make an EC key pair for signing on `P-256` or `P-384`; otherwise as `generate_rsa`."""
        ref = self._generate_pair(label, KeyKind.EC, Usage.SIGN, cka_id, curve=curve, copyable=copyable)
        public = self.public_key(ref)
        if not isinstance(public, ec.EllipticCurvePublicKey):  # pragma: no cover  # the type was just generated
            raise TokenUnavailable("the token made a key of another type")
        return ref, public

    def generate_aes(
        self, label: str, bits: int = 256, *, usage: Usage = Usage.SEAL, cka_id: bytes | None = None
    ) -> KeyRef:
        """Make an AES key in the token; `usage` is SEAL (AES-GCM), MAC or DIGEST (AES-CMAC)."""
        if usage not in {Usage.SEAL, Usage.MAC, Usage.DIGEST} or bits not in {128, 256}:
            raise BadInput(f"an AES key has 128 or 256 bits and seals, MACs or digests; not {bits} bits for {usage}")
        ref = self._new_ref(label, KeyKind.AES, cka_id)

        def generate(session: Session) -> None:
            session.raw.generate_key(
                KeyType.AES,
                bits,
                id=ref.cka_id,
                label=label,
                template=protected_template(ObjectClass.SECRET_KEY, usage, store=True),
            )

        self._administer(generate)
        self._check_new(ref, usage)
        return ref

    def import_zone_key(
        self, label: str, kind: KeyKind, components: Sequence[Secret], *, usage: Usage, cka_id: bytes | None = None
    ) -> KeyRef:
        """Load a zone key from its components: the key is their XOR, all of the key's length.

        `kind` and `usage` are of `ZONE_WORKING_KEYS`, or AES for RECEIVE; a TDES key gets odd parity (ANSI X3.92). The
        key is marked by the token as not LOCAL, that is imported. One for RETAIL_MAC is loaded as its two parts, the
        second one first: where the first is, both are. Raises BadInput for fewer than two components, another length,
        or (TDES) parts that are equal, which would be single or double DES.
        """
        value = encodings.combine_components(kind, components)
        if (kind, usage) not in {*ZONE_WORKING_KEYS, (KeyKind.AES, Usage.RECEIVE)}:
            raise BadInput(f"a zone key is not {kind} for {usage}")
        ref = self._new_ref(label, kind, cka_id)
        parts = [(ref, value)]
        if usage is Usage.RETAIL_MAC:
            parts.insert(0, (chain_of(ref), encodings.single_des_part(value)))

        def create(session: Session) -> None:
            self._clear(session, ref)
            for each, part in parts:
                session.raw.create_object(
                    {
                        Attribute.CLASS: ObjectClass.SECRET_KEY,
                        Attribute.KEY_TYPE: PKCS11_TYPE[each.kind],
                        Attribute.ID: each.cka_id,
                        Attribute.LABEL: label,
                        Attribute.VALUE: part.reveal(),
                        **protected_template(ObjectClass.SECRET_KEY, usage, store=True),
                    }
                )

        self._administer(create)
        self._check_new(ref, usage)
        return ref

    def find(self, *, cka_id: bytes | None = None, label: str | None = None) -> KeyRef | None:
        """The private or secret key with this CKA_ID or label; None if there is none, KeyMisused if there are more."""
        wanted: dict[Attribute, Any] = {}
        if cka_id is not None:
            wanted[Attribute.ID] = cka_id
        if label is not None:
            wanted[Attribute.LABEL] = label
        found = self._run(lambda session: self._search(session, wanted))
        if len(found) > 1:
            raise KeyMisused(f"token {self.label!r} holds {len(found)} keys like that; expected one")
        return found[0] if found else None

    def keys(self) -> list[KeyRef]:
        """All private and secret keys stored on the token, whoever made them."""
        return self._run(lambda session: self._search(session, {}))

    def _search(self, session: Session, wanted: dict[Attribute, Any]) -> list[KeyRef]:
        refs = []
        for object_class in (ObjectClass.PRIVATE_KEY, ObjectClass.SECRET_KEY):
            template = {Attribute.CLASS: object_class, Attribute.TOKEN: True, **wanted}
            for each in session.raw.get_objects(template):
                kind = KIND_OF_TYPE.get(each[Attribute.KEY_TYPE])
                if kind is not None:
                    refs.append(KeyRef(self.label, kind, each[Attribute.ID], each[Attribute.LABEL]))
        # The second part of an X9.19 key is no key of its own, unless a killed process left it alone.
        chains = {chain_of(ref) for ref in refs if ref.kind is KeyKind.DES2}
        return [ref for ref in refs if ref not in chains]

    def attributes(self, ref: KeyRef) -> KeyAttributes:
        """What the token says about the key, read afresh."""

        def read(session: Session) -> KeyAttributes:
            values = session.key(ref).get_attributes(attributes_to_read(ref.object_class))
            return parse_attributes(ref.object_class, values)

        return self._run(read, ref)

    def require_sound(self, ref: KeyRef, usage: Usage) -> KeyAttributes:
        """Read the attributes afresh and raise WeakKey unless they are what `usage` and the reference require."""
        attributes = self.attributes(ref)
        attributes.require(ref.label, usage, ref.protection)
        if usage is Usage.RETAIL_MAC:
            self.attributes(chain_of(ref)).require(ref.label, usage, ref.protection)
        return attributes

    def public_key(self, ref: KeyRef) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
        """The public key of a pair: for RSA read from the private object, for EC from the public one beside it."""

        def read(session: Session) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
            if ref.kind is KeyKind.RSA:
                return encodings.rsa_public_key(
                    session.key(ref).get_attributes([Attribute.MODULUS, Attribute.PUBLIC_EXPONENT])
                )
            public = list(session.raw.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: ref.cka_id}))
            if len(public) != 1:
                raise KeyNotFound(f"token {ref.token!r} holds {len(public)} public keys for {ref.label!r}; expected 1")
            return encodings.ec_public_key(public[0].get_attributes([Attribute.EC_PARAMS, Attribute.EC_POINT]))

        if ref.kind not in {KeyKind.RSA, KeyKind.EC}:
            raise KeyMisused(f"{ref.label!r} is a secret key and has no public part")
        return self._run(read, ref)

    def destroy(self, ref: KeyRef) -> None:
        """Destroy the key and its public object, for ever."""

        def remove(session: Session) -> None:
            for each in list(session.raw.get_objects({Attribute.ID: ref.cka_id, Attribute.TOKEN: True})):
                each.destroy()
            self._clear(session, ref)

        self._administer(remove)
        for each in (ref, chain_of(ref)):
            self._pool.forget(each.cka_id)
        self._sound = {each for each in self._sound if each[0].cka_id != ref.cka_id}

    @staticmethod
    def _clear(session: Session, ref: KeyRef) -> None:
        """Destroy the second part of an X9.19 key, which is there alone if a process was killed between the two."""
        for each in list(session.raw.get_objects({Attribute.ID: chain_of(ref).cka_id, Attribute.TOKEN: True})):
            each.destroy()

    def _require_kind(self, ref: KeyRef, kind: KeyKind, usage: Usage) -> None:
        """Refuse a key of another kind, another token, or (read at its first use) one that is not sound."""
        if ref.kind is not kind or ref.token != self.label:
            raise KeyMisused(
                f"{ref.label!r} is an {ref.kind} key of token {ref.token!r}; {usage} needs {kind} in {self.label!r}"
            )
        if (ref, usage) not in self._sound:
            self.require_sound(ref, usage)
            self._sound.add((ref, usage))

    def _generate_pair(
        self,
        label: str,
        kind: KeyKind,
        usage: Usage,
        cka_id: bytes | None,
        *,
        copyable: bool,
        bits: int = 0,
        curve: str = "",
    ) -> KeyRef:
        if usage not in _PAIR_USAGES or (usage is not Usage.SIGN and kind is not KeyKind.RSA):
            raise BadInput(f"an {kind} key does not serve {usage}")
        ref = self._new_ref(label, kind, cka_id, Protection.COPYABLE if copyable else Protection.BOUND)
        public_template: dict[Attribute, Any] = {
            Attribute.TOKEN: True,
            Attribute.PRIVATE: False,
            Attribute.VERIFY: True,
            Attribute.VERIFY_RECOVER: False,
            Attribute.ENCRYPT: False,
            Attribute.WRAP: usage in {Usage.OPEN, Usage.RESTORE},
        }
        private_template = protected_template(ObjectClass.PRIVATE_KEY, usage, store=True, copyable=copyable)

        def generate(session: Session) -> None:
            common: dict[str, Any] = {
                "id": ref.cka_id,
                "label": label,
                "store": True,
                "public_template": public_template,
                "private_template": private_template,
            }
            if kind is KeyKind.RSA:
                session.raw.generate_keypair(KeyType.RSA, bits, **common)
                return
            if curve not in _CURVES:
                raise BadInput(f"no curve {curve!r}; there are {sorted(_CURVES)}")
            parameters = session.raw.create_domain_parameters(
                KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters(_CURVES[curve])}, local=True
            )
            parameters.generate_keypair(**common)

        self._administer(generate)
        self._check_new(ref, usage)
        return ref

    def _new_ref(
        self, label: str, kind: KeyKind, cka_id: bytes | None, protection: Protection = Protection.BOUND
    ) -> KeyRef:
        cka_id = self.random(_ID_BYTES) if cka_id is None else cka_id
        if not cka_id or not label:
            raise BadInput("a key needs a label and a CKA_ID")
        if self.find(cka_id=cka_id) is not None:
            raise KeyExists(f"token {self.label!r} already holds a key with id {cka_id.hex()}")
        return KeyRef(self.label, kind, cka_id, label, protection)

    def _check_new(self, ref: KeyRef, usage: Usage) -> None:
        try:
            self.require_sound(ref, usage)
        except BaseException:
            self.destroy(ref)
            raise
