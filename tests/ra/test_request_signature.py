"""The form of a signed request (RFC 9421): ours judged by others, theirs by us, everything else refused."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import http_message_signatures as judge
import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from http_message_signatures import algorithms

from ra.errors import RequestSignatureError
from ra.request_signature import Algorithm, Head, content_digest, parse, require_digest, sign
from tests.support.pki_factory import p256, rsa_key

KEY_ID: Final = "ab" * 32
NONCE: Final = "AAECAwQFBgcICQoLDA0ODw"
URL: Final = "https://ra.example:7300/v1/applications/00ff/hold?source=the%20bank&a=%D9%86"
BODY: Final = b'{"reason":"because"}'
KEYS: Final[dict[str, Any]] = {
    "ecdsa-p256-sha256": p256(),
    "ecdsa-p384-sha384": ec.generate_private_key(ec.SECP384R1()),
    "rsa-pss-sha512": rsa_key(0),
}
THEIRS: Final = {
    "ecdsa-p256-sha256": algorithms.ECDSA_P256_SHA256,
    "ecdsa-p384-sha384": algorithms.ECDSA_P384_SHA384,
    "rsa-pss-sha512": algorithms.RSA_PSS_SHA512,
}
HEAD: Final = Head(
    "POST",
    "https",
    "RA.example:443",
    "/v1/applications/00ff/hold",
    "",
    {"content-digest": content_digest(BODY), "content-type": "application/json"},
)
COMPONENTS: Final = ("@method", "@authority", "@path", "@query", "content-digest", "content-type")


def request() -> httpx.Request:
    headers = {"content-type": "application/json", "content-digest": content_digest(BODY)}
    return httpx.Request("POST", URL, content=BODY, headers=headers)


def head_of(message: httpx.Request) -> Head:
    path, _, query = message.url.raw_path.decode().partition("?")
    fields = {name: message.headers[name] for name in ("content-digest", "content-type")}
    return Head("POST", "https", message.headers["host"], path, query, fields)


def made(head: Head = HEAD, algorithm: str = "ecdsa-p256-sha256") -> dict[str, str]:
    return sign(head, KEYS[algorithm], key_id=KEY_ID, created=1_795_413_600, nonce=NONCE)


def resolver(algorithm: str) -> judge.MappingKeyResolver:
    key = KEYS[algorithm]
    return judge.MappingKeyResolver(public_keys={KEY_ID: key.public_key()}, private_keys={KEY_ID: key})


# Judged by another library, and by OpenSSL


@pytest.mark.parametrize("algorithm", KEYS)
def test_what_we_sign_another_library_verifies(algorithm: str) -> None:
    message = request()
    now = int(datetime.now(UTC).timestamp())
    message.headers.update(sign(head_of(message), KEYS[algorithm], key_id=KEY_ID, created=now, nonce=NONCE))
    verifier = judge.HTTPMessageVerifier(signature_algorithm=THEIRS[algorithm], key_resolver=resolver(algorithm))
    (result,) = verifier.verify(message)
    assert (result.parameters["nonce"], result.parameters["tag"]) == (NONCE, "kwbp-ra")
    assert [each.strip('"') for each in result.covered_components if "@signature-params" not in each] == list(
        COMPONENTS
    )
    message.headers["content-type"] = "text/plain"
    with pytest.raises(judge.InvalidSignature):
        verifier.verify(message)


@pytest.mark.parametrize("algorithm", KEYS)
def test_what_another_library_signs_we_verify(algorithm: str) -> None:
    message = request()
    signer = judge.HTTPMessageSigner(signature_algorithm=THEIRS[algorithm], key_resolver=resolver(algorithm))
    signer.sign(
        message,
        key_id=KEY_ID,
        created=datetime(2026, 11, 23, 6, tzinfo=UTC),
        nonce=NONCE,
        tag="kwbp-ra",
        label="other",
        covered_component_ids=COMPONENTS,
        use_existing_digest=True,
    )
    head = head_of(message)
    found = parse(head, [message.headers["signature-input"]], [message.headers["signature"]])
    found.verify(head, KEYS[algorithm].public_key())
    assert (found.key_id, found.nonce, found.created) == (KEY_ID, NONCE, 1_795_413_600)


def test_openssl_verifies_the_signature_over_the_signature_base(tmp_path: Path) -> None:
    headers = made(algorithm="rsa-pss-sha512")
    base = (
        '"@method": POST\n"@authority": ra.example\n"@path": /v1/applications/00ff/hold\n"@query": ?\n'
        f'"content-digest": {content_digest(BODY)}\n"content-type": application/json\n'
        f'"@signature-params": {headers["signature-input"].removeprefix("officer=")}'
    )
    (tmp_path / "base").write_bytes(base.encode())
    (tmp_path / "signature").write_bytes(base64.b64decode(headers["signature"].removeprefix("officer=:").rstrip(":")))
    public = KEYS["rsa-pss-sha512"].public_key()
    (tmp_path / "key.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = ["openssl", "dgst", "-sha512", "-verify", "key.pem", "-signature", "signature"]
    for each in ("rsa_padding_mode:pss", "rsa_pss_saltlen:64", "rsa_mgf1_md:sha512"):
        command += ["-sigopt", each]
    done = subprocess.run([*command, "base"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "Verified OK"), done.stderr


# Read strictly


def test_what_is_signed_is_read_back() -> None:
    headers = made()
    found = parse(HEAD, [headers["signature-input"]], [headers["signature"]])
    found.verify(HEAD, KEYS["ecdsa-p256-sha256"].public_key())
    assert found.components == COMPONENTS


def edited(old: str, new: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return edit


@pytest.mark.parametrize(
    ("edit", "clause"),
    [
        pytest.param(edited(";nonce=", ";nonce ="), "4.1", id="not-serialised"),
        pytest.param(edited('"@path" ', ""), "7.2.1", id="path-not-covered"),
        pytest.param(edited('"@method" ', ""), "7.2.1", id="method-not-covered"),
        pytest.param(edited('"@authority" ', ""), "7.2.1", id="authority-not-covered"),
        pytest.param(edited('"@query" ', ""), "7.2.1", id="query-not-covered"),
        pytest.param(edited('"content-digest" ', ""), "7.2.1", id="content-digest-not-covered"),
        pytest.param(edited(' "content-type"', ""), "7.2.1", id="content-type-not-covered"),
        pytest.param(edited('"@path" ', '"@path" "@path" '), "2.5", id="component-twice"),
        pytest.param(edited('"@path" ', '"@path" "x-other" '), "7.2.1", id="component-of-no-meaning"),
        pytest.param(edited('"content-digest"', '"content-digest";sf'), "4.1", id="component-with-a-parameter"),
        pytest.param(edited("officer=(", "officer=( "), "4.1", id="blank"),
        pytest.param(edited(f';nonce="{NONCE}"', ""), "4.1", id="no-nonce"),
        pytest.param(edited(NONCE, "short"), "4.1", id="short-nonce"),
        pytest.param(edited(f';nonce="{NONCE}"', ";created=1795413600"), "4.1", id="created-twice"),
        pytest.param(edited(";created=1795413600", ""), "4.1", id="no-created"),
        pytest.param(edited("created=1795413600", 'created="1795413600"'), "4.1", id="created-is-text"),
        pytest.param(edited("created=1795413600", "created=-1"), "4.1", id="created-is-negative"),
        pytest.param(edited(';tag="kwbp-ra"', ""), "4.1", id="no-tag"),
        pytest.param(edited('tag="kwbp-ra"', 'tag="kwbp-hsm"'), "7.2.8", id="for-another-use"),
        pytest.param(edited(KEY_ID, KEY_ID.upper()), "4.1", id="key-id-in-capitals"),
        pytest.param(edited('alg="ecdsa-p256-sha256"', 'alg="hmac-sha256"'), "7.3.6", id="algorithm-not-in-the-list"),
        pytest.param(edited('alg="ecdsa-p256-sha256"', 'alg="rsa-v1_5-sha256"'), "7.3.6", id="algorithm-of-old"),
        pytest.param(edited('alg="ecdsa-p256-sha256"', 'alg="none"'), "7.3.6", id="no-algorithm"),
        pytest.param(edited(";tag=", ";expires=1795413700;tag="), "4.1", id="one-more-parameter"),
        pytest.param(edited(';tag="kwbp-ra"', ";expires=1795413700"), "4.1", id="another-parameter"),
        pytest.param(lambda text: f"{text}, two={text.removeprefix('officer=')}", "4.1", id="two-signatures"),
        pytest.param(lambda _text: "", "4.1", id="empty"),
        pytest.param(lambda text: text.replace("officer=", "other="), "4.2", id="another-label"),
    ],
)
def test_a_signature_input_with_one_thing_wrong_is_refused(edit: Callable[[str], str], clause: str) -> None:
    headers = made()
    with pytest.raises(RequestSignatureError) as refused:
        parse(HEAD, [edit(headers["signature-input"])], [headers["signature"]])
    assert refused.value.clause == f"RFC 9421 {clause}"


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda text: text.rstrip(":"), id="cut"),
        pytest.param(lambda text: text.replace("=:", "=", 1), id="no-bytes"),
        pytest.param(lambda text: text + ", two=:AAAA:", id="two"),
        pytest.param(lambda text: text[:-2] + "B=:", id="base64-of-another-spelling"),
        pytest.param(lambda text: "officer=:AAAAA:", id="no-base64"),
    ],
)
def test_a_signature_of_another_form_is_refused(edit: Callable[[str], str]) -> None:
    headers = made()
    with pytest.raises(RequestSignatureError) as refused:
        parse(HEAD, [headers["signature-input"]], [edit(headers["signature"])])
    assert refused.value.clause == "RFC 9421 4.2"


@pytest.mark.parametrize(("inputs", "signatures"), [(0, 1), (1, 0), (2, 1), (1, 2), (2, 2)])
def test_a_request_has_one_signature(inputs: int, signatures: int) -> None:
    headers = made()
    with pytest.raises(RequestSignatureError, match="one Signature and one Signature-Input"):
        parse(HEAD, [headers["signature-input"]] * inputs, [headers["signature"]] * signatures)


def test_a_signature_of_another_key_or_of_another_kind_of_key_is_refused() -> None:
    headers = made()
    found = parse(HEAD, [headers["signature-input"]], [headers["signature"]])
    with pytest.raises(RequestSignatureError, match="does not verify"):
        found.verify(HEAD, p256().public_key())
    for algorithm in ("ecdsa-p384-sha384", "rsa-pss-sha512"):
        with pytest.raises(RequestSignatureError, match="not the one of the officer's key"):
            found.verify(HEAD, KEYS[algorithm].public_key())


def test_a_signature_in_der_or_of_another_length_is_refused() -> None:
    key = KEYS["ecdsa-p256-sha256"]
    headers = made()
    found = parse(HEAD, [headers["signature-input"]], [headers["signature"]])
    for raw in (key.sign(found.base(HEAD), ec.ECDSA(hashes.SHA256())), found.signature + b"\0", b"\0" * 64):
        wrong = f"officer=:{base64.b64encode(raw).decode()}:"
        with pytest.raises(RequestSignatureError, match="does not verify"):
            parse(HEAD, [headers["signature-input"]], [wrong]).verify(HEAD, key.public_key())


def test_keys_that_no_officer_has_have_no_algorithm() -> None:
    for key in (
        ed25519.Ed25519PrivateKey.generate().public_key(),
        ec.generate_private_key(ec.SECP521R1()).public_key(),
    ):
        with pytest.raises(RequestSignatureError, match="RSA, P-256 or P-384"):
            Algorithm.for_key(key)
    assert {Algorithm.for_key(key.public_key()).value for key in KEYS.values()} == set(KEYS)


def test_a_component_that_the_request_does_not_have_is_refused() -> None:
    headers = made()
    bare = Head(HEAD.method, HEAD.scheme, HEAD.host, HEAD.path, HEAD.query, {"content-digest": content_digest(BODY)})
    found = parse(bare, [headers["signature-input"]], [headers["signature"]])
    with pytest.raises(RequestSignatureError, match="covers content-type, which"):
        found.verify(bare, KEYS["ecdsa-p256-sha256"].public_key())


def test_what_is_signed_is_ascii() -> None:
    with pytest.raises(RequestSignatureError, match="ASCII"):
        made(Head("GET", "https", "ra.example", "/v1/é", "", {}))


def test_a_get_without_a_body_needs_no_digest_and_with_one_it_does() -> None:
    get = Head("GET", "https", "ra.example", "/v1/reviews", "", {})
    assert get.needed == ("@method", "@authority", "@path", "@query")
    require_digest(get, b"")
    with pytest.raises(RequestSignatureError, match="not the one that Content-Digest"):
        require_digest(get, b"x")


@pytest.mark.parametrize(
    "stated",
    [
        "sha-256=:AAAA:",
        content_digest(BODY) + ", sha-512=:AAAA:",
        content_digest(BODY).replace("sha-256", "sha-512"),
        content_digest(BODY + b" "),
    ],
)
def test_the_digest_is_of_the_body_and_alone(stated: str) -> None:
    head = Head("POST", "https", "ra.example", "/", "", {"content-digest": stated})
    with pytest.raises(RequestSignatureError) as refused:
        require_digest(head, BODY)
    assert refused.value.clause == "RFC 9530 2"
