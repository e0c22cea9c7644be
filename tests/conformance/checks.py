"""What the product does in a token, each as a check that names the abilities it needs and raises if it fails.

Results are verified with independent software (`cryptography`); refusals are those of `hsm_service.errors`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.keywrap import aes_key_wrap, aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.exceptions import PKCS11Error

from hsm_service.capabilities import Ability
from hsm_service.errors import (
    BadInput,
    DecodingFailure,
    KeyExists,
    KeyMisused,
    KeyNotFound,
    MechanismMissing,
    PinRefused,
    TokenBusy,
    TokenUnavailable,
    WeakKey,
    WrongCheckValue,
)
from hsm_service.keys import KeyKind, KeyRef, Usage, chain_of, protected_template
from hsm_service.mechanisms import OAEP_HASHES
from hsm_service.pkcs11_module import Pkcs11Module
from hsm_service.private_key import TokenRsaPrivateKey
from hsm_service.tokens import Token
from kwbp.parties import GatewayIdentity
from pki.cms_enveloped import parse_auth_enveloped, seal
from runtime.secrets import Secret
from tests.support.pki_factory import PkiFactory
from tests.support.softhsm import raw_session, weak_rsa_key

PSS: Final = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
SECONDS_OF_LOAD: Final = 3
THREADS: Final = 8
DES3: Final = bytes.fromhex("0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123")
"""The key of the examples of NIST SP 800-67."""


class Held:
    """The token, and keys in it that several checks use."""

    def __init__(self, module: Pkcs11Module, pin: Secret, token: Token) -> None:
        self.module = module
        self.pin = pin
        self.token = token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.token.close()

    def reopen(self, pin: Secret | None = None) -> None:
        """Log out and in again."""
        self.token.close()
        self.token = Token.open(self.module, self.token.label, pin or self.pin, acquire_timeout=10)

    @cached_property
    def signing(self) -> tuple[KeyRef, rsa.RSAPublicKey]:
        return self.token.generate_rsa("signing", 2048)

    @cached_property
    def opening(self) -> tuple[KeyRef, rsa.RSAPublicKey]:
        return self.token.generate_rsa("opening", 3072, usage=Usage.OPEN)

    @cached_property
    def p256(self) -> tuple[KeyRef, ec.EllipticCurvePublicKey]:
        return self.token.generate_ec("p256")

    @cached_property
    def vault(self) -> KeyRef:
        return self.token.generate_aes("vault")

    @cached_property
    def zone_mac(self) -> KeyRef:
        return self.token.import_zone_key("zone-mac", KeyKind.AES, components(bytes(range(16))), usage=Usage.MAC)

    @cached_property
    def zone_pin(self) -> KeyRef:
        value = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
        return self.token.import_zone_key("zone-pin", KeyKind.DES2, components(value), usage=Usage.PIN_BLOCK)


@dataclass(frozen=True)
class Check:
    """A check, and the abilities without which it cannot pass."""

    needs: tuple[Ability, ...]
    do: Callable[[Held], None]


CHECKS: Final[dict[str, Check]] = {}


def check(*needs: Ability) -> Callable[[Callable[[Held], None]], Callable[[Held], None]]:
    """Register a check under its function's name."""

    def register(do: Callable[[Held], None]) -> Callable[[Held], None]:
        CHECKS[do.__name__] = Check(needs, do)
        return do

    return register


def components(value: bytes) -> tuple[Secret, Secret]:
    mask = os.urandom(len(value))
    return Secret(mask), Secret(bytes(a ^ b for a, b in zip(mask, value, strict=True)))


# -- keys --------------------------------------------------------------------------------------------------------------


@check(Ability.RANDOM)
def random_bytes_differ(held: Held) -> None:
    values = {held.token.random(32) for _ in range(20)}
    assert len(values) == 20
    assert {len(each) for each in values} == {32}


def _made_here(held: Held, ref: KeyRef, usages: set[str]) -> None:
    attributes = held.token.attributes(ref)
    assert (attributes.local, attributes.sensitive, attributes.always_sensitive) == (True, True, True)
    assert (attributes.extractable, attributes.never_extractable, attributes.private) == (False, True, True)
    assert attributes.usages == usages


