"""The one form of HTTP message signature that the registration authority takes (RFC 9421): bytes in, bytes out.

    Content-Digest: sha-256=:…:                                                                      (RFC 9530)
    Signature-Input: officer=("@method" "@authority" "@path" "@query" "content-digest" "content-type");
                     created=1795413600;nonce="…";keyid="…";alg="ecdsa-p256-sha256";tag="kwbp-ra"    (one line)
    Signature: officer=:…:

It is for officers whose key is in a token, which does not speak TLS: the token signs the request instead. A request has
one signature. All five parameters are there, in any order; `keyid` is the SHA-256 of the officer's certificate, and the
algorithm is the one of its key. The components are those above: `content-digest` in whatever is not a GET, also of no
body at all; `content-type` where there is one. Everything else is refused, so that nothing is signed that nobody reads.

RFC 9421 leaves all this to the application (1.4). What is general in it, and libraries offer (labels, `sf`, `bs`,
trailers, responses), would be so many ways to read one message as two.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ra.errors import RequestSignatureError

SIGNATURE: Final = "signature"
SIGNATURE_INPUT: Final = "signature-input"
CONTENT_DIGEST: Final = "content-digest"
CONTENT_TYPE: Final = "content-type"
TAG: Final = "kwbp-ra"
"""What such a signature is for; one that is for something else is not read as one of these (RFC 9421 7.2.8)."""
LABEL: Final = "officer"

_DERIVED: Final = ("@method", "@authority", "@path", "@query")
_FIELDS: Final = (CONTENT_DIGEST, CONTENT_TYPE)
_COMPONENTS: Final = frozenset({*_DERIVED, *_FIELDS})
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD"})
_DEFAULT_PORTS: Final = {"https": ":443", "http": ":80"}

_INPUT: Final = re.compile(
    r'([a-z*][a-z0-9_.*-]{0,31})=(\(("[a-z@-]{1,32}"(?: "[a-z@-]{1,32}")*)\)((?:;[^;]{1,90}){5}))'
)
_SIGNATURE: Final = re.compile(r"([a-z*][a-z0-9_.*-]{0,31})=:([A-Za-z0-9+/]{4,1366}={0,2}):")
_DIGEST: Final = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")
_PARAMETERS: Final = {
    "created": re.compile(r"([0-9]{1,15})"),
    "nonce": re.compile(r'"([A-Za-z0-9_-]{22,64})"'),
    "keyid": re.compile(r'"([0-9a-f]{64})"'),
    "alg": re.compile(r'"([a-z0-9_-]{1,32})"'),
    "tag": re.compile(r'"([a-z0-9-]{1,32})"'),
}

_INPUT_CLAUSE: Final = "RFC 9421 4.1"
_SIGNATURE_CLAUSE: Final = "RFC 9421 4.2"
_VERIFY_CLAUSE: Final = "RFC 9421 3.2"
_BASE_CLAUSE: Final = "RFC 9421 2.5"
_COVERAGE_CLAUSE: Final = "RFC 9421 7.2.1"
_ALGORITHM_CLAUSE: Final = "RFC 9421 7.3.6"
_DIGEST_CLAUSE: Final = "RFC 9530 2"

SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
VerifyingKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class Algorithm(StrEnum):
    """The closed list, by the names of RFC 9421 6.2.2."""

    ECDSA_P256_SHA256 = "ecdsa-p256-sha256"
    ECDSA_P384_SHA384 = "ecdsa-p384-sha384"
    RSA_PSS_SHA512 = "rsa-pss-sha512"

    @classmethod
    def for_key(cls, key: PublicKeyTypes) -> Algorithm:
        """The one algorithm of a key. Raises RequestSignatureError if it has none."""
        if isinstance(key, rsa.RSAPublicKey):
            return cls.RSA_PSS_SHA512
        if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _OF_CURVE:
            return _OF_CURVE[key.curve.name]
        raise RequestSignatureError("requests are signed with RSA, P-256 or P-384", clause=_ALGORITHM_CLAUSE)


_OF_CURVE: Final = {"secp256r1": Algorithm.ECDSA_P256_SHA256, "secp384r1": Algorithm.ECDSA_P384_SHA384}
_ECDSA: Final[Mapping[Algorithm, tuple[hashes.HashAlgorithm, int]]] = {
    Algorithm.ECDSA_P256_SHA256: (hashes.SHA256(), 32),
    Algorithm.ECDSA_P384_SHA384: (hashes.SHA384(), 48),
}
"""Hash, and bytes of each of r and s (RFC 9421 3.3.4, 3.3.5)."""
_PSS: Final = PSS(MGF1(hashes.SHA512()), 64)  # RFC 9421 3.3.1


@dataclass(frozen=True, slots=True)
class Head:
    """What of a request is signed: `path` and `query` as they travel (`query` without its question mark).

    `fields` are the values of Content-Digest and Content-Type, by their names in small letters, where they are there.
    """

    method: str
    scheme: str
    host: str
    path: str
    query: str
    fields: Mapping[str, str]

    def value(self, component: str) -> str:
        """The value of a component (RFC 9421 2.1, 2.2). Raises RequestSignatureError if the message has none."""
        match component:
            case "@method":
                return self.method
            case "@authority":
                return self.host.lower().removesuffix(_DEFAULT_PORTS.get(self.scheme, ""))
            case "@path":
                return self.path or "/"
            case "@query":
                return f"?{self.query}"
        if component not in self.fields:
            raise RequestSignatureError(
                "the signature covers {component}, which the request does not have",
                component=component,
                clause=_BASE_CLAUSE,
            )
        return self.fields[component]

    @property
    def needed(self) -> tuple[str, ...]:
        """The components that a signature over this request covers."""
        fields = [CONTENT_DIGEST] if self.method not in _WITHOUT_BODY or CONTENT_DIGEST in self.fields else []
        fields += [CONTENT_TYPE] if CONTENT_TYPE in self.fields else []
        return (*_DERIVED, *fields)


@dataclass(frozen=True, slots=True)
class RequestSignature:
    """A signature as it came; `parameters` is the value of @signature-params, byte for byte."""

    components: tuple[str, ...]
    parameters: str
    created: int
    nonce: str
    key_id: str
    algorithm: Algorithm
    signature: bytes

    def base(self, head: Head) -> bytes:
        """The signature base (RFC 9421 2.5)."""
        return _base(head, self.components, self.parameters)

    def verify(self, head: Head, key: PublicKeyTypes) -> None:
        """Raises RequestSignatureError unless the signature is this key's, by its algorithm, over this request."""
        if Algorithm.for_key(key) is not self.algorithm:
            raise RequestSignatureError(
                "the algorithm {name} is not the one of the officer's key",
                name=self.algorithm.value,
                clause=_ALGORITHM_CLAUSE,
            )
        try:
            _verify(key, self.algorithm, self.signature, self.base(head))
        except InvalidSignature:
            raise RequestSignatureError(
                "the signature does not verify over this request", clause=_VERIFY_CLAUSE
            ) from None


