"""A supervised token does what `Token` does: results checked with independent software, errors of the same classes."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from hsm_service import token_wire
from hsm_service.errors import (
    BadInput,
    DecodingFailure,
    HsmError,
    KeyExists,
    KeyMisused,
    KeyNotFound,
    MechanismMissing,
    TokenBusy,
    TokenClosed,
    TokenNotFound,
    WeakKey,
    WrongCheckValue,
)
from hsm_service.keys import KeyKind, KeyRef, Usage
from hsm_service.provision import supervise_token
from hsm_service.supervised import SupervisedToken
from hsm_service.token_operations import TokenOperations
from hsm_service.tokens import Token
from runtime.secrets import Secret
from runtime.settings import Home
from tests.support.softhsm import opened, provisioned_home

PATIENCE = 60.0
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
OAEP_SHA1 = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)  # noqa: S303  # all that SoftHSM2 can do
DATA = b"what is signed"
DIGEST = hashlib.sha256(DATA).digest()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return provisioned_home(tmp_path_factory.mktemp("supervised"))


@pytest.fixture(scope="module")
def token(home: Home) -> Iterator[SupervisedToken]:
    with supervise_token(home, "gateway") as token:
        assert token.wait_healthy(PATIENCE), token.trouble
        yield token


@pytest.fixture(scope="module")
def rsa_key(token: SupervisedToken) -> tuple[KeyRef, rsa.RSAPublicKey]:
    return token.generate_rsa("signing", 2048)


@pytest.fixture(scope="module")
def ec_key(token: SupervisedToken) -> tuple[KeyRef, ec.EllipticCurvePublicKey]:
    return token.generate_ec("signing-ec")


def test_both_kinds_of_token_can_be_asked_the_same(token: SupervisedToken, home: Home) -> None:
    supervised: TokenOperations = token
    with opened(home, "merchants") as merchants:
        in_place: TokenOperations = merchants
        assert {supervised.label, in_place.label} == {"gateway", "merchants"}


def test_whatever_crosses_is_a_method_of_token() -> None:
    assert [name for name in token_wire.METHODS if not hasattr(Token, name)] == []


def test_rsa_signatures_verify_in_software(token: SupervisedToken, rsa_key: tuple[KeyRef, rsa.RSAPublicKey]) -> None:
    ref, public = rsa_key
    public.verify(token.sign_pss_sha256(ref, DATA), DATA, PSS, hashes.SHA256())
    for algorithm in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        public.verify(token.sign_pkcs1v15(ref, DATA, algorithm), DATA, padding.PKCS1v15(), algorithm)
    assert token.public_key(ref).public_numbers() == public.public_numbers()


def test_ecdsa_signatures_verify_in_software(
    token: SupervisedToken, ec_key: tuple[KeyRef, ec.EllipticCurvePublicKey]
) -> None:
    ref, public = ec_key
    public.verify(token.sign_ecdsa(ref, DATA), DATA, ec.ECDSA(hashes.SHA256()))
    public.verify(token.sign_ecdsa(ref, DATA, hashes.SHA384()), DATA, ec.ECDSA(hashes.SHA384()))
    assert token.public_key(ref).public_numbers() == public.public_numbers()


@pytest.mark.parametrize("size", [0, 1, 5, 300])
def test_a_batch_is_signed_in_its_order(
    token: SupervisedToken, ec_key: tuple[KeyRef, ec.EllipticCurvePublicKey], size: int
) -> None:
    digests = [os.urandom(32) for _ in range(size)]
    signatures = token.sign_many(ec_key[0], "ecdsa", digests)
    assert len(signatures) == size
    for digest, signature in zip(digests, signatures, strict=True):
        ec_key[1].verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))


@pytest.mark.parametrize(
    ("mechanism", "scheme", "algorithm"),
    [
        ("pss-sha256", PSS, hashes.SHA256()),
        ("pkcs1v15-sha256", padding.PKCS1v15(), hashes.SHA256()),
        ("pkcs1v15-sha384", padding.PKCS1v15(), hashes.SHA384()),
        ("pkcs1v15-sha512", padding.PKCS1v15(), hashes.SHA512()),
    ],
)
def test_batches_of_rsa_signatures_verify(
    token: SupervisedToken,
    rsa_key: tuple[KeyRef, rsa.RSAPublicKey],
    mechanism: Any,
    scheme: Any,
    algorithm: hashes.HashAlgorithm,
) -> None:
    digests = [hashlib.new(algorithm.name, bytes([each])).digest() for each in range(3)]
    for digest, signature in zip(digests, token.sign_many(rsa_key[0], mechanism, digests), strict=True):
        rsa_key[1].verify(signature, digest, scheme, Prehashed(algorithm))


def test_a_batch_that_cannot_be_signed_gives_one_error_and_no_signature(
    token: SupervisedToken, rsa_key: tuple[KeyRef, rsa.RSAPublicKey]
) -> None:
    with pytest.raises(BadInput, match="no mechanism"):
        token.sign_many(rsa_key[0], "md5", [DIGEST])  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="32 bytes"):
        token.sign_many(rsa_key[0], "pkcs1v15-sha256", [DIGEST] * 40 + [b"short"])


def test_a_sealed_order_is_opened_and_a_spoilt_one_says_nothing(token: SupervisedToken) -> None:
    ref, public = token.generate_rsa("encryption", 2048, usage=Usage.OPEN)
    content_key, nonce = os.urandom(32), os.urandom(12)
    body = AESGCM(content_key).encrypt(nonce, b"card data", None)
    wrapped = public.encrypt(content_key, OAEP_SHA1)
    opened = token.unwrap_and_decrypt_gcm(ref, "oaep-sha1", wrapped, nonce, body[:-16], body[-16:])
    assert opened == b"card data"
    with pytest.raises(DecodingFailure) as refusal:
        token.unwrap_and_decrypt_gcm(ref, "oaep-sha1", wrapped, nonce, body[:-16], bytes(16))
    assert str(refusal.value) == "the sealed data could not be opened"
    with pytest.raises(MechanismMissing):
        token.unwrap_and_decrypt_gcm(ref, "oaep-sha256", wrapped, nonce, body[:-16], body[-16:])
    public.verify(token.prove_possession(ref, DATA), DATA, padding.PKCS1v15(), hashes.SHA256())
    assert token.capabilities.sealing_suites == ("oaep-sha1",)


def test_secret_keys_seal_mac_and_encrypt_pin_blocks(token: SupervisedToken) -> None:
    vault = token.generate_aes("vault")
    sealed = token.aes_gcm_encrypt(vault, b"data", b"context")
    assert token.aes_gcm_decrypt(vault, sealed, b"context") == b"data"
    with pytest.raises(DecodingFailure):
        token.aes_gcm_decrypt(vault, sealed, b"other")
    mac = token.import_zone_key("zone-mac", KeyKind.AES, components(bytes(range(16))), usage=Usage.MAC)
    assert token.aes_cmac(mac, b"0200KWBP-MAC-TEST").hex() == "cc9bfc140b019e0709f66cf46fbd31c3"
    pin = token.import_zone_key(
        "zone-pin",
        KeyKind.DES2,
        components(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")),
        usage=Usage.PIN_BLOCK,
    )
    assert token.des3_ecb_encrypt(pin, bytes.fromhex("05124DCEDCBA9876")).hex() == "f92d1cfcc2103e10"
    assert token.check_value(pin).hex() == "08d7b4"
    assert token.attributes(mac).imported
    aes = token.import_zone_key("zone-pin-4", KeyKind.AES, components(bytes(range(16))), usage=Usage.PIN_BLOCK)
    assert token.aes_pin_block(aes, bytes(16), bytes(16)).hex() == ECB_TWICE
    retail = token.import_zone_key(
        "zone-mac-des2",
        KeyKind.DES2,
        components(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")),
        usage=Usage.RETAIL_MAC,
    )
    assert token.retail_mac(retail, b"0200KWBP-MAC-TEST" + bytes(7)).hex() == "7425c2b8ab5e6107"
    assert token.check_value(retail, Usage.RETAIL_MAC).hex()[:6] == "08d7b4"


def test_zone_keys_that_come_wrapped_are_compared_before_they_are_stored(token: SupervisedToken) -> None:
    value, clear = os.urandom(16), bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    master = token.import_zone_key("zone-master", KeyKind.AES, components(value), usage=Usage.RECEIVE)
    wrapped, kcv = aes_key_wrap(value, clear), bytes.fromhex("08d7b4")
    arguments: dict[str, Any] = {"usage": Usage.PIN_BLOCK, "cka_id": b"came over the line"}
    for sent, said in ((wrapped, b"\0\0\0"), (wrapped[:-1] + bytes([wrapped[-1] ^ 1]), kcv)):
        with pytest.raises(WrongCheckValue):
            token.unwrap_zone_key(master, "zone-pin", KeyKind.DES2, sent, said, **arguments)
    with pytest.raises(BadInput):
        token.unwrap_zone_key(master, "zone-pin", KeyKind.DES3, wrapped, kcv, **arguments)  # 16 bytes
    assert token.find(cka_id=b"came over the line") is None
    token.try_zone_key(master, KeyKind.DES2, Usage.PIN_BLOCK, wrapped, kcv)
    ref = token.unwrap_zone_key(master, "zone-pin", KeyKind.DES2, wrapped, kcv, **arguments)
    assert token.des3_ecb_encrypt(ref, bytes.fromhex("05124DCEDCBA9876")).hex() == "f92d1cfcc2103e10"
    with pytest.raises(KeyMisused):  # the master key does nothing else
        token.des3_ecb_encrypt(master, bytes(8))


ECB_TWICE: Final = "af9d9926f7dac87192b1c4143ad98958"
"""Of a zero block under 000102…0F, by `openssl enc -aes-128-ecb -nopad`."""


def components(value: bytes) -> tuple[Secret, Secret]:
    mask = os.urandom(len(value))
    return Secret(mask), Secret(bytes(a ^ b for a, b in zip(mask, value, strict=True)))


def test_keys_are_made_found_described_and_destroyed(token: SupervisedToken) -> None:
    ref, _public = token.generate_ec("short-lived", "P-384", cka_id=b"its id")
    assert (ref.cka_id, token.find(cka_id=b"its id"), token.find(label="short-lived")) == (b"its id", ref, ref)
    held = token.keys()
    assert ref in held
    assert token.require_sound(ref, Usage.SIGN) == token.attributes(ref)
    with pytest.raises(KeyExists):
        token.generate_ec("second", cka_id=b"its id")
    token.sign_ecdsa(ref, DATA)
    token.destroy(ref)
    assert token.find(label="short-lived") is None
    process = token.process_id
    with pytest.raises(KeyNotFound):
        token.sign_ecdsa(ref, DATA)
    assert token.process_id == process  # the token is not suspected of having lost what we destroyed


def test_errors_keep_their_class_and_what_they_carry(
    token: SupervisedToken,
    rsa_key: tuple[KeyRef, rsa.RSAPublicKey],
    ec_key: tuple[KeyRef, ec.EllipticCurvePublicKey],
) -> None:
    with pytest.raises(WeakKey) as refusal:
        token.unwrap_and_decrypt_gcm(rsa_key[0], "oaep-sha1", bytes(256), bytes(12), b"", bytes(16))
    assert refusal.value.attributes == ("UNWRAP=false",)
    with pytest.raises(KeyMisused):
        token.sign_ecdsa(rsa_key[0], DATA)
    with pytest.raises(KeyMisused, match="merchants"):
        token.sign_ecdsa(KeyRef("merchants", KeyKind.EC, ec_key[0].cka_id, "other"), DATA)
    with pytest.raises(BadInput, match="sha1"):
        token.sign_pkcs1v15_digest(rsa_key[0], bytes(20), hashes.SHA1())  # noqa: S303  # shown to be refused


def test_every_use_of_a_key_is_counted_and_no_refusal(
    token: SupervisedToken, rsa_key: tuple[KeyRef, rsa.RSAPublicKey]
) -> None:
    ref, _public = token.generate_ec("counted")
    assert token.uses(ref) == 0
    token.sign_ecdsa(ref, DATA)
    token.sign_many(ref, "ecdsa", [DIGEST] * 9)
    assert token.uses(ref) == 10
    with pytest.raises(KeyMisused):
        token.sign_pss_sha256(ref, DATA)
    assert token.uses(ref) == 10


# -- the channel -------------------------------------------------------------------------------------------------------


def test_what_is_too_long_to_send_is_refused_and_harms_nothing(token: SupervisedToken) -> None:
    mac = token.import_zone_key("long-mac", KeyKind.AES, components(bytes(range(16))), usage=Usage.MAC)
    process = token.process_id
    with pytest.raises(BadInput, match="at most 131072 bytes"):
        token.aes_cmac(mac, bytes(200_000))
    assert len(token.aes_cmac(mac, bytes(100_000))) == 16
    assert token.process_id == process


@pytest.mark.parametrize("length", [1, token_wire.PART_BYTES, 3 * token_wire.PART_BYTES + 1])
def test_an_answer_of_any_length_arrives_whole(token: SupervisedToken, length: int) -> None:
    assert len(token.random(length)) == length


def test_long_answers_of_many_threads_are_not_mixed_up(
    token: SupervisedToken, ec_key: tuple[KeyRef, ec.EllipticCurvePublicKey]
) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for _ in range(20):
            if number % 2:
                length = token_wire.PART_BYTES * number
                if len(token.random(length)) != length:
                    wrong.append(length)
            else:
                ec_key[1].verify(token.sign_ecdsa(ec_key[0], DATA), DATA, ec.ECDSA(hashes.SHA256()))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)


def test_nothing_but_the_methods_of_the_table_can_be_called(token: SupervisedToken) -> None:
    for name in ("_administer", "close", "__class__", "nothing"):
        with pytest.raises(ValueError, match="cannot be called"):
            token.submit(name, (), lambda _answer: None)
    with pytest.raises(TypeError, match="does not cross"):
        token.submit("random", (object(),), lambda _answer: None)
    answered = Answers()
    token.submit("random", ("eight",), answered)
    assert isinstance(answered.wait(), BadInput)  # the process decodes strictly, and lives on
    assert len(token.random(8)) == 8


class Answers:
    """Takes one answer."""

    def __init__(self) -> None:
        self._come = threading.Event()
        self._answer: Any = None

    def __call__(self, answer: Any) -> None:
        self._answer = answer
        self._come.set()

    def wait(self) -> Any:
        assert self._come.wait(PATIENCE)
        return self._answer


def test_a_full_queue_refuses_at_once_and_drops_what_nobody_waits_for(home: Home) -> None:
    with supervise_token(home, "merchants", sessions=1, queue=8) as token:
        assert token.wait_healthy(PATIENCE), token.trouble
        ref, public = token.generate_ec("queued")
        taken = [Answers() for _ in range(8)]
        busy = [
            token.submit("generate_rsa", (f"slow {each}", 2048, Usage.SIGN, None, False), taken[each])
            for each in range(8)
        ]
        for call in busy[1:]:
            assert call is not None
            call.cancel()
        refused = Answers()
        token.submit("random", (8,), refused)
        assert isinstance(refused.wait(), TokenBusy)
        assert refused.wait().retry_after == 1
        assert isinstance(taken[0].wait(), tuple)
        public.verify(token.sign_ecdsa(ref, DATA), DATA, ec.ECDSA(hashes.SHA256()))
        held = token.keys()
        assert [each.label for each in held] == ["queued", "slow 0"]


def test_closing_waits_for_what_is_under_way_and_refuses_what_comes_later(home: Home) -> None:
    token = supervise_token(home, "ca")
    assert token.wait_healthy(PATIENCE), token.trouble
    ref, public = token.generate_ec("last")
    answers = [Answers() for _ in range(100)]
    for answer in answers:
        token.submit("sign_ecdsa_digest", (ref, DIGEST), answer)
    token.close(PATIENCE)
    for answer in answers:
        public.verify(answer.wait(), DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))
    late = Answers()
    token.submit("random", (8,), late)
    assert isinstance(late.wait(), TokenClosed)
    with pytest.raises(TokenClosed):
        token.sign_ecdsa(ref, DATA)
    token.close()
    assert (token.healthy, token.trouble) == (False, "it was closed")


def test_every_error_crosses_as_the_class_that_it_is() -> None:
    def concrete(base: type[HsmError]) -> Iterator[type[HsmError]]:
        for each in base.__subclasses__():
            yield each
            yield from concrete(each)

    for kind in concrete(HsmError):
        error = {WeakKey: lambda: WeakKey("key", ("LOCAL=false",)), DecodingFailure: DecodingFailure}.get(
            kind, lambda kind=kind: kind("its text")
        )()
        _number, status, raw = token_wire.decode_answer(token_wire.encode_error(7, error))
        found = token_wire.decode_error(raw)
        assert (status, type(found), str(found)) == (token_wire.ERROR, kind, str(error))


def test_an_error_that_is_not_ours_is_told_by_its_class_alone() -> None:
    _number, _status, raw = token_wire.decode_answer(token_wire.encode_error(7, ValueError("PIN 1234")))
    assert str(token_wire.decode_error(raw)) == "the token's process failed: ValueError"


def test_a_secret_argument_shows_in_no_repr() -> None:
    start = token_wire.Start("/m.so", None, None, "ca", Secret(b"4711471147"), 1, 1)
    assert "4711471147" not in repr(start)


def test_a_token_that_the_installation_does_not_have_is_refused_at_once(home: Home) -> None:
    with pytest.raises(TokenNotFound):
        supervise_token(home, "nobody")