@check(Ability.RSA_KEYS)
def rsa_2048_is_made_and_protected(held: Held) -> None:
    ref, public = held.signing
    assert (public.key_size, public.public_numbers().e) == (2048, 65537)
    _made_here(held, ref, {"sign"})


@check(Ability.RSA_KEYS, Ability.RSA_3072)
def rsa_3072_is_made_and_protected(held: Held) -> None:
    ref, public = held.opening
    assert public.key_size == 3072
    _made_here(held, ref, {"unwrap", "sign"})


@check(Ability.ECDSA_P256)
def p256_is_made_and_protected(held: Held) -> None:
    ref, public = held.p256
    assert isinstance(public.curve, ec.SECP256R1)
    _made_here(held, ref, {"sign"})


@check(Ability.AES_KEYS)
def aes_is_made_and_protected(held: Held) -> None:
    _made_here(held, held.vault, {"encrypt", "decrypt"})


@check(Ability.IMPORT)
def a_zone_key_comes_in_and_is_protected(held: Held) -> None:
    attributes = held.token.attributes(held.zone_mac)
    assert (attributes.imported, attributes.sensitive, attributes.extractable) == (True, True, False)
    assert attributes.usages == {"sign"}


@check(Ability.AES_KEYS)
def a_key_is_found_by_id_and_label_until_it_is_destroyed(held: Held) -> None:
    token = held.token
    ref = token.generate_aes("short-lived")
    assert token.find(label="short-lived") == token.find(cka_id=ref.cka_id) == ref
    assert ref in list(token.keys())
    with pytest.raises(KeyExists):
        token.generate_aes("again", cka_id=ref.cka_id)
    token.destroy(ref)
    assert token.find(cka_id=ref.cka_id) is None
    with pytest.raises(KeyNotFound):
        token.attributes(ref)


@check(Ability.RSA_KEYS)
def destroying_a_pair_destroys_both_halves(held: Held) -> None:
    ref, _public = held.token.generate_rsa("pair", 2048)
    held.token.destroy(ref)
    assert list(raw_session(held.token).get_objects({Attribute.ID: ref.cka_id})) == []


@check(Ability.RSA_KEYS)
def a_weak_key_is_refused_before_its_first_use(held: Held) -> None:
    for weakness, reported in (({"EXTRACTABLE": True}, "EXTRACTABLE=true"), ({"DECRYPT": True}, "DECRYPT=true")):
        ref = weak_rsa_key(held.token, "weak", **weakness)
        with pytest.raises(WeakKey) as refusal:
            held.token.sign_pss_sha256(ref, b"data")
        held.token.destroy(ref)
        assert reported in refusal.value.attributes
        assert held.token.uses(ref) == 0


@check(Ability.IMPORT)
def a_key_from_outside_is_not_taken_for_one_made_here(held: Held) -> None:
    template = {
        Attribute.CLASS: ObjectClass.SECRET_KEY,
        Attribute.KEY_TYPE: KeyType.AES,
        Attribute.ID: b"outside",
        Attribute.LABEL: "outside",
        Attribute.VALUE: os.urandom(32),
        **protected_template(ObjectClass.SECRET_KEY, Usage.SEAL, store=True),
    }
    raw_session(held.token).create_object(template)
    ref = KeyRef(held.token.label, KeyKind.AES, b"outside", "outside")
    with pytest.raises(WeakKey, match="LOCAL=false"):
        held.token.aes_gcm_encrypt(ref, b"data", b"")
    held.token.destroy(ref)


@check()
def a_key_that_comes_out_weaker_than_asked_for_does_not_stay(held: Held) -> None:
    """Sound keys stay; where the token cannot make them, or not make them sound, nothing is left."""
    with contextlib.suppress(WeakKey, MechanismMissing):
        ref = held.token.generate_aes("checked")
        held.token.require_sound(ref, Usage.SEAL)
        held.token.destroy(ref)
    assert held.token.find(label="checked") is None


@check(Ability.USAGES_FIXED, Ability.IMPORT)
def the_usages_of_a_stored_key_stay(held: Held) -> None:
    (stored,) = raw_session(held.token).get_objects({Attribute.ID: held.zone_mac.cka_id})
    for usage in (Attribute.DECRYPT, Attribute.WRAP):
        with pytest.raises(PKCS11Error):
            stored[usage] = True
    assert held.token.attributes(held.zone_mac).usages == {"sign"}


