"""An officer's own token: a key made in it or brought by a card, named by a PKCS#11 URI, signing decisions."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.serialization import Encoding
from http_message_signatures import HTTPMessageVerifier, MappingKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256, RSA_PSS_SHA512
from pkcs11 import Attribute, CertificateType, KeyType, ObjectClass

from cps.decide import decide
from cps.decision import Choice
from hsm_service.errors import BadInput, KeyExists, KeyMisused, KeyNotFound, PinRefused, TokenNotFound, WeakKey
from hsm_service.keys import Usage
from hsm_service.officer_token import EC, RSA, OfficerToken, open_officer_token
from hsm_service.officer_token_place import OfficerTokenPlace
from hsm_service.remote_key import RemoteRsaPrivateKey
from hsm_service.token_layout import configuration_of, layout, pin_file
from hsm_service.token_uri import TokenUri, TokenUriError
from pki.extensions import OfficerData
from pki.names import identity_uri, name
from pki.roles import Role
from ra.officer import Officer, draft_decision, officer_of
from ra.request_signature import Head, sign
from runtime.secrets import Secret, read_secret
from runtime.settings import Home
from tests.support.cps_cases import Office
from tests.support.pki_factory import NOW, rsa_key
from tests.support.softhsm import provisioned_home, raw_session, weak_rsa_key

LABEL = "merchants"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return provisioned_home(tmp_path_factory.mktemp("officer"))


@pytest.fixture(scope="module")
def office() -> Office:
    return Office()


def place(home: Home, uri: str = f"pkcs11:token={LABEL}") -> OfficerTokenPlace:
    return OfficerTokenPlace.parse(uri, configuration_of(home, layout().group_of(LABEL)))


@pytest.fixture
def token(home: Home) -> Iterator[OfficerToken]:
    with open_officer_token(place(home), lambda: read_secret(pin_file(home, LABEL))) as token:
        yield token


def officer(office: Office, token: OfficerToken, label: str, algorithm: str) -> Officer:
    """An officer whose key was made in the token, and certified."""
    ref = token.make(label, algorithm)
    key = token.key(place_of(ref.label))
    data = OfficerData(label, "RA", ("vetting_officer",))
    credential = office.pki.leaf(
        Role.OFFICER,
        subject=name(cn=label, o="RA"),
        uris=[identity_uri("officer", label)],
        own=[data.to_extension()],
        issuer=office.pki.operations_ca,
        key=key,
    )
    return officer_of(credential.certificate, credential.chain, key)


def place_of(label: str) -> TokenUri:
    return OfficerTokenPlace.parse(f"pkcs11:object={label}").uri


@pytest.mark.parametrize("algorithm", [RSA, EC])
def test_a_request_signed_in_the_token_is_verified_by_another_library(token: OfficerToken, algorithm: str) -> None:
    """RFC 9421 3.3.1 and 3.3.4: RSASSA-PSS with SHA-512, and ECDSA as r and s."""
    key = token.key(place_of(token.make(f"requests-{algorithm}", algorithm).label))
    message = httpx.Request("GET", "https://ra.example/v1/reviews")
    head = Head("GET", "https", "ra.example", "/v1/reviews", "", {})
    at = int(datetime.now(UTC).timestamp())
    message.headers.update(sign(head, key, key_id="ab" * 32, created=at, nonce="n" * 22))
    verifier = HTTPMessageVerifier(
        signature_algorithm=RSA_PSS_SHA512 if algorithm == RSA else ECDSA_P256_SHA256,
        key_resolver=MappingKeyResolver(public_keys={"ab" * 32: key.public_key()}, private_keys={}),
    )
    (result,) = verifier.verify(message)
    assert result.parameters["nonce"] == "n" * 22


def test_a_service_signs_no_requests() -> None:
    """PSS with SHA-512 is for officers' own tokens: the HSM service and its keys know SHA-256 alone."""
    remote = RemoteRsaPrivateKey(rsa_key(0).public_key(), None, "elsewhere")  # type: ignore[arg-type]  # never asked
    with pytest.raises(UnsupportedAlgorithm, match="SHA-256"):
        remote.sign(b"data", PSS(MGF1(hashes.SHA512()), 64), hashes.SHA512())


