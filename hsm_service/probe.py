"""What a token can really do, found out by doing it with throw-away keys.

A mechanism list promises too much: SoftHSM2 lists RSA-OAEP and does it with SHA-1 only. And it is silent about what
matters most: whether a key that must not leave can be wrapped out all the same. So each ability is tried, in every way
that `mechanisms` knows, and its result compared with independent software. Only the larger RSA sizes are taken from the
token's word, because making one takes seconds.

The keys are session objects; on a token that has none (a TPM) they are stored and destroyed again.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import pkcs11
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.keywrap import aes_key_wrap, aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.util.ec import encode_named_curve_parameters

from hsm_service import encodings, mechanisms
from hsm_service.capabilities import Ability, Capabilities, Finding
from hsm_service.errors import HsmError
from hsm_service.keys import Protection, Usage, attributes_to_read, parse_attributes, protected_template
from hsm_service.mechanisms import GcmParameters, Opening, Ways, ZoneUnwrap

_LABEL: Final = "capability probe"
_MESSAGE: Final = b"capability probe"
_PROBE_RSA_BITS: Final = 2048
_DES3_KEY: Final = bytes.fromhex("0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123")
_AES_BLOCK: Final = bytes(range(16))
_WRAPPERS: Final = (
    (Mechanism.AES_KEY_WRAP, None),
    (Mechanism.AES_KEY_WRAP_PAD, None),
    (Mechanism.AES_KEY_WRAP_KWP, None),
    (Mechanism.AES_ECB, None),
    (Mechanism.AES_CBC, bytes(16)),
    (Mechanism.AES_CBC_PAD, bytes(16)),
)
"""By which it is tried to wrap a key out that must stay in."""


def probe(session: pkcs11.Session) -> Capabilities:
    """Try every ability on `session` and clean up; a few tenths of a second, most of them for an RSA key.

    The session is logged in and read-write, and is to be closed afterwards: SoftHSM2 leaves half-made objects in it
    when it refuses a template.
    """
    with _Prober(session) as prober:
        trials: dict[Ability, Callable[[], str | None]] = {
            Ability.LOCKED_IN: prober.locked_in,
            Ability.USAGES_FIXED: prober.usages_fixed,
            Ability.RSA_KEYS: prober.rsa_keys,
            Ability.RSA_3072: lambda: prober.rsa_size(3072),
            Ability.RSA_4096: lambda: prober.rsa_size(4096),
            Ability.RSA_PKCS1V15: prober.rsa_pkcs1v15,
            Ability.RSA_PSS_SHA256: prober.rsa_pss,
            Ability.ECDSA_P256: lambda: prober.ecdsa("secp256r1"),
            Ability.ECDSA_P384: lambda: prober.ecdsa("secp384r1"),
            Ability.OAEP_SHA1: lambda: prober.oaep("oaep-sha1"),
            Ability.OAEP_SHA256: lambda: prober.oaep("oaep-sha256"),
            Ability.AES_KEYS: prober.aes_keys,
            Ability.AES_GCM: prober.aes_gcm,
            Ability.IMPORT: prober.imported,
            Ability.AES_CMAC: prober.aes_cmac,
            Ability.DES2_BLOCK: prober.des2_block,
            Ability.DES3_BLOCK: prober.des3_block,
            Ability.AES_BLOCK: prober.aes_block,
            Ability.RETAIL_MAC: prober.retail_mac,
            Ability.COPIES_TRUSTED: prober.copies_trusted,
            Ability.RESTORE: prober.restored,
            Ability.ZONE_UNWRAP: prober.zone_unwrap,
            Ability.ZONE_UNWRAP_LONG: prober.zone_unwrap_long,
            Ability.RANDOM: prober.random,
        }
        return Capabilities(tuple(_finding(ability, trials[ability]) for ability in Ability))


class Wrong(Exception):
    """The token answered, but not as it should; the text says how."""


_FAILURES: Final = (PKCS11Error, Wrong, InvalidSignature, HsmError, ValueError, AttributeError)
"""AttributeError: python-pkcs11 gives an object only the methods whose usage the token says it has."""


def _finding(ability: Ability, trial: Callable[[], str | None]) -> Finding:
    try:
        return Finding(ability, True, variant=trial() or "")
    except _FAILURES as error:
        return Finding(ability, False, reason=_reason(error))


def _reason(error: Exception) -> str:
    """The CKR_ code, or what was wrong."""
    match error:
        case PKCS11Error() if "Buffer was too small" in str(error):
            return "CKR_BUFFER_TOO_SMALL"  # after python-pkcs11 took the length that the token itself had named
        case PKCS11Error() if type(error) is PKCS11Error:
            return str(error)  # a code that python-pkcs11 has no class for
        case PKCS11Error():
            words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(error).__name__)
            return f"CKR_{words.upper()}"
        case InvalidSignature():
            return "its signature does not verify"
        case AttributeError():
            return "the key that it made does not say that it may be used so"
        case ValueError():
            return "its answer cannot be read"
        case _:
            return str(error)


class _Prober:
    """The trials; each returns the way that worked if there are several, and raises one of `_FAILURES` if none did."""

    def __init__(self, session: pkcs11.Session) -> None:
        self._session = session
        self._objects = contextlib.ExitStack()
        self._store: bool | None = None
        self._rsa: tuple[Any, rsa.RSAPublicKey] | None = None

    def __enter__(self) -> _Prober:
        for left_behind in list(self._session.get_objects({Attribute.LABEL: _LABEL, Attribute.TOKEN: True})):
            left_behind.destroy()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._objects.close()

    # -- protection ----------------------------------------------------------------------------------------------------

    def locked_in(self) -> None:
        """A protected key does not come out by reading, by copying, by changing or by wrapping."""
        target = self._secret(Usage.SEAL)
        breaches: list[str] = []
        with contextlib.suppress(PKCS11Error):
            if target[Attribute.VALUE]:
                breaches.append("the value of a sensitive key can be read")
        for attribute, value in ((Attribute.EXTRACTABLE, True), (Attribute.SENSITIVE, False)):
            if _accepted(self._copy, target, {attribute: value}):
                breaches.append(f"a copy of a key can have {attribute.name}={str(value).lower()}")
            if _accepted(target.__setitem__, attribute, value):
                breaches.append(f"{attribute.name} of a key can be set to {str(value).lower()}")
        wrapper = self._secret(Usage.SEAL, {Attribute.WRAP: True})
        targets = [("secret", target)]
        with contextlib.suppress(*_FAILURES):
            targets.append(("private", self._rsa_pair()[0]))
        for name, each in targets:
            if by := self._wrapped_by(wrapper, each):
                breaches.append(f"a {name} key that is not extractable can be wrapped out by {by}")
        if breaches:
            raise Wrong("; ".join(breaches))

    def usages_fixed(self) -> None:
        target = self._secret(Usage.MAC)
        for attribute in (Attribute.DECRYPT, Attribute.WRAP):
            if _accepted(target.__setitem__, attribute, True):
                raise Wrong(f"{attribute.name} can be switched on later")

    def copies_trusted(self) -> None:
        """A key that may leave does so only by a trusted wrapping key, and that cannot be switched off."""
        target = self._secret(Usage.SEAL, {Attribute.EXTRACTABLE: True, Attribute.WRAP_WITH_TRUSTED: True})
        for attribute in (Attribute.WRAP_WITH_TRUSTED, Attribute.SENSITIVE):
            if not target[attribute]:
                raise Wrong(f"its key has {attribute.name}=false")
        if _accepted(self._copy, target, {Attribute.WRAP_WITH_TRUSTED: False}):
            raise Wrong("a copy of a key can have WRAP_WITH_TRUSTED=false")
        if _accepted(target.__setitem__, Attribute.WRAP_WITH_TRUSTED, False):
            raise Wrong("WRAP_WITH_TRUSTED of a key can be set to false")
        if by := self._wrapped_by(self._secret(Usage.SEAL, {Attribute.WRAP: True}), target):
            raise Wrong(f"a key that asks for a trusted wrapping key is wrapped out by any, with {by}")
        if _accepted(self._secret, Usage.SEAL, {Attribute.WRAP: True, Attribute.TRUSTED: True}):
            raise Wrong("not only the security officer can mark a wrapping key as trusted")

    def restored(self) -> str:
        """A private key that independent software wrapped comes in, keeps in, and signs."""
        value = os.urandom(32)
        wrapper = self._known(KeyType.AES, value, Usage.SEAL, {Attribute.UNWRAP: True})
        host = _host_key()
        plain = host.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        wrapped = aes_key_wrap_with_padding(value, plain)
        info = encodings.digest_info(encodings.digest(_MESSAGE, hashes.SHA256()), hashes.SHA256())

        def attempt(unwrap: Callable[..., Any]) -> None:
            template = protected_template(ObjectClass.PRIVATE_KEY, Usage.SIGN, store=bool(self._store))
            key = self._kept(unwrap(wrapper, KeyType.RSA, wrapped, {**template, Attribute.LABEL: _LABEL}))
            self._sound(key, ObjectClass.PRIVATE_KEY, Usage.SIGN, Protection.BROUGHT_IN)
            signature = mechanisms.sign_pkcs1v15(key, info)
            host.public_key().verify(signature, _MESSAGE, padding.PKCS1v15(), hashes.SHA256())

        return _first(mechanisms.KWP, attempt)

    # -- RSA -----------------------------------------------------------------------------------------------------------

    def rsa_keys(self) -> None:
        self._sound(self._rsa_pair()[0], ObjectClass.PRIVATE_KEY, Usage.OPEN)

    def rsa_size(self, bits: int) -> None:
        info = self._session.token.slot.get_mechanism_info(Mechanism.RSA_PKCS_KEY_PAIR_GEN)
        largest = info.max_key_length or 0
        if largest < bits:
            raise Wrong(f"it says that its RSA keys have at most {largest} bits")

    def rsa_pkcs1v15(self) -> None:
        private, host = self._rsa_pair()
        info = encodings.digest_info(encodings.digest(_MESSAGE, hashes.SHA256()), hashes.SHA256())
        host.verify(mechanisms.sign_pkcs1v15(private, info), _MESSAGE, padding.PKCS1v15(), hashes.SHA256())

    def rsa_pss(self) -> None:
        private, host = self._rsa_pair()
        signature = mechanisms.sign_pss(private, encodings.digest(_MESSAGE, hashes.SHA256()))
        host.verify(signature, _MESSAGE, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())

    def oaep(self, suite: str) -> str:
        """A sealed order opens, a spoilt one does not, and another content key can stand in for one that is lost."""
        private, host = self._rsa_pair()
        algorithm = mechanisms.OAEP_HASHES[suite]
        content_key, nonce = os.urandom(32), os.urandom(mechanisms.GCM_NONCE_BYTES)
        wrapped = host.encrypt(content_key, padding.OAEP(padding.MGF1(algorithm), algorithm, None))
        sealed = AESGCM(content_key).encrypt(nonce, _MESSAGE, None)

        def attempt(opening: Opening) -> None:
            key = self._kept(opening.unwrap(private, suite, wrapped))
            if opening.decrypt(key, nonce, sealed) != _MESSAGE:
                raise Wrong("what was sealed by independent software does not open")
            with contextlib.suppress(PKCS11Error):
                if opening.decrypt(key, nonce, _spoilt(sealed)) is not None:
                    raise Wrong("it accepts a wrong GCM tag")
            decoy = self._kept(self._session.generate_key(KeyType.AES, 256, template=opening.template))
            self._kept(decoy.copy({}))

        return _first(mechanisms.OPENING, attempt)

    # -- the others ----------------------------------------------------------------------------------------------------

    def ecdsa(self, curve: str) -> None:
        def make(store: bool) -> tuple[Any, Any]:
            parameters = self._session.create_domain_parameters(
                KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}, local=True
            )
            return parameters.generate_keypair(**self._pair(Usage.SIGN, store))

        public, private = self._made(make)
        self._sound(private, ObjectClass.PRIVATE_KEY, Usage.SIGN)
        host = encodings.ec_public_key(public.get_attributes([Attribute.EC_PARAMS, Attribute.EC_POINT]))
        raw = mechanisms.sign_ecdsa(private, encodings.digest(_MESSAGE, hashes.SHA256()))
        host.verify(encodings.ecdsa_signature(raw), _MESSAGE, ec.ECDSA(hashes.SHA256()))

    def aes_keys(self) -> None:
        self._sound(self._secret(Usage.SEAL), ObjectClass.SECRET_KEY, Usage.SEAL)
        self._sound(self._secret(Usage.MAC, bits=128), ObjectClass.SECRET_KEY, Usage.MAC)

    def aes_gcm(self) -> str:
        """With the AES-GCM of independent software as the result, and a wrong tag refused."""
        value, nonce = os.urandom(32), os.urandom(mechanisms.GCM_NONCE_BYTES)
        key = self._known(KeyType.AES, value, Usage.SEAL)
        expected = AESGCM(value).encrypt(nonce, _MESSAGE, b"aad")

        def attempt(parameters: GcmParameters) -> None:
            _same(mechanisms.gcm_encrypt(key, parameters(nonce, b"aad"), _MESSAGE), expected)
            _same(mechanisms.gcm_decrypt(key, parameters(nonce, b"aad"), expected), _MESSAGE)
            if _accepted(mechanisms.gcm_decrypt, key, parameters(nonce, b"aad"), _spoilt(expected)):
                raise Wrong("it accepts a wrong GCM tag")

        return _first(mechanisms.GCM, attempt)

    def imported(self) -> None:
        key = self._known(KeyType.AES, os.urandom(16), Usage.MAC)
        self._sound(key, ObjectClass.SECRET_KEY, Usage.MAC)
        with contextlib.suppress(PKCS11Error):
            if key[Attribute.VALUE]:
                raise Wrong("CKA_VALUE of a sensitive key can be read")

    def aes_cmac(self) -> str:
        value = os.urandom(16)
        key = self._known(KeyType.AES, value, Usage.MAC)
        reference = CMAC(algorithms.AES(value))
        reference.update(_MESSAGE)
        expected = reference.finalize()
        return _first(mechanisms.CMAC, lambda cmac: _same(cmac(key, _MESSAGE), expected))

    def des2_block(self) -> str:
        """The ISO 9564-1 format 0 block of PIN 12345 under a known key, computed two independent ways."""
        key = self._known(KeyType.DES2, bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"), Usage.PIN_BLOCK)
        block, expected = bytes.fromhex("05124DCEDCBA9876"), bytes.fromhex("F92D1CFCC2103E10")
        return _first(mechanisms.DES2_BLOCK, lambda encrypt: _same(encrypt(key, block), expected))

    def des3_block(self) -> str:
        """NIST SP 800-67's key of three different parts, over the same block."""
        key = self._known(KeyType.DES3, _DES3_KEY, Usage.PIN_BLOCK)
        block, expected = bytes.fromhex("05124DCEDCBA9876"), _tdes(_DES3_KEY, bytes.fromhex("05124DCEDCBA9876"))
        return _first(mechanisms.DES2_BLOCK, lambda encrypt: _same(encrypt(key, block), expected))

    def aes_block(self) -> str:
        """One block under AES-128 and AES-256, in one way for both."""
        values = os.urandom(16), os.urandom(32)
        keys = [(value, self._known(KeyType.AES, value, Usage.PIN_BLOCK)) for value in values]

        def attempt(encrypt: Callable[[Any, bytes], bytes]) -> None:
            for value, key in keys:
                _same(encrypt(key, _AES_BLOCK), _aes(value, _AES_BLOCK))

        return _first(mechanisms.AES_BLOCK, attempt)

    def retail_mac(self) -> str:
        """The MAC of ANSI X9.19 under a known key, computed two independent ways; and one of a single block."""
        value = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
        key = self._known(KeyType.DES2, value, Usage.RETAIL_MAC)
        chain = self._known(KeyType.DES3, value[:8] * 3, Usage.RETAIL_MAC)

        def attempt(mac: Callable[[Any, Any, bytes], bytes]) -> None:
            _same(mac(key, chain, b"0200KWBP-MAC-TEST" + bytes(7)), bytes.fromhex("7425C2B8AB5E6107"))
            _same(mac(key, chain, bytes(8)), _tdes(value + value[:8], bytes(8)))

        return _first(mechanisms.RETAIL_MAC, attempt)

    def zone_unwrap_long(self) -> str:
        """TDES keys of three parts, also of equal ones, and AES-256 keys come in under AES-256 and keep in."""
        value, inner = os.urandom(32), os.urandom(32)
        master = self._known(KeyType.AES, value, Usage.RECEIVE)

        def attempt(unwrap: ZoneUnwrap) -> None:
            def come_in(key_type: KeyType, usage: Usage, sent: bytes) -> Any:
                template = protected_template(ObjectClass.SECRET_KEY, usage, store=bool(self._store))
                key = self._kept(
                    unwrap(master, key_type, aes_key_wrap(value, sent), {**template, Attribute.LABEL: _LABEL})
                )
                self._sound(key, ObjectClass.SECRET_KEY, usage, Protection.BROUGHT_IN)
                return key

            for tdes in (_DES3_KEY, _DES3_KEY[:8] * 3):
                key = come_in(KeyType.DES3, Usage.PIN_BLOCK, tdes)
                expected = _tdes(tdes, bytes(8))
                _first(mechanisms.DES2_BLOCK, lambda encrypt: _same(encrypt(key, bytes(8)), expected))  # noqa: B023
            aes = come_in(KeyType.AES, Usage.PIN_BLOCK, inner)
            _first(mechanisms.AES_BLOCK, lambda encrypt: _same(encrypt(aes, _AES_BLOCK), _aes(inner, _AES_BLOCK)))

        return _first(mechanisms.ZONE_KEY_WRAP, attempt)

    def zone_unwrap(self) -> str:
        """Both kinds of zone key, wrapped by independent software, come in and keep in; a spoilt one does not."""
        value, inner = os.urandom(16), bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
        master, wrapped = self._known(KeyType.AES, value, Usage.RECEIVE), aes_key_wrap(value, inner)
        reference = CMAC(algorithms.AES(inner))
        reference.update(_MESSAGE)
        mac, block, expected = (
            reference.finalize(),
            bytes.fromhex("05124DCEDCBA9876"),
            bytes.fromhex("F92D1CFCC2103E10"),
        )

        def attempt(unwrap: ZoneUnwrap) -> None:
            def come_in(key_type: KeyType, usage: Usage, sent: bytes) -> Any:
                template = protected_template(ObjectClass.SECRET_KEY, usage, store=bool(self._store))
                return self._kept(unwrap(master, key_type, sent, {**template, Attribute.LABEL: _LABEL}))

            mac_key = come_in(KeyType.AES, Usage.MAC, wrapped)
            self._sound(mac_key, ObjectClass.SECRET_KEY, Usage.MAC, Protection.BROUGHT_IN)
            _first(mechanisms.CMAC, lambda cmac: _same(cmac(mac_key, _MESSAGE), mac))
            pin_key = come_in(KeyType.DES2, Usage.PIN_BLOCK, wrapped)
            self._sound(pin_key, ObjectClass.SECRET_KEY, Usage.PIN_BLOCK, Protection.BROUGHT_IN)
            _first(mechanisms.DES2_BLOCK, lambda encrypt: _same(encrypt(pin_key, block), expected))
            if _accepted(come_in, KeyType.AES, Usage.MAC, _spoilt(wrapped)):
                raise Wrong("a key that was spoilt on its way comes in")

        return _first(mechanisms.ZONE_KEY_WRAP, attempt)

    def random(self) -> None:
        if self._session.generate_random(256) == self._session.generate_random(256):
            raise Wrong("two requests for random bytes gave the same")

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _rsa_pair(self) -> tuple[Any, rsa.RSAPublicKey]:
        if self._rsa is None:
            _, private = self._made(
                lambda store: self._session.generate_keypair(
                    KeyType.RSA, _PROBE_RSA_BITS, **self._pair(Usage.OPEN, store)
                )
            )
            values = private.get_attributes([Attribute.MODULUS, Attribute.PUBLIC_EXPONENT])
            self._rsa = private, encodings.rsa_public_key(values)
        return self._rsa

    def _pair(self, usage: Usage, store: bool) -> dict[str, Any]:
        return {
            "id": os.urandom(16),
            "label": _LABEL,
            "store": store,
            "public_template": {Attribute.VERIFY: True, Attribute.WRAP: usage is Usage.OPEN},
            "private_template": protected_template(ObjectClass.PRIVATE_KEY, usage, store=store),
        }

    def _secret(self, usage: Usage, changes: dict[Attribute, Any] | None = None, bits: int = 256) -> Any:
        def make(store: bool) -> tuple[Any]:
            template = protected_template(ObjectClass.SECRET_KEY, usage, store=store) | (changes or {})
            return (self._session.generate_key(KeyType.AES, bits, label=_LABEL, template=template),)

        return self._made(make)[0]

    def _known(self, key_type: KeyType, value: bytes, usage: Usage, changes: dict[Attribute, Any] | None = None) -> Any:
        def make(store: bool) -> tuple[Any]:
            template = protected_template(ObjectClass.SECRET_KEY, usage, store=store) | (changes or {})
            named = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: key_type, Attribute.LABEL: _LABEL}
            return (self._session.create_object({**named, Attribute.VALUE: value, **template}),)

        return self._made(make)[0]

    def _made(self, make: Callable[[bool], Any]) -> Any:
        """The objects that `make` makes as session objects, or stored if the token has no such ones.

        The first that succeeds decides for the rest, so that a template that is refused is not tried twice.
        """
        for store in (False, True) if self._store is None else (self._store,):
            try:
                made = make(store)
            except PKCS11Error:
                if store or self._store is False:
                    raise
                continue
            self._store = store
            break
        for each in made:
            self._kept(each)
        return made

    def _kept(self, made: Any) -> Any:
        """`made`, to be destroyed in the end."""

        def destroy() -> None:
            with contextlib.suppress(PKCS11Error):
                made.destroy()

        self._objects.callback(destroy)
        return made

    def _sound(
        self, key: Any, object_class: ObjectClass, usage: Usage, protection: Protection = Protection.BOUND
    ) -> None:
        values = key.get_attributes(attributes_to_read(object_class))
        if faults := parse_attributes(object_class, values).faults(usage, protection):
            raise Wrong(f"its key has {', '.join(faults)}")

    def _wrapped_by(self, wrapper: Any, target: Any) -> str:
        """The mechanisms by which `wrapper` wraps `target`, separated by commas."""
        return ", ".join(
            f"CKM_{mechanism.name}"
            for mechanism, parameter in _WRAPPERS
            if _accepted(wrapper.wrap_key, target, mechanism, parameter)
        )

    def _copy(self, original: Any, changes: dict[Attribute, Any]) -> None:
        self._kept(original.copy(changes))