@check(Ability.LOCKED_IN, Ability.RSA_KEYS)
def a_stored_private_key_cannot_be_wrapped_out(held: Held) -> None:
    session = raw_session(held.token)
    (private,) = session.get_objects({Attribute.ID: held.signing[0].cka_id, Attribute.CLASS: ObjectClass.PRIVATE_KEY})
    wrapper: Any = session.generate_key(KeyType.AES, 256, template={Attribute.WRAP: True, Attribute.ENCRYPT: True})
    for mechanism, parameter in ((Mechanism.AES_KEY_WRAP_PAD, None), (Mechanism.AES_CBC_PAD, bytes(16))):
        with pytest.raises(PKCS11Error):
            wrapper.wrap_key(private, mechanism=mechanism, mechanism_param=parameter)
    wrapper.destroy()


# -- signatures --------------------------------------------------------------------------------------------------------


@check(Ability.RSA_KEYS, Ability.RSA_PSS_SHA256)
def pss_signatures_verify(held: Held) -> None:
    ref, public = held.signing
    for data in (b"", b"data", bytes(5000)):
        public.verify(held.token.sign_pss_sha256(ref, data), data, PSS, hashes.SHA256())


@check(Ability.RSA_KEYS, Ability.RSA_PKCS1V15)
def pkcs1v15_signatures_verify(held: Held) -> None:
    ref, public = held.signing
    for algorithm in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        public.verify(held.token.sign_pkcs1v15(ref, b"data", algorithm), b"data", padding.PKCS1v15(), algorithm)


@check(Ability.ECDSA_P256)
def p256_signatures_verify(held: Held) -> None:
    ref, public = held.p256
    for _ in range(20):  # r or s is now and then shorter than the curve
        public.verify(held.token.sign_ecdsa(ref, b"data"), b"data", ec.ECDSA(hashes.SHA256()))


@check(Ability.ECDSA_P384)
def p384_signatures_verify(held: Held) -> None:
    ref, public = held.token.generate_ec("p384", "P-384")
    _made_here(held, ref, {"sign"})
    signature = held.token.sign_ecdsa(ref, b"data", hashes.SHA384())
    public.verify(signature, b"data", ec.ECDSA(hashes.SHA384()))


@check(Ability.RSA_KEYS)
def a_key_serves_its_own_usage_only(held: Held) -> None:
    with pytest.raises((KeyMisused, WeakKey)):
        held.token.sign_pss_sha256(held.opening[0], b"data")
    with pytest.raises(KeyMisused):
        held.token.sign_ecdsa(held.signing[0], b"data")
    with pytest.raises(KeyNotFound):
        held.token.sign_pss_sha256(KeyRef(held.token.label, KeyKind.RSA, b"nobody", "nobody"), b"data")


# -- opening -----------------------------------------------------------------------------------------------------------


def _opened(held: Held, suite: str, encrypted_key: bytes, nonce: bytes, sealed: bytes) -> bytes:
    return held.token.unwrap_and_decrypt_gcm(held.opening[0], suite, encrypted_key, nonce, sealed[:-16], sealed[-16:])


