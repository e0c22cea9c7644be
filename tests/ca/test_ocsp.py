"""Certificate status over HTTP: what is said of each serial, to whom, until when; and what if it cannot be said."""

from __future__ import annotations

import base64
import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from sqlalchemy import text

import ca.ocsp_presign
import ca.ocsp_store
from ca.ocsp_policy import ocsp_policy
from ca.ocsp_presign import Presigner
from ca.ocsp_store import OcspStore
from ca.store import serial_hex
from hsm_service.wire import BatchAnswer
from pki.algorithms import SHA256_IDENTIFIER
from pki.der import encode, tlv
from pki.errors import OcspError
from pki.ocsp import OcspStatus, verify_ocsp
from pki.ocsp_structures import SHA1_IDENTIFIER, Extension, OcspRequest, Request, TbsRequest, cert_id, compose_request
from runtime.problems import Problem
from tests.support.cps_cases import Office
from tests.support.databases import DATABASES, ca_database
from tests.support.judges import run
from tests.support.ocsp_world import OcspWorld
from tests.support.one_intent import reserve_serial
from tests.support.pki_factory import pem

NONCE = bytes(range(32))


@pytest.fixture(scope="module", params=DATABASES)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, office: Office
) -> Iterator[OcspWorld]:
    """One for all tests that leave its clock, its keys and its database as they are."""
    folder = tmp_path_factory.mktemp("ocsp")
    with OcspWorld(folder, office, database=ca_database(request.param, folder)) as made:
        yield made


@pytest.fixture(params=DATABASES)
def own_world(request: pytest.FixtureRequest, tmp_path: Path, office: Office) -> Iterator[OcspWorld]:
    with OcspWorld(tmp_path, office, database=ca_database(request.param, tmp_path)) as made:
        yield made


def status(
    world: OcspWorld, answer: httpx.Response | bytes, certificate: x509.Certificate, **changes: object
) -> OcspStatus:
    der = answer if isinstance(answer, bytes) else answer.content
    return verify_ocsp(der, certificate=certificate, issuer=world.issuer, now=world.ca.clock(), **changes)  # type: ignore[arg-type]


def asked(world: OcspWorld, certificate: x509.Certificate, **changes: object) -> OcspStatus:
    return status(world, world.post(world.request(certificate, **changes)), certificate)


def refusal(answer: httpx.Response) -> str:
    """What an unsigned answer says."""
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/ocsp-response"
    assert answer.headers["cache-control"] == "no-store"
    return ocsp.load_der_ocsp_response(answer.content).response_status.name


# What is said of a certificate


def test_an_issued_certificate_is_good_and_its_answer_may_be_cached(world: OcspWorld) -> None:
    shop = world.issue()
    answer = world.post(world.request(shop))
    said = status(world, answer, shop)

    assert said.state == "good"
    headers = answer.headers
    assert headers["content-type"] == "application/ocsp-response"
    assert headers["cache-control"] == "max-age=60,public,no-transform,must-revalidate"
    assert parsedate_to_datetime(headers["last-modified"]) == said.this_update
    assert parsedate_to_datetime(headers["expires"]) == said.next_update
    assert said.next_update - said.this_update == world.policy.presigned.lifetime
    single = next(iter(ocsp.load_der_ocsp_response(answer.content).responses))
    assert single.serial_number == shop.serial_number
    assert world.post(world.request(shop)).content == answer.content


def test_the_archive_reaches_back_to_the_beginning_of_the_authority(world: OcspWorld) -> None:
    shop = world.issue()
    read = ocsp.load_der_ocsp_response(world.post(world.request(shop)).content)
    (cutoff,) = read.single_extensions
    assert cutoff.oid.dotted_string == "1.3.6.1.5.5.7.48.1.6"
    begins = world.issuer.not_valid_before_utc.strftime("%Y%m%d%H%M%SZ").encode()
    assert cutoff.value.public_bytes() == b"\x18\x0f" + begins