def parse(head: Head, inputs: Sequence[str], signatures: Sequence[str]) -> RequestSignature:
    """The signature in the header lines Signature-Input and Signature; it covers of `head` what is to be covered.

    Nothing is verified yet. Raises RequestSignatureError.
    """
    if len(inputs) != 1 or len(signatures) != 1:
        raise RequestSignatureError("a request has one Signature and one Signature-Input", clause=_VERIFY_CLAUSE)
    stated, signed = _INPUT.fullmatch(inputs[0]), _SIGNATURE.fullmatch(signatures[0])
    if stated is None:
        raise RequestSignatureError("Signature-Input is not one signature of the form expected", clause=_INPUT_CLAUSE)
    if signed is None or signed[1] != stated[1]:
        raise RequestSignatureError("Signature is not the one of Signature-Input", clause=_SIGNATURE_CLAUSE)
    components = tuple(each.strip('"') for each in stated[3].split(" "))
    _require_coverage(components, head)
    values = _parameters(stated[4])
    if values["tag"] != TAG:
        raise RequestSignatureError(
            "the signature is for another use: {tag}", tag=values["tag"], clause="RFC 9421 7.2.8"
        )
    algorithm = next((each for each in Algorithm if each.value == values["alg"]), None)
    if algorithm is None:
        raise RequestSignatureError("no algorithm {name} is taken here", name=values["alg"], clause=_ALGORITHM_CLAUSE)
    return RequestSignature(
        components=components,
        parameters=stated[2],
        created=int(values["created"]),
        nonce=values["nonce"],
        key_id=values["keyid"],
        algorithm=algorithm,
        signature=_bytes(signed[2]),
    )