def _accepted(attempt: Callable[..., object], *arguments: Any) -> bool:
    """Whether the token did what it should refuse."""
    try:
        attempt(*arguments)
    except (PKCS11Error, AttributeError):
        return False
    return True


def _first(ways: Ways[Any], attempt: Callable[[Any], object]) -> str:
    """The name of the first way with which `attempt` succeeds; raises the failure of the first one if none does."""
    failure: Exception | None = None
    for way in ways:
        try:
            attempt(way.do)
        except _FAILURES as error:
            failure = failure or error
        else:
            return way.name
    raise failure or Wrong("there is no way to do it")


@cache
def _host_key() -> rsa.RSAPrivateKey:
    """A key for all probes of this process, because making one takes longer than all else; it protects nothing."""
    return rsa.generate_private_key(65537, _PROBE_RSA_BITS)


def _tdes(key: bytes, block: bytes) -> bytes:
    encryptor = Cipher(TripleDES(key), modes.ECB()).encryptor()  # noqa: S305  # a single block
    return encryptor.update(block)


def _aes(key: bytes, block: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  # a single block
    return encryptor.update(block)


def _same(found: bytes, expected: bytes) -> None:
    if found != expected:
        raise Wrong("its result is not that of independent software")


def _spoilt(sealed: bytes) -> bytes:
    return sealed[:-1] + bytes([sealed[-1] ^ 1])