def test_a_revoked_certificate_is_revoked_with_time_and_reason(world: OcspWorld) -> None:
    shop = world.issue()
    world.change(shop, "revoked", "keyCompromise")
    said = asked(world, shop)
    assert (said.state, said.reason, said.revoked_at) == ("revoked", "keyCompromise", world.ca.clock())


def test_an_unspecified_reason_is_not_stated(world: OcspWorld) -> None:
    shop = world.issue()
    world.change(shop, "revoked", "unspecified")
    assert (asked(world, shop).state, asked(world, shop).reason) == ("revoked", None)


def test_a_suspended_certificate_is_on_hold_and_good_again_when_released(world: OcspWorld) -> None:
    shop = world.issue()
    world.change(shop, "held", "certificateHold")
    assert (asked(world, shop).state, asked(world, shop).reason) == ("revoked", "certificateHold")
    world.change(shop, "released", "certificateHold")
    eventually(lambda: asked(world, shop).state == "good")


def test_a_serial_that_was_never_issued_is_unknown_and_nobody_keeps_that(world: OcspWorld) -> None:
    stranger = world.pki.merchant("M-9").certificate
    answer = world.post(world.request(stranger))
    assert status(world, answer, stranger).state == "unknown"
    assert answer.headers["cache-control"] == "no-store"
    world.record(stranger)
    assert asked(world, stranger).state == "good"


def test_a_serial_that_was_reserved_only_is_unknown(world: OcspWorld) -> None:
    stranger = world.pki.merchant("M-9").certificate
    assert reserve_serial(
        world.ca.authority.store, "merchant-ca", format(stranger.serial_number, "x"), world.ca.clock()
    )
    assert asked(world, stranger).state == "unknown"


def test_an_abandoned_serial_that_may_have_been_signed_is_revoked(world: OcspWorld) -> None:
    stranger = world.pki.merchant("M-9").certificate
    reserve_serial(world.ca.authority.store, "merchant-ca", format(stranger.serial_number, "x"), world.ca.clock())
    world.change(stranger, "revoked", "unspecified")
    assert asked(world, stranger).state == "revoked"


def test_every_authority_below_the_root_has_its_own_responder(world: OcspWorld) -> None:
    certificate, issuer = world.issuer, world.pki.brand.certificate
    answer = world.post(compose_request(certificate.serial_number, issuer))
    said = verify_ocsp(answer.content, certificate=certificate, issuer=issuer, now=world.ca.clock())
    assert said.state == "good"  # its own ceremony put it on record
    with pytest.raises(OcspError):
        status(world, answer, certificate)  # the merchant CA did not say so


# How it is asked


def url_of(request: bytes) -> str:
    return "/ocsp/" + quote(base64.b64encode(request), safe="")


def test_get_and_post_say_the_same(world: OcspWorld) -> None:
    request = world.request(world.issue())
    world.presigner.presign_due(world.ca.clock())
    posted, got = world.post(request), world.http.get(url_of(request))
    assert got.content == posted.content
    assert got.headers["etag"] == posted.headers["etag"]


def test_base64_that_was_not_url_encoded_is_read_too(world: OcspWorld) -> None:
    for number in range(100):
        request = world.request(world.pki.merchant(serial=(1 << 100) + number * 7919).certificate)
        if b"/" in (encoded := base64.b64encode(request)):
            break
    assert world.http.get(f"/ocsp/{encoded.decode()}").content[:4] != b"\x30\x03\x0a\x01"