def sign(head: Head, key: SigningKey, *, key_id: str, created: int, nonce: str) -> dict[str, str]:
    """Signature-Input and Signature of a request. `created` is in seconds since 1970, `nonce` 128 bits in base64url."""
    algorithm = Algorithm.for_key(key.public_key())
    components = head.needed
    listed = " ".join(f'"{each}"' for each in components)
    parameters = f'({listed});created={created};nonce="{nonce}";keyid="{key_id}";alg="{algorithm.value}";tag="{TAG}"'
    signature = _sign(key, algorithm, _base(head, components, parameters))
    return {
        SIGNATURE_INPUT: f"{LABEL}={parameters}",
        SIGNATURE: f"{LABEL}=:{base64.b64encode(signature).decode()}:",
    }


def content_digest(body: bytes) -> str:
    """The value of Content-Digest (RFC 9530 2)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def require_digest(head: Head, body: bytes | None) -> None:
    """Raises RequestSignatureError unless Content-Digest is of `body`; None: its form alone is looked at."""
    stated = head.fields.get(CONTENT_DIGEST)
    if stated is not None and _DIGEST.fullmatch(stated) is None:
        raise RequestSignatureError("Content-Digest is not sha-256=:…: alone", clause=_DIGEST_CLAUSE)
    if body is not None and stated != content_digest(body) and (body or stated is not None):
        raise RequestSignatureError("the body is not the one that Content-Digest is of", clause=_DIGEST_CLAUSE)


def _require_coverage(components: Sequence[str], head: Head) -> None:
    if len(set(components)) != len(components):
        raise RequestSignatureError("the signature names a component twice", clause=_BASE_CLAUSE)
    for each in components:
        if each not in _COMPONENTS:
            raise RequestSignatureError(
                "no component {component} is signed here", component=each, clause=_COVERAGE_CLAUSE
            )
    for each in head.needed:
        if each not in components:
            raise RequestSignatureError(
                "the signature does not cover {component}", component=each, clause=_COVERAGE_CLAUSE
            )


def _parameters(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for each in text[1:].split(";"):
        name, _, value = each.partition("=")
        found = _PARAMETERS[name].fullmatch(value) if name in _PARAMETERS else None
        if found is None or name in values:
            raise RequestSignatureError(
                "{parameter} is no parameter of such a signature", parameter=name, clause=_INPUT_CLAUSE
            )
        values[name] = found[1]
    return values  # five of five names, each once: all of them


def _base(head: Head, components: Sequence[str], parameters: str) -> bytes:
    lines = [f'"{each}": {head.value(each)}' for each in components]
    text = "\n".join((*lines, f'"@signature-params": {parameters}'))
    if not text.isascii():
        raise RequestSignatureError("what is signed of a request is ASCII", clause=_BASE_CLAUSE)
    return text.encode("ascii")


def _bytes(text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except binascii.Error:
        found = b""
    if base64.b64encode(found).decode() != text:
        raise RequestSignatureError("the signature is not base64 in its one spelling", clause=_SIGNATURE_CLAUSE)
    return found


def _sign(key: SigningKey, algorithm: Algorithm, content: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(content, _PSS, hashes.SHA512())
    digest, size = _ECDSA[algorithm]
    r, s = decode_dss_signature(key.sign(content, ec.ECDSA(digest)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _verify(key: PublicKeyTypes, algorithm: Algorithm, signature: bytes, content: bytes) -> None:
    """Raises InvalidSignature."""
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, content, _PSS, hashes.SHA512())
        return
    assert isinstance(key, ec.EllipticCurvePublicKey)  # the algorithm is the key's
    digest, size = _ECDSA[algorithm]
    if len(signature) != 2 * size:
        raise InvalidSignature
    r, s = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
    key.verify(encode_dss_signature(r, s), content, ec.ECDSA(digest))