def _suite_opens(held: Held, suite: str) -> None:
    public, algorithm = held.opening[1], OAEP_HASHES[suite]
    oaep = padding.OAEP(padding.MGF1(algorithm), algorithm, None)
    for plaintext in (b"", b"card data", bytes(range(256)) * 4):
        content_key, nonce = os.urandom(32), os.urandom(12)
        sealed = AESGCM(content_key).encrypt(nonce, plaintext, None)
        assert _opened(held, suite, public.encrypt(content_key, oaep), nonce, sealed) == plaintext
    wrapped = public.encrypt(content_key, oaep)
    labelled = padding.OAEP(padding.MGF1(algorithm), algorithm, b"label")
    spoilt = {
        "tag": (wrapped, nonce, _flipped(sealed)),
        "ciphertext": (wrapped, nonce, b"\xff" + sealed[1:]),
        "nonce": (wrapped, _flipped(nonce), sealed),
        "short tag": (wrapped, nonce, sealed[-15:]),
        "wrapped key": (_flipped(wrapped), nonce, sealed),
        "wrapped key of zeros": (bytes(len(wrapped)), nonce, sealed),
        "length of the wrapped key": (wrapped[:-1], nonce, sealed),
        "padding": (public.encrypt(content_key, padding.PKCS1v15()), nonce, sealed),
        "label": (public.encrypt(content_key, labelled), nonce, sealed),
        "another content key": (public.encrypt(os.urandom(32), oaep), nonce, sealed),
        "AES-128": (public.encrypt(os.urandom(16), oaep), nonce, sealed),
        "no AES key": (public.encrypt(b"short", oaep), nonce, sealed),
    }
    answers = set()
    for name, arguments in spoilt.items():
        try:
            _opened(held, suite, *arguments)
        except DecodingFailure as failure:
            answers.add((str(failure), failure.__cause__))
        else:
            raise AssertionError(f"opened with a wrong {name}")
    assert answers == {("the sealed data could not be opened", None)}
    assert _opened(held, suite, wrapped, nonce, sealed) == plaintext


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@check(Ability.RSA_KEYS, Ability.RSA_3072, Ability.OAEP_SHA1)
def oaep_sha1_opens_and_every_failure_looks_alike(held: Held) -> None:
    _suite_opens(held, "oaep-sha1")


@check(Ability.RSA_KEYS, Ability.RSA_3072, Ability.OAEP_SHA256)
def oaep_sha256_opens_and_every_failure_looks_alike(held: Held) -> None:
    _suite_opens(held, "oaep-sha256")


@check(Ability.RSA_KEYS, Ability.RSA_3072, Ability.RSA_PKCS1V15, Ability.OAEP_SHA256)
def a_certificate_that_says_oaep_sha256_has_orders_sealed_so_and_they_open(held: Held) -> None:
    """From the probe through the gateway's certificate and the wallet's choice to the opened order."""
    key = TokenRsaPrivateKey(held.token, held.opening[0])
    certificate = PkiFactory().gateway_encryption(key=key, suites=held.token.capabilities.sealing_suites).certificate
    suite = GatewayIdentity.of(certificate).strongest_suite
    assert suite.value == "oaep-sha256"
    order = parse_auth_enveloped(seal(b"card data", certificate, suite, rng=os.urandom))
    assert order.suite == "oaep-sha256"
    assert _opened(held, order.suite, order.encrypted_key, order.nonce, order.ciphertext + order.tag) == b"card data"


@check(Ability.RSA_KEYS, Ability.RSA_3072)
def a_suite_that_the_probe_did_not_see_is_not_tried(held: Held) -> None:
    ref = held.opening[0]
    before = held.token.uses(ref)
    for suite in {"oaep-sha1", "oaep-sha256", "pkcs1v15"} - set(held.token.capabilities.sealing_suites):
        with pytest.raises(MechanismMissing, match=suite):
            _opened(held, suite, bytes(384), bytes(12), bytes(16))
    assert held.token.uses(ref) == before


@check(Ability.RSA_KEYS, Ability.RSA_3072, Ability.OAEP_SHA1)
def opening_leaves_no_content_key_behind(held: Held) -> None:
    def count() -> int:
        return len(list(raw_session(held.token).get_objects({Attribute.TOKEN: False})))

    algorithm = OAEP_HASHES["oaep-sha1"]
    oaep = padding.OAEP(padding.MGF1(algorithm), algorithm, None)
    arguments = held.opening[1].encrypt(os.urandom(32), oaep), bytes(12), bytes(32)
    held.reopen()  # so that one session with one decoy serves all that follows
    counts = []
    for _ in range(5):
        with pytest.raises(DecodingFailure):
            _opened(held, "oaep-sha1", *arguments)
        counts.append(count())
    assert len(set(counts[1:])) == 1