@pytest.mark.parametrize("algorithm", [RSA, EC])
def test_a_decision_signed_in_the_token_counts_and_openssl_verifies_it(
    office: Office, token: OfficerToken, tmp_path: Path, algorithm: str
) -> None:
    dossier = office.merchant_case()
    draft = draft_decision(dossier, "vet", Choice.APPROVE, pack=office.pack, now=NOW)
    who = officer(office, token, f"signer-{algorithm}", algorithm)
    signed = who.sign(draft, now=NOW)
    verdict = decide(dossier.with_decision(signed), office.pack, trust=office.pki.trust(), now=NOW)
    assert [(given.step, given.person) for given in verdict.approvals] == [("vet", f"signer-{algorithm}")]
    (tmp_path / "decision.p7s").write_bytes(signed)
    office.pki.write(tmp_path)
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", str(tmp_path / "decision.p7s")]
    judged = [*command, "-CAfile", str(tmp_path / "root.pem"), "-purpose", "any", "-attime", str(int(NOW.timestamp()))]
    out = subprocess.run([*judged, "-out", str(tmp_path / "content.der")], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert (tmp_path / "content.der").read_bytes() == draft.content


@pytest.mark.parametrize(("algorithm", "kind"), [(RSA, rsa.RSAPublicKey), (EC, ec.EllipticCurvePublicKey)])
def test_the_request_proves_possession_by_the_key_in_the_token(token: OfficerToken, algorithm: str, kind: type) -> None:
    token.make(f"request-{algorithm}", algorithm)
    key = token.key(place_of(f"request-{algorithm}"))
    request = x509.CertificateSigningRequestBuilder().subject_name(name(cn="officer")).sign(key, hashes.SHA256())
    assert request.is_signature_valid
    assert isinstance(request.public_key(), kind)


def test_a_key_that_is_made_cannot_leave_and_is_made_once(token: OfficerToken) -> None:
    ref = token.make("once", EC)
    attributes = token.attributes(ref)
    assert (attributes.never_extractable, attributes.local, attributes.usages) == (True, True, frozenset({"sign"}))
    with pytest.raises(KeyExists, match="once"):
        token.make("once", EC)
    with pytest.raises(BadInput, match="not ec-p384"):
        token.make("other", "ec-p384")


def test_a_card_is_believed_less_about_the_past_of_its_keys_but_none_may_leave(token: OfficerToken) -> None:
    usable = weak_rsa_key(token, "from-the-maker", DECRYPT=True)
    assert token.named(place_of("from-the-maker")) == usable
    weak_rsa_key(token, "leaves", EXTRACTABLE=True)
    with pytest.raises(WeakKey, match="EXTRACTABLE=true"):
        token.named(place_of("leaves"))
    weak_rsa_key(token, "open", SENSITIVE=False)
    with pytest.raises(WeakKey, match="SENSITIVE=false"):
        token.named(place_of("open"))
    with pytest.raises(WeakKey, match="not for officers"):
        token.require_sound(usable, Usage.OPEN)


def test_what_is_named_is_found_or_refused(token: OfficerToken) -> None:
    with pytest.raises(KeyNotFound):
        token.named(place_of("nobody"))
    raw_session(token).generate_key(KeyType.AES, 256, id=b"\x07", label="secret", store=True)
    with pytest.raises(KeyMisused, match="signs nothing"):
        token.named(place_of("secret"))
    with pytest.raises(KeyMisused, match="expected one"):
        token.named(OfficerTokenPlace.parse("pkcs11:").uri)
    ref = token.make("precise", EC)
    there = OfficerTokenPlace.parse(f"pkcs11:token={LABEL}").naming(token=LABEL, label=ref.label, cka_id=ref.cka_id)
    assert token.named(there.uri) == ref
    assert OfficerTokenPlace.parse(str(there.uri)) == there


def test_the_certificate_lies_beside_the_key(office: Office, token: OfficerToken) -> None:
    who = officer(office, token, "carrier", EC)
    ref = token.named(place_of("carrier"))
    assert token.certificate(ref) is None
    token.store_certificate(ref, who.certificate)
    assert token.certificate(ref) == who.certificate
    renewed = office.pki.officer("carrier", key=who.key).certificate
    token.store_certificate(ref, renewed)
    assert token.certificate(ref) == renewed
    with pytest.raises(KeyMisused, match="not one of 'carrier'"):
        token.store_certificate(ref, office.vetter.certificate)


def test_a_certificate_of_another_key_or_none_at_all_is_passed_over(office: Office, token: OfficerToken) -> None:
    ref = token.make("mislabelled", EC)
    for der in (b"no certificate", office.vetter.certificate.public_bytes(Encoding.DER)):
        raw_session(token).create_object(
            {
                Attribute.CLASS: ObjectClass.CERTIFICATE,
                Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
                Attribute.TOKEN: True,
                Attribute.ID: ref.cka_id,
                Attribute.SUBJECT: name(cn="somebody").public_bytes(),
                Attribute.VALUE: der,
            }
        )
    assert token.certificate(ref) is None


# The place


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("pkcs11:token=a?pin-value=1234", "pin-value is refused"),
        ("pkcs11:model=b", "cannot be held to"),
        ("pkcs11:token=a?module-name=softhsm", "cannot be held to"),
        ("pkcs11:token=a;type=cert", "type is not private"),
        ("file:/key", "begins with"),
    ],
)
def test_a_uri_that_cannot_be_kept_is_refused(uri: str, why: str) -> None:
    with pytest.raises(TokenUriError, match=why) as refused:
        OfficerTokenPlace.parse(uri)
    assert "1234" not in str(refused.value)


def test_a_wrong_pin_is_tried_once(home: Home) -> None:
    asked = []

    def wrong() -> Secret:
        asked.append(1)
        return Secret(b"00000000")

    with pytest.raises(PinRefused):
        open_officer_token(place(home), wrong)
    assert asked == [1]


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("pkcs11:", "names no token"),
        ("pkcs11:token=nowhere", "labelled 'nowhere'"),
        (f"pkcs11:token={LABEL};serial=0000", "another serial number"),
        (f"pkcs11:token={LABEL}?module-path=/none/pkcs11.so", "no PKCS#11 module"),
    ],
)
def test_the_pin_is_not_asked_for_before_the_token_is_found(home: Home, uri: str, why: str) -> None:
    def pin() -> Secret:
        raise AssertionError("asked")

    with pytest.raises(TokenNotFound, match=why):
        open_officer_token(place(home, uri), pin)