def test_what_a_cache_has_is_not_sent_again(world: OcspWorld) -> None:
    url = url_of(world.request(world.issue()))
    tag = world.http.get(url).headers["etag"]
    again = world.http.get(url, headers={"if-none-match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)


def test_a_nonce_is_echoed_in_an_answer_that_nobody_keeps(world: OcspWorld) -> None:
    shop = world.issue()
    answers = [world.post(world.request(shop, nonce=NONCE)) for _ in range(2)]
    assert answers[0].content != answers[1].content
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        assert status(world, answer, shop, nonce=NONCE).state == "good"
    with pytest.raises(OcspError, match="nonce_mismatch"):
        status(world, answers[0], shop, nonce=b"another")


@pytest.mark.parametrize("length", [1, 128])
def test_nonces_have_one_to_128_octets(world: OcspWorld, length: int) -> None:
    shop = world.issue()
    answer = world.post(world.request(shop, nonce=bytes(length)))
    assert status(world, answer, shop, nonce=bytes(length)).state == "good"


def test_sha_256_certids_are_answered_alike(world: OcspWorld) -> None:
    shop = world.issue()
    answer = world.post(world.request(shop, hash_algorithm=SHA256_IDENTIFIER))
    assert status(world, answer, shop).state == "good"
    assert ocsp.load_der_ocsp_response(answer.content).hash_algorithm.name == "sha256"


def several(*cert_ids: object, extensions: list[Extension] | None = None) -> bytes:
    requests = [Request(req_cert=each, single_request_extensions=None) for each in cert_ids]  # type: ignore[arg-type]
    return encode(OcspRequest(tbs_request=TbsRequest(request_list=requests, request_extensions=extensions)))


def test_several_certificates_of_one_authority_are_answered_together(world: OcspWorld) -> None:
    good, bad = world.issue(), world.issue()
    world.change(bad, "revoked", "superseded")
    answer = world.post(several(*(cert_id(each.serial_number, world.issuer) for each in (good, bad))))
    assert [status(world, answer, each).state for each in (good, bad)] == ["good", "revoked"]


def test_a_signed_request_is_answered_like_any_other(world: OcspWorld) -> None:
    shop = world.issue()
    bare = world.request(shop)
    tbs = several(cert_id(shop.serial_number, world.issuer))[2:] if len(bare) < 128 else b""
    assert tbs
    signature = tlv(
        0xA0, tlv(0x30, tlv(0x30, encode(x509.ObjectIdentifier("1.2.840.10045.4.3.2"))) + b"\x03\x02\x00\x01")
    )
    assert status(world, world.post(tlv(0x30, tbs + signature)), shop).state == "good"


# What is refused, and how


def test_certificates_of_others_are_not_ours_to_speak_of(world: OcspWorld) -> None:
    own = cert_id(world.issue().serial_number, world.issuer)
    foreign = cert_id(7, world.pki.merchant("M-9").certificate)
    other = cert_id(7, world.pki.gateway_ca.certificate)
    root = cert_id(world.pki.brand.certificate.serial_number, world.pki.root.certificate)
    for request in (several(foreign), several(own, foreign), several(own, other), several(root)):
        assert refusal(world.post(request)) == "UNAUTHORIZED"


def extension(value: bytes = b"", *, critical: bool = False) -> Extension:
    """One that nobody knows."""
    return Extension(id=x509.ObjectIdentifier("1.2.3"), critical=critical, value=value)


def malformed(world: OcspWorld) -> dict[str, bytes]:
    named = cert_id(5, world.issuer)
    sound = several(named)
    sha384 = tlv(0x30, bytes.fromhex("0609608648016503040202"))
    name_hash, key_hash = tlv(4, named.issuer_name_hash), tlv(4, named.issuer_key_hash)

    def one(identifier: bytes, serial: bytes, tail: bytes = b"") -> bytes:
        return tlv(0x30, tlv(0x30, tlv(0x30, tlv(0x30, tlv(0x30, identifier + name_hash + key_hash + serial) + tail))))

    def with_nonce(value: bytes) -> bytes:
        nonce = Extension(id=x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.2"), critical=False, value=value)
        return several(named, extensions=[nonce])

    return {
        "nothing": b"",
        "text": b"GET / HTTP/1.1",
        "trailing byte": sound + b"\x00",
        "cut short": sound[:-1],
        "indefinite length": b"\x30\x80" + sound[2:] + b"\x00\x00",
        "a length longer than it need be": b"\x30\x81" + sound[1:],
        "too large": several(named, extensions=[extension(bytes(9000))]),
        "ten thousand certificates": several(*[named] * 10_000)[:200_000],
        "thirty-three certificates": several(*[named] * 33),
        "no certificate": several(),
        "an unknown hash": one(sha384, b"\x02\x01\x05"),
        "hash with parameters": one(tlv(0x30, bytes.fromhex("06052b0e03021a") + b"\x02\x01\x05"), b"\x02\x01\x05"),
        "serial zero": one(SHA1_IDENTIFIER, b"\x02\x01\x00"),
        "negative serial": one(SHA1_IDENTIFIER, b"\x02\x01\x85"),
        "padded serial": one(SHA1_IDENTIFIER, b"\x02\x02\x00\x05"),
        "empty serial": one(SHA1_IDENTIFIER, b"\x02\x00"),
        "long serial": one(SHA1_IDENTIFIER, tlv(2, b"\x01" * 21)),
        "something after the serial": one(SHA1_IDENTIFIER, b"\x02\x01\x05\x05\x00"),
        "an unknown critical extension": several(named, extensions=[extension(critical=True)]),
        "an unknown critical extension of one": one(
            SHA1_IDENTIFIER, b"\x02\x01\x05", tlv(0xA0, tlv(0x30, encode(extension(critical=True))))
        ),
        "an extension twice": several(named, extensions=[extension()] * 2),
        "empty nonce": with_nonce(b"\x04\x00"),
        "nonce of 129 octets": with_nonce(encode(bytes(129))),
        "bare nonce": with_nonce(bytes(16)),
    }  # fmt: skip


def test_whatever_is_no_sound_request_is_malformed_and_costs_no_signature(own_world: OcspWorld) -> None:
    world = own_world
    said = {twin: refusal(world.post(request)) for twin, request in malformed(world).items()}
    assert set(said.values()) == {"MALFORMED_REQUEST"}, said
    assert refusal(world.http.get("/ocsp/%00!")) == "MALFORMED_REQUEST"
    assert refusal(world.http.get("/ocsp/")) == "MALFORMED_REQUEST"
    assert refusal(world.http.get("/ocsp/" + "A" * 40_000)) == "MALFORMED_REQUEST"
    assert world.signer.calls == 0


def test_other_methods_and_types_are_told_so(world: OcspWorld) -> None:
    assert world.http.get("/ocsp").status_code == 405
    assert world.http.delete("/ocsp").headers["allow"] == "POST"
    assert world.http.post("/ocsp/AAAA").headers["allow"] == "GET"
    assert world.http.post("/ocsp", content=b"{}", headers={"content-type": "application/json"}).status_code == 415


# Ahead of time, and when something is away


def test_every_unexpired_certificate_is_signed_ahead_once(own_world: OcspWorld) -> None:
    world = own_world
    shops = [world.issue() for _ in range(3)]
    expired = world.pki.merchant(not_after=world.ca.clock() - timedelta(hours=1)).certificate
    world.record(expired)

    assert world.presigner.presign_due(world.ca.clock()) >= len(shops)
    assert world.presigner.presign_due(world.ca.clock()) == 0
    assert [asked(world, shop).state for shop in shops] == ["good"] * 3
    assert world.signer.calls == 0  # nothing was left to sign when they were asked for
    assert asked(world, expired).state == "good"  # RFC 6960 does not say expired; it is on record
    assert world.signer.calls == 1


def test_answers_are_signed_ahead_again_in_time_and_at_once_after_a_change(own_world: OcspWorld) -> None:
    world = own_world
    shop = world.issue()
    signed = world.presigner.presign_due(world.ca.clock())
    world.ca.clock.forward(world.policy.presigned.renew_before + timedelta(minutes=1))
    assert world.presigner.presign_due(world.ca.clock()) == signed
    world.change(shop, "revoked", "superseded")
    assert world.presigner.presign_due(world.ca.clock()) == 1
    assert asked(world, shop).state == "revoked"
    assert world.signer.calls == 0


def test_an_answer_never_outlives_its_responders_certificate(own_world: OcspWorld) -> None:
    world = own_world
    shop = world.issue()
    chain = world.ca.keys.describe_key("ocsp-merchant-ca").certificate_chain
    ends = x509.load_der_x509_certificate(chain[0]).not_valid_after_utc
    world.ca.clock.forward(ends - world.ca.clock() - timedelta(hours=1))
    assert asked(world, shop).next_update == ends
    world.presigner.presign_due(world.ca.clock())
    assert world.presigner.presign_due(world.ca.clock()) == 0


def eventually(condition: object, *, within: float = 120.0) -> None:
    ends = time.monotonic() + within
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_revocation_shows_although_the_answer_was_remembered(world: OcspWorld) -> None:
    shop, other = world.issue(), world.issue()
    before = world.post(world.request(shop)), world.post(world.request(other))
    world.change(shop, "revoked", "keyCompromise")
    eventually(lambda: asked(world, shop).state == "revoked")
    assert world.post(world.request(other)).content == before[1].content  # nobody else's answer is void


def test_no_good_answer_is_given_once_the_list_is_out(world: OcspWorld) -> None:
    for _ in range(5):
        shop = world.issue()
        assert asked(world, shop).state == "good"
        world.change(shop, "revoked", "keyCompromise")
        world.ca.authority.publisher.publish("merchant-ca")
        assert asked(world, shop).state == "revoked"


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def away() -> None:
    raise Problem(503, "token-away", "the token is away")


def test_without_the_token_what_is_remembered_or_signed_ahead_is_served_and_the_rest_told_to_try_later(
    own_world: OcspWorld,
) -> None:
    world = own_world
    remembered, ahead = world.issue(), world.issue()
    assert asked(world, remembered).state == "good"
    world.presigner.presign_due(world.ca.clock())
    fresh = world.issue()
    world.signer.before = away
    assert asked(world, remembered).state == "good"
    assert asked(world, ahead).state == "good"
    assert refusal(world.post(world.request(fresh))) == "TRY_LATER"
    assert world.http.get("/health/ready").json() == {"service": "repository", "status": "ready", "ocsp": "no token"}
    world.signer.before = lambda: None
    assert asked(world, fresh).state == "good"
    assert world.http.get("/health/ready").json()["ocsp"] == "ready"


def test_without_the_database_what_is_remembered_is_served_and_lists_too(own_world: OcspWorld) -> None:
    world = own_world
    shop, other = world.issue(), world.issue()
    assert asked(world, shop).state == "good"
    engine = world.ca.engine
    with engine.begin() as db:
        db.execute(text("ALTER TABLE revocations RENAME TO elsewhere"))
    assert asked(world, shop).state == "good"
    assert refusal(world.post(world.request(other))) == "TRY_LATER"
    assert world.http.get("/crls/merchant-ca.crl").status_code == 200
    with engine.begin() as db:
        db.execute(text("ALTER TABLE elsewhere RENAME TO revocations"))
    assert asked(world, other).state == "good"


def test_a_fault_in_looking_for_changes_is_not_the_last_look(
    own_world: OcspWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = own_world
    shop = world.issue()
    assert asked(world, shop).state == "good"
    looks: list[int] = []

    def fault() -> dict[str, int]:
        looks.append(1)
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "epochs", fault)
        until(lambda: len(looks) >= 2)
        assert world.http.get("/health/ready").json()["ocsp"] == "no database"
    world.change(shop, "revoked", "keyCompromise")
    until(lambda: asked(world, shop).state == "revoked")


def test_answers_that_a_fast_clock_made_are_not_given_when_it_is_right_again(own_world: OcspWorld) -> None:
    world = own_world
    shop = world.issue()
    world.ca.clock.forward(timedelta(days=20))
    signed = world.presigner.presign_due(world.ca.clock())
    world.post(world.request(shop))
    world.ca.clock.now -= timedelta(days=20)

    now = world.ca.clock()
    assert asked(world, shop).this_update <= now
    serial, due = format(shop.serial_number, "x"), world.presigner._store.due
    until(lambda: serial not in due("merchant-ca", now, before=now, limit=signed))  # kept once it was given
    assert world.presigner.presign_due(now) == signed - 1
    assert world.presigner.presign_due(world.ca.clock()) == 0


def test_many_answers_are_signed_ahead_and_forgotten_in_portions(
    own_world: OcspWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = own_world
    shops = [world.issue() for _ in range(5)]
    monkeypatch.setattr(ca.ocsp_presign, "_TOGETHER", 2)
    monkeypatch.setattr(ca.ocsp_store, "_AT_ONCE", 2)
    signed = world.presigner.presign_due(world.ca.clock())
    assert signed >= len(shops)
    assert world.store.forget_ended(world.ca.clock()) == 0
    assert world.store.forget_ended(world.ca.clock() + timedelta(days=2)) == signed


def test_what_was_signed_ahead_before_a_restart_stays_and_only_the_rest_is_signed_after_it(
    own_world: OcspWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = own_world
    shops = [world.issue() for _ in range(5)]
    monkeypatch.setattr(ca.ocsp_presign, "_TOGETHER", 2)
    sign, calls = world.ca.keys.batch_sign, itertools.count(1)

    def killed(*arguments: Any, **more: Any) -> BatchAnswer:
        if arguments[0] == "ocsp-merchant-ca" and next(calls) == 2:
            raise KeyboardInterrupt
        return sign(*arguments, **more)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(world.ca.keys, "batch_sign", killed)
        world.presigner.presign_due(world.ca.clock())
    serials, now = [serial_hex(shop.serial_number) for shop in shops], world.ca.clock()
    before = world.store.standing("merchant-ca", serials, now).signed
    assert 0 < len(before) < len(shops)
    restarted = Presigner(OcspStore(world.ca.engine), world.ca.authority.hierarchy, world.ca.keys, world.policy)
    restarted.presign_due(now)

    after = world.store.standing("merchant-ca", serials, now).signed
    assert after.keys() == set(serials)
    assert {serial: after[serial] for serial in before} == before
    assert restarted.presign_due(now) == 0


def test_many_live_questions_share_signatures_calls_and_each_has_its_own_answer(own_world: OcspWorld) -> None:
    world = own_world
    shops = [world.issue() for _ in range(4)]
    wanted = [(shops[n % 4], os.urandom(16)) for n in range(64)]
    world.signer.before = lambda: time.sleep(0.02)  # while the token signs, others come

    def ask(question: tuple[x509.Certificate, bytes]) -> str:
        shop, nonce = question
        return status(world, world.post(world.request(shop, nonce=nonce)), shop, nonce=nonce).state

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, wanted)) == {"good"}
    assert world.signer.calls < len(wanted)


def test_when_too_many_wait_the_rest_is_told_to_try_later(tmp_path: Path, office: Office) -> None:
    few = ocsp_policy().model_copy(update={"waiting": 2, "together": 1})
    with OcspWorld(tmp_path, office, policy=few) as world:
        shop = world.issue()
        world.signer.before = lambda: time.sleep(0.05)  # a slow token holds up the line
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: world.post(world.request(shop, nonce=bytes([n + 1]))), range(32)))
        said = [ocsp.load_der_ocsp_response(answer.content).response_status.name for answer in answers]
        assert set(said) == {"SUCCESSFUL", "TRY_LATER"}
        world.signer.before = lambda: None
        assert asked(world, shop).state == "good"


def test_the_next_certificate_of_a_responder_is_used_from_then_on(own_world: OcspWorld) -> None:
    world = own_world
    shop = world.issue()
    old = asked(world, shop).responder
    key = world.ca.keys.describe_key("ocsp-merchant-ca")
    renewed = world.pki.build(
        subject=old.subject,
        issuer=old.issuer,
        public_key=old.public_key(),  # type: ignore[arg-type]
        issuer_key=world.pki.merchant_ca.credential.key,
        extensions={str(n): (each.value, each.critical) for n, each in enumerate(old.extensions) if n > 1},
        issuer_certificate=world.issuer,
    )
    world.ca.keys.as_caller("ceremony").attach_certificate(
        "ocsp-merchant-ca", [renewed.public_bytes(Encoding.DER), *key.certificate_chain[1:]]
    )
    answer = world.post(world.request(shop, nonce=NONCE))
    assert status(world, answer, shop, nonce=NONCE).responder == renewed


# Judges


@pytest.fixture(scope="module")
def files(world: OcspWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Certificates of a good, a revoked and a held shop and of one that nobody issued, and what judges trust."""
    shops = {"good": world.issue(), "revoked": world.issue(), "held": world.issue()}
    world.change(shops["revoked"], "revoked", "keyCompromise")
    world.change(shops["held"], "held", "certificateHold")
    shops["unknown"] = world.pki.merchant("M-9").certificate
    written: dict[str, tuple[x509.Certificate, ...]] = {
        "root": (world.pki.root.certificate,),
        "issuer": (world.issuer,),
    }
    written["cas"] = (world.pki.brand.certificate, world.issuer)
    found, folder = {}, tmp_path_factory.mktemp("judges")
    for name, certificates in {**{name: (shop,) for name, shop in shops.items()}, **written}.items():
        found[name] = folder / f"{name}.pem"
        found[name].write_bytes(pem(*certificates))
    return found


SAID = {"good": b": good", "revoked": b": revoked", "held": b": revoked", "unknown": b": unknown"}


@pytest.mark.parametrize("nonce", ["-nonce", "-no_nonce"])
@pytest.mark.parametrize("kind", SAID)
def test_openssl_asks_and_believes(world: OcspWorld, files: dict[str, Path], kind: str, nonce: str) -> None:
    done = run(
        "openssl", "ocsp", "-url", f"{world.url}/ocsp", nonce, "-issuer", files["issuer"], "-cert", files[kind],
        "-CAfile", files["root"], "-verify_other", files["cas"], "-timeout", "20", "-resp_text",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"Response verify OK" in done.stderr
    assert f"{kind}.pem".encode() + SAID[kind] in done.stdout
    assert b"WARNING" not in done.stderr  # of a nonce that is missing
    if kind == "held":
        assert b"Reason: certificateHold" in done.stdout


def test_openssl_asks_with_sha_256_and_for_several_at_once(world: OcspWorld, files: dict[str, Path]) -> None:
    done = run(
        "openssl", "ocsp", "-url", f"{world.url}/ocsp", "-issuer", files["issuer"], "-sha256", "-cert", files["good"],
        "-sha256", "-cert", files["revoked"], "-CAfile", files["root"], "-verify_other", files["cas"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"good.pem: good" in done.stdout
    assert b"revoked.pem: revoked" in done.stdout


@pytest.mark.parametrize("nonce", ["--nonce", "--no-nonce"])
@pytest.mark.parametrize("kind", SAID)
def test_gnutls_asks_and_believes(world: OcspWorld, files: dict[str, Path], kind: str, nonce: str) -> None:
    options = [] if nonce == "--no-nonce" else [nonce]
    done = run(
        "ocsptool", f"--ask={world.url}/ocsp", *options, "--load-cert", files[kind], "--load-issuer",
        files["issuer"], "--load-trust", files["issuer"],
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert b"Verifying OCSP Response: Success" in said, said
    assert b"Certificate Status" + SAID[kind] in said


def test_openssl_believes_an_answer_by_get(world: OcspWorld, files: dict[str, Path], tmp_path: Path) -> None:
    good = x509.load_pem_x509_certificate(files["good"].read_bytes())
    model = ocsp.OCSPRequestBuilder().add_certificate(good, world.issuer, hashes.SHA1()).build()  # noqa: S303  # a name
    (tmp_path / "answer").write_bytes(world.http.get(url_of(model.public_bytes(Encoding.DER))).content)
    done = run(
        "openssl", "ocsp", "-respin", tmp_path / "answer", "-issuer", files["issuer"], "-cert", files["good"],
        "-CAfile", files["root"], "-verify_other", files["cas"],
    )  # fmt: skip
    assert b"Response verify OK" in done.stderr
    assert b"good.pem: good" in done.stdout