@check(Ability.RSA_KEYS, Ability.RSA_3072, Ability.OAEP_SHA1, Ability.RSA_PKCS1V15, Ability.RESTORE)
def a_pair_that_was_wrapped_elsewhere_is_taken_in_and_signs(held: Held) -> None:
    """As a backup: PKCS#8 under AES-KWP (RFC 5649), the AES key sealed to a RESTORE key of this token."""
    recipient, public = held.token.generate_rsa("restoring", 3072, usage=Usage.RESTORE)
    host, key = rsa.generate_private_key(65537, 2048), os.urandom(32)
    spki = host.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    wrapped = aes_key_wrap_with_padding(key, host.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    algorithm = OAEP_HASHES["oaep-sha1"]
    sealed = public.encrypt(key, padding.OAEP(padding.MGF1(algorithm), algorithm, None))
    with pytest.raises(DecodingFailure):
        held.token.restore_pair(recipient, "spoilt", b"spoilt", spki, "oaep-sha1", sealed, _flipped(wrapped))
    assert held.token.find(label="spoilt") is None
    ref = held.token.restore_pair(recipient, "restored", b"restored", spki, "oaep-sha1", sealed, wrapped)
    signature = held.token.sign_pkcs1v15(ref, b"data")
    host.public_key().verify(signature, b"data", padding.PKCS1v15(), hashes.SHA256())
    held.token.destroy(ref)
    held.token.destroy(recipient)


# -- secret keys -------------------------------------------------------------------------------------------------------


@check(Ability.AES_KEYS, Ability.AES_GCM)
def sealed_data_opens_with_the_same_context_only(held: Held) -> None:
    token, sealed = held.token, held.token.aes_gcm_encrypt(held.vault, b"data", b"context")
    assert len(sealed) == 12 + 4 + 16
    assert token.aes_gcm_decrypt(held.vault, sealed, b"context") == b"data"
    assert token.aes_gcm_encrypt(held.vault, b"data", b"context") != sealed
    for blob, aad in ((sealed, b"other"), (_flipped(sealed), b"context"), (sealed[:-1], b"context"), (b"", b"context")):
        with pytest.raises(DecodingFailure):
            token.aes_gcm_decrypt(held.vault, blob, aad)


@check(Ability.IMPORT, Ability.AES_CMAC)
def macs_are_those_of_independent_software(held: Held) -> None:
    """RFC 4493 under a known key, and the key's check value."""
    assert held.token.aes_cmac(held.zone_mac, b"0200KWBP-MAC-TEST").hex() == "cc9bfc140b019e0709f66cf46fbd31c3"
    reference = CMAC(algorithms.AES(bytes(range(16))))
    reference.update(bytes(16))
    assert held.token.check_value(held.zone_mac) == reference.finalize()[:3]


@check(Ability.IMPORT, Ability.DES2_BLOCK)
def pin_blocks_are_those_of_two_independent_computations(held: Held) -> None:
    """ISO 9564 format 0 of PIN 12345 and PAN 6037991234567893 under a known 2-key TDES key."""
    block = held.token.des3_ecb_encrypt(held.zone_pin, bytes.fromhex("05124DCEDCBA9876"))
    assert block.hex() == "f92d1cfcc2103e10"
    assert held.token.check_value(held.zone_pin).hex() == "08d7b4"
    with pytest.raises(BadInput):
        held.token.des3_ecb_encrypt(held.zone_pin, bytes(16))


@check(Ability.IMPORT, Ability.AES_CMAC, Ability.DES2_BLOCK, Ability.ZONE_UNWRAP)
def zone_keys_that_were_wrapped_elsewhere_are_taken_in(held: Held) -> None:
    """AES key wrap (RFC 3394) under a RECEIVE key; another check value, or one bit, and nothing is stored."""
    value, clear = os.urandom(16), bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    master = held.token.import_zone_key("zone-master", KeyKind.AES, components(value), usage=Usage.RECEIVE)
    wrapped, kcv = aes_key_wrap(value, clear), bytes.fromhex("08d7b4")
    for sent, said in ((wrapped, bytes(3)), (_flipped(wrapped), kcv)):
        with pytest.raises(WrongCheckValue):
            held.token.unwrap_zone_key(master, "came", KeyKind.DES2, sent, said, usage=Usage.PIN_BLOCK, cka_id=b"came")
    assert held.token.find(label="came") is None
    ref = held.token.unwrap_zone_key(master, "came", KeyKind.DES2, wrapped, kcv, usage=Usage.PIN_BLOCK, cka_id=b"came")
    assert held.token.des3_ecb_encrypt(ref, bytes.fromhex("05124DCEDCBA9876")).hex() == "f92d1cfcc2103e10"
    held.token.destroy(ref)
    held.token.destroy(master)


def _ecb(algorithm: BlockCipherAlgorithm, block: bytes) -> bytes:
    return Cipher(algorithm, modes.ECB()).encryptor().update(block)  # noqa: S305  # single blocks


@check(Ability.IMPORT, Ability.DES3_BLOCK)
def pin_blocks_under_triple_length_des_keys_are_those_of_independent_software(held: Held) -> None:
    ref = held.token.import_zone_key("zone-pin-3", KeyKind.DES3, components(DES3), usage=Usage.PIN_BLOCK)
    block = bytes.fromhex("05124DCEDCBA9876")
    assert held.token.des3_ecb_encrypt(ref, block) == _ecb(TripleDES(DES3), block)
    assert held.token.check_value(ref) == _ecb(TripleDES(DES3), bytes(8))[:3]
    held.token.destroy(ref)


@check(Ability.IMPORT, Ability.AES_BLOCK)
def pin_blocks_of_format_4_are_those_of_independent_software(held: Held) -> None:
    for size in (16, 32):
        value, pin_field, pan_field = os.urandom(size), os.urandom(16), os.urandom(16)
        ref = held.token.import_zone_key("zone-pin-4", KeyKind.AES, components(value), usage=Usage.PIN_BLOCK)
        joined = bytes(a ^ b for a, b in zip(_ecb(algorithms.AES(value), pin_field), pan_field, strict=True))
        assert held.token.aes_pin_block(ref, pin_field, pan_field) == _ecb(algorithms.AES(value), joined)
        reference = CMAC(algorithms.AES(value))
        reference.update(bytes(16))
        assert held.token.check_value(ref, Usage.PIN_BLOCK) == reference.finalize()[:3]
        assert held.token.attributes(ref).usages == {"encrypt"}
        with pytest.raises(BadInput):
            held.token.aes_pin_block(ref, pin_field[:8], pan_field)
        held.token.destroy(ref)


@check(Ability.IMPORT, Ability.RETAIL_MAC)
def x9_19_macs_are_those_of_two_independent_computations(held: Held) -> None:
    """A key and its first half: told as one key, destroyed as one, and worth nothing alone."""
    value = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    before = held.token.keys()
    ref = held.token.import_zone_key("zone-mac-2", KeyKind.DES2, components(value), usage=Usage.RETAIL_MAC)
    assert [each for each in held.token.keys() if each not in before] == [ref]  # noqa: SIM118  # a method, no mapping
    assert held.token.retail_mac(ref, b"0200KWBP-MAC-TEST" + bytes(7)).hex() == "7425c2b8ab5e6107"
    assert held.token.retail_mac(ref, b"0200KWBP-MAC-TEST\x80" + bytes(6)).hex() == "17d0ab9bf4bebd04"
    assert held.token.check_value(ref, Usage.RETAIL_MAC).hex()[:6] == "08d7b4"
    for wrong in (b"", bytes(7), bytes(9)):
        with pytest.raises(BadInput):
            held.token.retail_mac(ref, wrong)
    (chain,) = raw_session(held.token).get_objects({Attribute.ID: chain_of(ref).cka_id})
    assert (chain[Attribute.SENSITIVE], chain[Attribute.EXTRACTABLE]) == (True, False)
    chain.destroy()
    with pytest.raises((KeyNotFound, TokenBusy, TokenUnavailable)):
        held.token.require_sound(ref, Usage.RETAIL_MAC)
    held.token.destroy(ref)
    assert held.token.keys() == before


@check(Ability.IMPORT, Ability.RETAIL_MAC, Ability.ZONE_UNWRAP_LONG)
def x9_19_keys_that_were_wrapped_elsewhere_are_taken_in_whole(held: Held) -> None:
    """The second part of another key, and a part that is missing, are found out; then nothing is stored."""
    value, clear, other = os.urandom(16), bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"), os.urandom(8) * 3
    master = held.token.import_zone_key("zone-master", KeyKind.AES, components(value), usage=Usage.RECEIVE)
    first, second = aes_key_wrap(value, clear), aes_key_wrap(value, clear[:8] * 3)
    known = held.token.import_zone_key("zone-mac-2", KeyKind.DES2, components(clear), usage=Usage.RETAIL_MAC)
    kcv, arguments = held.token.check_value(known, Usage.RETAIL_MAC), {"usage": Usage.RETAIL_MAC, "cka_id": b"pair"}
    held.token.destroy(known)
    for sent in (first + aes_key_wrap(value, other), second + first, first + _flipped(second)):
        with pytest.raises(WrongCheckValue):
            held.token.unwrap_zone_key(master, "came", KeyKind.DES2, sent, kcv, **arguments)
    with pytest.raises(BadInput):
        held.token.unwrap_zone_key(master, "came", KeyKind.DES2, first, kcv, **arguments)
    assert held.token.find(label="came") is None
    ref = held.token.unwrap_zone_key(master, "came", KeyKind.DES2, first + second, kcv, **arguments)
    assert held.token.retail_mac(ref, b"0200KWBP-MAC-TEST" + bytes(7)).hex() == "7425c2b8ab5e6107"
    held.token.destroy(ref)
    held.token.destroy(master)


# -- sessions ----------------------------------------------------------------------------------------------------------


def _work(held: Held) -> list[Callable[[], object]]:
    """What this token can do over and over, as far as the probe goes."""
    can, token = held.token.capabilities.can, held.token
    work: list[Callable[[], object]] = [lambda: token.random(16)]
    if can(Ability.RSA_KEYS) and can(Ability.RSA_PSS_SHA256):
        ref, public = held.signing
        work.append(lambda: public.verify(token.sign_pss_sha256(ref, b"data"), b"data", PSS, hashes.SHA256()))
    if can(Ability.ECDSA_P256):
        ec_ref, ec_public = held.p256
        work.append(lambda: ec_public.verify(token.sign_ecdsa(ec_ref, b"data"), b"data", ec.ECDSA(hashes.SHA256())))
    if can(Ability.AES_KEYS) and can(Ability.AES_GCM):
        vault = held.vault
        work.append(lambda: token.aes_gcm_decrypt(vault, token.aes_gcm_encrypt(vault, b"data", b""), b""))
    if can(Ability.IMPORT) and can(Ability.AES_CMAC):
        mac, expected = held.zone_mac, token.aes_cmac(held.zone_mac, b"data")
        work.append(lambda: _equal(token.aes_cmac(mac, b"data"), expected))
    if can(Ability.IMPORT) and can(Ability.DES2_BLOCK):
        pin, block = held.zone_pin, token.des3_ecb_encrypt(held.zone_pin, bytes(8))
        work.append(lambda: _equal(token.des3_ecb_encrypt(pin, bytes(8)), block))
    return work


def _equal(found: bytes, expected: bytes) -> None:
    assert found == expected


@check(Ability.RANDOM)
def threads_meet_no_error(held: Held) -> None:
    """Eight threads, all operations mixed, for some seconds; the module was initialised for threads."""
    work = _work(held)
    done, errors = [0] * THREADS, []
    deadline = time.monotonic() + SECONDS_OF_LOAD

    def run(number: int) -> None:
        try:
            while time.monotonic() < deadline or not done[number]:
                work[(number + done[number]) % len(work)]()
                done[number] += 1
        except BaseException as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == []
    assert min(done) > 0


@check(Ability.RANDOM)
def a_full_pool_refuses_instead_of_hanging(held: Held) -> None:
    with contextlib.ExitStack() as taken:
        for _ in range(held.token._pool._limit):
            taken.enter_context(held.token._pool.session(5))
        held.token._acquire_timeout = 0.05
        with pytest.raises(TokenBusy):
            held.token.random(8)
    held.token._acquire_timeout = 10
    assert len(held.token.random(8)) == 8


@check(Ability.RANDOM)
def a_lost_session_is_replaced(held: Held) -> None:
    held.token.random(8)
    held.token._pool._idle[-1].raw.close()
    assert len(held.token.random(8)) == 8


@check()
def a_wrong_pin_is_tried_once_and_the_right_one_still_works(held: Held) -> None:
    with pytest.raises(PinRefused):
        held.reopen(Secret(b"999999"))
    held.reopen()
    assert len(held.token.random(8)) == 8


@check(Ability.IMPORT)
def keys_outlive_the_module(held: Held) -> None:
    """Finalise and initialise again, as after the loss of a token."""
    ref = held.zone_mac
    held.token.close()
    held.module.reinitialise()
    held.reopen()
    assert held.token.find(cka_id=ref.cka_id) == ref
    assert held.token.attributes(ref).usages == {"sign"}
