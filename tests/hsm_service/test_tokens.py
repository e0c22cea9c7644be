"""What the token does, checked with independent software; and what it refuses."""

from __future__ import annotations

import _ssl
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pkcs11 import Attribute, KeyType, ObjectClass
from pkcs11.exceptions import PKCS11Error

from hsm_service import key_store
from hsm_service.errors import (
    BadInput,
    DecodingFailure,
    KeyExists,
    KeyMisused,
    KeyNotFound,
    MechanismMissing,
    PinRefused,
    TokenBusy,
    TokenClosed,
    TokenUnavailable,
    WeakKey,
)
from hsm_service.keys import KeyKind, KeyRef, Usage, protected_template
from hsm_service.pkcs11_module import load_module
from hsm_service.tokens import Token
from runtime.secrets import Secret
from runtime.settings import Home
from tests.support.softhsm import opened, provisioned_home, raw_session, weak_rsa_key

PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
OAEP_SHA1 = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)  # noqa: S303  # all that SoftHSM2 can do


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return provisioned_home(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def token(home: Home) -> Iterator[Token]:
    with opened(home, "gateway") as token:
        yield token


@pytest.fixture(scope="module")
def rsa_key(token: Token) -> tuple[KeyRef, rsa.RSAPublicKey]:
    return token.generate_rsa("signing", 3072)


@pytest.fixture(scope="module")
def ec_key(token: Token) -> tuple[KeyRef, ec.EllipticCurvePublicKey]:
    return token.generate_ec("signing-ec")


@pytest.fixture(scope="module")
def opening_key(token: Token) -> tuple[KeyRef, rsa.RSAPublicKey]:
    return token.generate_rsa("encryption", 3072, usage=Usage.OPEN)


@pytest.fixture(scope="module")
def vault_key(token: Token) -> KeyRef:
    return token.generate_aes("vault")


# -- keys ------------------------------------------------------------------------------------------------------------


def test_a_generated_key_is_protected_and_serves_one_usage(
    token: Token, rsa_key: tuple[KeyRef, rsa.RSAPublicKey], opening_key: tuple[KeyRef, rsa.RSAPublicKey]
) -> None:
    for ref, usages in ((rsa_key[0], {"sign"}), (opening_key[0], {"unwrap", "sign"})):
        attributes = token.attributes(ref)
        assert attributes.protection() == {
            "sensitive": True,
            "always_sensitive": True,
            "never_extractable": True,
            "local": True,
            "extractable": False,
            "private": True,
            "wrap_with_trusted": False,
        }
        assert attributes.usages == usages
        assert not attributes.imported


def test_the_usages_of_a_key_cannot_be_changed_later(token: Token, rsa_key: tuple[KeyRef, rsa.RSAPublicKey]) -> None:
    stored = next(iter(raw_session(token).get_objects({Attribute.ID: rsa_key[0].cka_id, Attribute.SIGN: True})))
    with pytest.raises(PKCS11Error):
        stored[Attribute.DECRYPT] = True
    assert token.attributes(rsa_key[0]).usages == {"sign"}


@pytest.mark.parametrize(
    ("weakness", "reported"),
    [
        ({"EXTRACTABLE": True}, "EXTRACTABLE=true"),
        ({"SENSITIVE": False}, "SENSITIVE=false"),
        ({"PRIVATE": False}, "PRIVATE=false"),
        ({"DECRYPT": True}, "DECRYPT=true"),
        ({"UNWRAP": True}, "UNWRAP=true"),
        ({"DERIVE": True}, "DERIVE=true"),
        ({"SIGN_RECOVER": True}, "SIGN_RECOVER=true"),
    ],
)
def test_a_key_weaker_than_required_is_refused_at_its_first_use(
    token: Token, weakness: dict[str, bool], reported: str
) -> None:
    ref = weak_rsa_key(token, "weak", **weakness)
    with pytest.raises(WeakKey) as refusal:
        token.sign_pss_sha256(ref, b"data")
    assert reported in refusal.value.attributes
    assert token.uses(ref) == 0
    token.destroy(ref)


def test_a_key_of_the_raw_template_is_sound_without_the_weakness(token: Token) -> None:
    ref = weak_rsa_key(token, "not weak at all")
    assert len(token.sign_pss_sha256(ref, b"data")) == 256
    token.destroy(ref)


def test_a_new_key_that_comes_out_weaker_than_asked_for_is_destroyed(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a token that ignores a part of the template."""

    def careless(
        object_class: ObjectClass, usage: Usage, *, store: bool, copyable: bool = False
    ) -> dict[Attribute, Any]:
        return protected_template(object_class, usage, store=store, copyable=copyable) | {Attribute.EXTRACTABLE: True}

    monkeypatch.setattr(key_store, "protected_template", careless)
    for make in (
        lambda: token.generate_rsa("careless", 2048),
        lambda: token.generate_ec("careless"),
        lambda: token.generate_aes("careless"),
        lambda: token.import_zone_key("careless", KeyKind.AES, components(bytes(range(16))), usage=Usage.MAC),
    ):
        with pytest.raises(WeakKey, match="EXTRACTABLE=true"):
            make()
    assert token.find(label="careless") is None


def test_a_key_brought_from_outside_is_not_taken_for_one_made_in_the_token(token: Token) -> None:
    raw_session(token).create_object(
        {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.ID: b"imported",
            Attribute.LABEL: "imported",
            Attribute.TOKEN: True,
            Attribute.PRIVATE: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
            Attribute.ENCRYPT: True,
            Attribute.DECRYPT: True,
            Attribute.VALUE: os.urandom(32),
        }
    )
    ref = token.find(cka_id=b"imported")
    assert ref is not None
    with pytest.raises(WeakKey) as refusal:
        token.aes_gcm_encrypt(ref, b"data", b"")
    assert "LOCAL=false" in refusal.value.attributes
    assert "NEVER_EXTRACTABLE=false" in refusal.value.attributes


def test_a_key_is_found_by_id_and_by_label(token: Token, rsa_key: tuple[KeyRef, rsa.RSAPublicKey]) -> None:
    ref = rsa_key[0]
    assert token.find(cka_id=ref.cka_id) == ref
    assert token.find(label="signing") == ref
    assert token.find(label="nobody") is None
    everything = token.keys()
    assert ref in everything


def test_an_id_is_given_once(token: Token, ec_key: tuple[KeyRef, ec.EllipticCurvePublicKey]) -> None:
    with pytest.raises(KeyExists):
        token.generate_ec("second", cka_id=ec_key[0].cka_id)


def test_a_destroyed_key_is_gone_also_from_the_handle_caches(token: Token) -> None:
    ref, _public = token.generate_ec("short-lived")
    token.sign_ecdsa(ref, b"data")
    token.destroy(ref)
    with pytest.raises(KeyNotFound):
        token.sign_ecdsa(ref, b"data")
    assert token.find(cka_id=ref.cka_id) is None


def test_a_stale_handle_on_another_session_is_found_out(token: Token) -> None:
    ref, _public = token.generate_ec("destroyed behind our back")
    token.sign_ecdsa(ref, b"data")
    for each in list(raw_session(token).get_objects({Attribute.ID: ref.cka_id})):
        each.destroy()
    with pytest.raises(KeyNotFound):
        token.sign_ecdsa(ref, b"data")


def test_a_key_refuses_what_it_is_not_for(
    token: Token,
    rsa_key: tuple[KeyRef, rsa.RSAPublicKey],
    opening_key: tuple[KeyRef, rsa.RSAPublicKey],
    vault_key: KeyRef,
) -> None:
    with pytest.raises(WeakKey, match="UNWRAP=true"):
        token.sign_pss_sha256(opening_key[0], b"data")
    with pytest.raises(WeakKey, match="UNWRAP=false"):
        token.unwrap_and_decrypt_gcm(rsa_key[0], "oaep-sha1", bytes(384), bytes(12), b"", bytes(16))
    with pytest.raises(KeyMisused):
        token.sign_ecdsa(rsa_key[0], b"data")
    with pytest.raises(KeyMisused):
        token.aes_gcm_encrypt(rsa_key[0], b"data", b"")
    with pytest.raises(KeyMisused):
        token.public_key(vault_key)


def test_a_reference_to_another_token_is_refused(
    token: Token, ec_key: tuple[KeyRef, ec.EllipticCurvePublicKey]
) -> None:
    elsewhere = KeyRef("merchants", KeyKind.EC, ec_key[0].cka_id, ec_key[0].label)
    with pytest.raises(KeyMisused, match="merchants"):
        token.sign_ecdsa(elsewhere, b"data")


# -- signatures --------------------------------------------------------------------------------------------------------


def test_rsa_signatures_verify_in_software(token: Token, rsa_key: tuple[KeyRef, rsa.RSAPublicKey]) -> None:
    ref, public = rsa_key
    assert (public.key_size, public.public_numbers().e) == (3072, 65537)
    public.verify(token.sign_pss_sha256(ref, b"data"), b"data", PSS, hashes.SHA256())
    for algorithm in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        public.verify(token.sign_pkcs1v15(ref, b"data", algorithm), b"data", padding.PKCS1v15(), algorithm)


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_ecdsa_signatures_verify_in_software(token: Token, curve: str) -> None:
    ref, public = token.generate_ec(f"curve {curve}", curve)
    for algorithm in (hashes.SHA256(), hashes.SHA384()):
        public.verify(token.sign_ecdsa(ref, b"data", algorithm), b"data", ec.ECDSA(algorithm))


def test_openssl_accepts_the_pss_signature(
    token: Token, rsa_key: tuple[KeyRef, rsa.RSAPublicKey], tmp_path: Path
) -> None:
    ref, public = rsa_key
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for name, content in (("key.pem", pem), ("data", b"data"), ("signature", token.sign_pss_sha256(ref, b"data"))):
        (tmp_path / name).write_bytes(content)
    options = ["rsa_padding_mode:pss", "rsa_pss_saltlen:32", "rsa_mgf1_md:sha256"]
    command = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature"]
    for option in options:
        command += ["-sigopt", option]
    result = subprocess.run([*command, "data"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "Verified OK", result.stderr


def test_an_opening_key_signs_nothing_but_its_own_request(
    token: Token, opening_key: tuple[KeyRef, rsa.RSAPublicKey], rsa_key: tuple[KeyRef, rsa.RSAPublicKey]
) -> None:
    ref, public = opening_key
    public.verify(token.prove_possession(ref, b"request"), b"request", padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(WeakKey):
        token.sign_pkcs1v15(ref, b"request")
    with pytest.raises(WeakKey):
        token.prove_possession(rsa_key[0], b"request")


def test_every_use_of_a_key_is_counted(token: Token) -> None:
    ref, _public = token.generate_ec("counted")
    assert token.uses(ref) == 0
    for _ in range(3):
        token.sign_ecdsa(ref, b"data")
    assert token.uses(ref) == 3


def test_a_hash_that_signatures_are_not_made_over_is_refused(
    token: Token, rsa_key: tuple[KeyRef, rsa.RSAPublicKey]
) -> None:
    with pytest.raises(BadInput, match="sha1"):
        token.sign_pkcs1v15(rsa_key[0], b"data", hashes.SHA1())  # noqa: S303  # shown to be refused


@pytest.mark.parametrize(
    "make",
    [  # each with one thing that no template asks for
        lambda token: token.generate_ec("curve", "P-521"),
        lambda token: token.generate_rsa("usage", 3072, usage=Usage.SEAL),
        lambda token: token.generate_aes("bits", 192),
        lambda token: token.generate_aes("usage", usage=Usage.SIGN),
        lambda token: token.generate_aes(""),
    ],
)
def test_a_key_that_no_template_asks_for_is_not_made(token: Token, make: object) -> None:
    assert callable(make)
    before = token.keys()
    with pytest.raises(BadInput):
        make(token)
    assert token.keys() == before


# -- opening -----------------------------------------------------------------------------------------------------------


class Sealed:
    """An order sealed to the opening key, to be spoilt in one place."""

    def __init__(self, public: rsa.RSAPublicKey, content: bytes = b"card data", *, key_bytes: int = 32) -> None:
        content_key, self.nonce = os.urandom(key_bytes), os.urandom(12)
        body = AESGCM(content_key).encrypt(self.nonce, content, None)
        self.encrypted_key = public.encrypt(content_key, OAEP_SHA1)
        self.ciphertext, self.tag = body[:-16], body[-16:]

    def open(self, token: Token, ref: KeyRef, suite: str = "oaep-sha1") -> bytes:
        return token.unwrap_and_decrypt_gcm(ref, suite, self.encrypted_key, self.nonce, self.ciphertext, self.tag)


@pytest.fixture
def sealed(opening_key: tuple[KeyRef, rsa.RSAPublicKey]) -> Sealed:
    return Sealed(opening_key[1])


def flipped(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 300, 20_000])
def test_sealed_content_of_any_size_is_opened_in_the_token(
    token: Token, opening_key: tuple[KeyRef, rsa.RSAPublicKey], size: int
) -> None:
    content = os.urandom(size)
    assert Sealed(opening_key[1], content).open(token, opening_key[0]) == content


def test_no_content_key_stays_in_the_token(
    token: Token, opening_key: tuple[KeyRef, rsa.RSAPublicKey], sealed: Sealed
) -> None:
    """What stays is one decoy a session: a random key that never protected anything."""

    def session_objects() -> int:
        return len(list(raw_session(token).get_objects({Attribute.TOKEN: False})))

    sealed.open(token, opening_key[0])
    decoys = session_objects()
    assert decoys <= 8
    sealed.open(token, opening_key[0])
    assert session_objects() == decoys
    sealed.tag = flipped(sealed.tag)
    with pytest.raises(DecodingFailure):
        sealed.open(token, opening_key[0])
    assert session_objects() == decoys
    sealed.encrypted_key = bytes(384)
    with pytest.raises(DecodingFailure):
        sealed.open(token, opening_key[0])
    assert session_objects() == decoys


def test_whatever_is_wrong_with_the_sealed_bytes_the_error_is_the_same(
    token: Token, opening_key: tuple[KeyRef, rsa.RSAPublicKey]
) -> None:
    ref, public = opening_key
    other = rsa.generate_private_key(65537, 3072).public_key()
    spoilt = [Sealed(public) for _ in range(9)]
    spoilt[0].tag = flipped(spoilt[0].tag)
    spoilt[1].ciphertext = flipped(spoilt[1].ciphertext)
    spoilt[2].nonce = flipped(spoilt[2].nonce)
    spoilt[3].encrypted_key = flipped(spoilt[3].encrypted_key)
    spoilt[4].encrypted_key = spoilt[4].encrypted_key[:-1]
    spoilt[5].encrypted_key = Sealed(other).encrypted_key
    spoilt[6].encrypted_key = public.encrypt(b"not a key", OAEP_SHA1)
    spoilt[7].encrypted_key = public.encrypt(os.urandom(32), padding.PKCS1v15())
    spoilt[8].tag = spoilt[8].tag[:1]
    refusals = []
    for each in spoilt:
        with pytest.raises(DecodingFailure) as refusal:
            each.open(token, ref)
        refusals.append((type(refusal.value), str(refusal.value), refusal.value.__cause__))
    assert set(refusals) == {(DecodingFailure, "the sealed data could not be opened", None)}


def test_a_suite_that_the_token_cannot_do_is_not_tried(
    token: Token, opening_key: tuple[KeyRef, rsa.RSAPublicKey], sealed: Sealed
) -> None:
    before = token.uses(opening_key[0])
    for suite in ("oaep-sha256", "pkcs1v15"):
        with pytest.raises(MechanismMissing, match=suite):
            sealed.open(token, opening_key[0], suite)
    assert token.uses(opening_key[0]) == before


# -- secret keys -------------------------------------------------------------------------------------------------------


def test_sealed_data_opens_only_with_the_same_context(token: Token, vault_key: KeyRef) -> None:
    sealed = token.aes_gcm_encrypt(vault_key, b"data", b"context")
    assert len(sealed) == 12 + 4 + 16
    assert token.aes_gcm_decrypt(vault_key, sealed, b"context") == b"data"
    for blob, aad in ((sealed, b"other"), (flipped(sealed), b"context"), (sealed[:-1], b"context"), (b"", b"context")):
        with pytest.raises(DecodingFailure):
            token.aes_gcm_decrypt(vault_key, blob, aad)


def test_the_same_data_is_never_sealed_to_the_same_bytes(token: Token, vault_key: KeyRef) -> None:
    assert token.aes_gcm_encrypt(vault_key, b"data", b"") != token.aes_gcm_encrypt(vault_key, b"data", b"")


def components(value: bytes) -> tuple[Secret, Secret]:
    mask = os.urandom(len(value))
    return Secret(mask), Secret(bytes(a ^ b for a, b in zip(mask, value, strict=True)))


def test_pin_blocks_are_those_of_two_independent_computations(token: Token) -> None:
    """ISO 9564 format 0 of PIN 12345 and PAN 6037991234567893 under a known 2-key TDES key."""
    zone_pin = components(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
    ref = token.import_zone_key("zone-pin", KeyKind.DES2, zone_pin, usage=Usage.PIN_BLOCK)
    assert token.des3_ecb_encrypt(ref, bytes.fromhex("05124DCEDCBA9876")).hex() == "f92d1cfcc2103e10"
    assert token.check_value(ref).hex() == "08d7b4"
    attributes = token.attributes(ref)
    assert (attributes.imported, attributes.sensitive, attributes.extractable) == (True, True, False)
    assert attributes.usages == {"encrypt"}
    with pytest.raises(BadInput, match="8 bytes"):
        token.des3_ecb_encrypt(ref, bytes(16))


def test_macs_are_those_of_rfc_4493_software(token: Token) -> None:
    ref = token.import_zone_key("zone-mac", KeyKind.AES, components(bytes(range(16))), usage=Usage.MAC)
    assert token.aes_cmac(ref, b"0200KWBP-MAC-TEST").hex() == "cc9bfc140b019e0709f66cf46fbd31c3"
    assert token.attributes(ref).usages == {"sign"}


@pytest.mark.parametrize(
    ("kind", "usage", "parts"),
    [
        (KeyKind.DES2, Usage.PIN_BLOCK, [bytes(range(16))]),
        (KeyKind.DES2, Usage.PIN_BLOCK, [bytes(range(16)), bytes(8)]),
        (KeyKind.DES2, Usage.PIN_BLOCK, [bytes(range(8)) * 2, bytes(16)]),
        (KeyKind.AES, Usage.MAC, [bytes(range(16)), bytes(range(16))]),
        (KeyKind.AES, Usage.SEAL, [bytes(range(16)), bytes(16)]),
        (KeyKind.DES2, Usage.MAC, [bytes(range(16)), bytes(16)]),
    ],
    ids=["one component", "short component", "single DES", "components cancel out", "usage", "kind"],
)
def test_a_bad_zone_key_is_not_loaded(token: Token, kind: KeyKind, usage: Usage, parts: list[bytes]) -> None:
    with pytest.raises(BadInput):
        token.import_zone_key("bad", kind, [Secret(part) for part in parts], usage=usage)
    assert token.find(label="bad") is None


# -- opening, closing, load --------------------------------------------------------------------------------------------


def test_a_wrong_pin_is_tried_once_and_the_right_one_still_works(home: Home, token: Token) -> None:
    module = load_module()
    with pytest.raises(PinRefused, match="PinIncorrect") as refusal:
        Token.open(module, "merchants", Secret(b"0000"))
    assert "0000" not in str(refusal.value)
    with opened(home, "merchants") as merchants:
        assert merchants.keys() == []


def test_a_pin_that_is_no_text_is_not_tried_and_not_shown(home: Home, token: Token) -> None:
    with pytest.raises(PinRefused) as refusal:
        Token.open(load_module(), "merchants", Secret(b"12\xff34"))
    assert (refusal.value.__context__, "12" in str(refusal.value)) == (None, False)
    with opened(home, "merchants") as merchants:
        assert merchants.keys() == []


def test_a_full_pool_refuses_after_the_deadline_instead_of_hanging(home: Home, token: Token) -> None:
    with opened(home, "ca", sessions=1, acquire_timeout=0.05) as ca, ca._pool.session(1):
        with pytest.raises(TokenBusy) as refusal:
            ca.random(8)
        assert (refusal.value.status, refusal.value.retry_after) == (503, 1)
        with pytest.raises(TokenUnavailable, match="still busy"):
            ca.close(timeout=0.01)


def test_a_waiting_caller_gets_the_session_that_is_given_back(home: Home, token: Token) -> None:
    with opened(home, "ca", sessions=1, acquire_timeout=30) as ca:
        results: list[int] = []
        waiting = threading.Thread(target=lambda: results.append(len(ca.random(8))))
        with ca._pool.session(1):
            waiting.start()
        waiting.join(30)
        assert results == [8]


def test_a_closed_token_serves_nobody_and_closes_twice(home: Home, token: Token) -> None:
    with opened(home, "ca") as ca:
        pass
    ca.close()
    with pytest.raises(TokenClosed):
        ca.random(8)
    with pytest.raises(TokenClosed):
        ca.generate_ec("after the end")


def test_closing_one_token_does_not_log_another_out(
    home: Home, token: Token, ec_key: tuple[KeyRef, ec.EllipticCurvePublicKey]
) -> None:
    with opened(home, "ca"):
        pass
    assert token.sign_ecdsa(ec_key[0], b"data")


def test_a_lost_session_is_replaced_without_the_caller_noticing(
    token: Token, ec_key: tuple[KeyRef, ec.EllipticCurvePublicKey]
) -> None:
    token.sign_ecdsa(ec_key[0], b"data")
    for session in token._pool._idle:
        session.raw.close()
    ec_key[1].verify(token.sign_ecdsa(ec_key[0], b"data"), b"data", ec.ECDSA(hashes.SHA256()))


def test_a_token_prints_nothing_but_its_label(token: Token) -> None:
    assert repr(token) == "<Token gateway>"


# The OpenSSL that a token shares with TLS


def errors_of_openssl() -> int:
    """The oldest error in this thread's queue; 0 if there is none."""
    peek = ctypes.CDLL(_ssl.__file__).ERR_peek_error
    peek.restype = ctypes.c_ulong
    return int(peek())


@pytest.fixture
def clean() -> None:
    ctypes.CDLL(_ssl.__file__).ERR_clear_error()


@pytest.mark.usefixtures("clean")
def test_what_is_tried_in_a_token_leaves_no_error_to_the_next_tls_connection(token: Token) -> None:
    token._probe()
    assert errors_of_openssl() == 0


@pytest.mark.usefixtures("clean")
def test_an_operation_leaves_no_error_to_the_next_tls_connection(token: Token) -> None:
    library = ctypes.CDLL(_ssl.__file__)
    with token._pool.session(1):
        library.ERR_new()
        library.ERR_set_error(6, 189, None)  # EVP, UPDATE_ERROR
        assert errors_of_openssl() != 0
    assert errors_of_openssl() == 0
