"""A signing service without a token: real keys and signatures in memory, under the product's own key templates.

It stands where `hsm_service` stands (`SigningService`: Vault or HsmClient) in tests of parts that only need signatures.
Like the real one it knows callers, templates and typed purposes; unlike it, it keeps keys in memory and no journal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from hsm_service.judging import SigningKey
from hsm_service.service import Basis, KeyInfo, SignKind
from hsm_service.templates import Operation, built_in
from hsm_service.typed_certificate import check_certificate
from hsm_service.typed_ocsp import assemble_ocsp, check_ocsp
from hsm_service.typed_renewal import check_renewal
from hsm_service.wire import BatchAnswer, BatchItem, BatchResult
from pki.attestation import KeyAttestation
from pki.builder import assemble_certificate, assemble_crl
from pki.cms_signed import sign
from pki.keys import spki_der, spki_sha256
from pki.names import parse_name
from pki.oids import CT_KEY_ATTESTATION
from runtime.problems import Problem

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

IN_TOKEN = {
    "sensitive": True,
    "always_sensitive": True,
    "never_extractable": True,
    "local": True,
    "extractable": False,
    "private": True,
}

FAST: Mapping[str, str] = {"rsa-3072": "ec-p256"}
"""Elliptic curves where a profile allows them: a hierarchy in a second instead of ten. The root stays RSA-4096."""


@dataclass
class _Key:
    private: PrivateKey
    info: KeyInfo
    chain: list[x509.Certificate] = field(default_factory=list)


def generate(algorithm: str) -> PrivateKey:
    """A key of an algorithm of the key templates."""
    match algorithm:
        case "rsa-3072" | "rsa-4096":
            return rsa.generate_private_key(65537, int(algorithm.removeprefix("rsa-")))
        case "ec-p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ec-p384":
            return ec.generate_private_key(ec.SECP384R1())
    raise ValueError(f"no key pairs of {algorithm}")


class SoftwareSigning:
    """Keys by name; `caller` is who asks (`as_caller` gives another view of the same keys)."""

    def __init__(
        self,
        caller: str = "ceremony",
        *,
        algorithms: Mapping[str, str] = FAST,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        make: Callable[[str], PrivateKey] = generate,
    ) -> None:
        self.caller = caller
        self.clock = clock
        self._algorithms = algorithms
        self._make = make
        self._keys: dict[str, _Key] = {}
        self._lock = threading.RLock()

    def as_caller(self, caller: str) -> SoftwareSigning:
        """The same keys, asked by somebody else."""
        view = SoftwareSigning(caller, algorithms=self._algorithms, clock=self.clock, make=self._make)
        view._keys, view._lock = self._keys, self._lock
        return view

    def copy(self) -> SoftwareSigning:
        """The same keys under a custody of their own: what happens to them here does not happen there."""
        other = SoftwareSigning(self.caller, algorithms=self._algorithms, clock=self.clock, make=self._make)
        other._keys = {name: replace(key) for name, key in self._keys.items()}
        return other

    def generate_key(self, name: str, template: str, *, owner: str | None = None) -> KeyInfo:
        found = built_in().get(template)
        if found is None or not found.is_pair:
            raise Problem(422, "unknown-template", f"there is no key pair template {template}")
        if not found.permits(self.caller, Operation.GENERATE, owner):
            raise Problem(403, "caller-not-allowed", f"{self.caller} may not make {template} keys")
        with self._lock:
            if name in self._keys:
                raise Problem(409, "key-exists", f"there is a key {name}")
            algorithm = self._algorithms.get(found.algorithm, found.algorithm)
            private = self._make(algorithm)
            info = KeyInfo(
                name=name,
                version=1,
                template=template,
                purpose=found.purpose,
                algorithm=algorithm,
                token=found.token,
                owner=owner,
                state="ENABLED",
                created=self.clock().isoformat(),
                public_key=spki_der(private.public_key()),
                attributes=dict(IN_TOKEN),
                uses=0,
                content_types=found.content_type_oids,
                callers=found.callers,
                certificate_chain=(),
            )
            self._keys[name] = _Key(private, info)
        return info

    def adopt(self, name: str, template: str, private: PrivateKey, chain: Sequence[x509.Certificate]) -> None:
        """Put in a key that exists already, with its certificate chain (its own first, without the root)."""
        make, caller = self._make, self.caller
        self._make, self.caller = (lambda _algorithm: private), "ceremony"
        try:
            self.generate_key(name, template)
            self.attach_certificate(name, [certificate.public_bytes(Encoding.DER) for certificate in chain])
        finally:
            self._make, self.caller = make, caller

    def take_back_key(self, name: str) -> None:
        with self._lock:
            del self._keys[name]

    def disable_key(self, name: str, version: int) -> KeyInfo:
        return self._become(name, "DISABLED")

    def schedule_destruction(self, name: str, version: int, at: datetime) -> KeyInfo:
        return self._become(name, "DESTROY_SCHEDULED", destroy_at=at.isoformat())

    def destroy_due(self) -> None:
        for name, key in self._keys.items():
            due = key.info.destroy_at
            if due is not None and datetime.fromisoformat(due) <= self.clock():
                self._become(name, "DESTROYED", destroy_at=None)

    def restore_key(self, backup: bytes, *, recipient: str, replaces: bool = False) -> KeyInfo:
        raise Problem(422, "bad-backup", "keys in memory have no backups")

    def _become(self, name: str, state: str, **changes: Any) -> KeyInfo:
        with self._lock:
            key = self._keys[name]
            key.info = msgspec.structs.replace(key.info, state=state, **changes)
            return key.info

    def describe_key(self, name: str) -> KeyInfo:
        return self._key(name, Operation.DESCRIBE).info

    def list_versions(self, name: str) -> list[KeyInfo]:
        return [self.describe_key(name)]

    def list_keys(self) -> list[KeyInfo]:
        return [key.info for key in self._keys.values()]

    def certification_request(
        self, name: str, subject: bytes, san_uris: Sequence[str] = (), version: int | None = None
    ) -> bytes:
        assert version in {None, 1}, "keys in memory have one version"
        key = self._use(name, Operation.REQUEST)
        builder = x509.CertificateSigningRequestBuilder().subject_name(parse_name(subject))
        if san_uris:
            uris = [x509.UniformResourceIdentifier(uri) for uri in san_uris]
            builder = builder.add_extension(x509.SubjectAlternativeName(uris), critical=False)
        return builder.sign(key.private, hashes.SHA256()).public_bytes(Encoding.DER)

    def attach_certificate(self, name: str, chain: Sequence[bytes]) -> None:
        key = self._key(name, Operation.ATTACH)
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        if spki_der(certificates[0].public_key()) != key.info.public_key:
            raise Problem(422, "foreign-certificate", "the certificate is for another key")
        key.chain = certificates
        key.info = msgspec.structs.replace(key.info, certificate_chain=tuple(chain))

    def sign_certificate(self, name: str, tbs: bytes, basis: Basis | None = None) -> bytes:
        key = self._use(name, Operation.CERTIFICATE)
        if basis is None and self.caller != "ceremony":
            pair = SigningKey(name, 1, built_in()[key.info.template], key.private.public_key(), tuple(key.chain))
            order = check_certificate(tbs, pair)
            check_renewal(order, self._held(spki_der(order.certificate.public_key())), now=self.clock())
        return assemble_certificate(tbs, raw_signature(key.private, tbs), key.private.public_key())

    def sign_certificates(
        self, name: str, items: Sequence[tuple[bytes, bytes]], crls: Sequence[bytes]
    ) -> list[bytes | Problem]:
        answers: list[bytes | Problem] = []
        for tbs, dossier in items:
            try:
                answers.append(self.sign_certificate(name, tbs, Basis(dossier, tuple(crls))))
            except Problem as problem:
                answers.append(problem)
        return answers

    def _held(self, public_key: bytes) -> SigningKey | None:
        found = [(name, key) for name, key in self._keys.items() if key.info.public_key == public_key]
        return next(
            (
                SigningKey(name, 1, built_in()[key.info.template], key.private.public_key(), tuple(key.chain))
                for name, key in found
            ),
            None,
        )

    def sign_crl(self, name: str, tbs: bytes, version: int | None = None) -> bytes:
        assert version in {None, 1}, "keys in memory have one version"
        key = self._use(name, Operation.CRL)
        return assemble_crl(tbs, raw_signature(key.private, tbs), key.private.public_key())

    def sign_crl_parts(self, name: str, parts: Callable[[], Iterable[bytes]], version: int | None = None) -> bytes:
        tbs = b"".join(parts())
        return self.sign_crl(name, tbs, version).split(tbs, 1)[1]

    def sign_cms(self, name: str, content_type: str, content: bytes) -> bytes:
        key = self._use(name, Operation.CMS)
        if content_type not in built_in()[key.info.template].content_type_oids:
            raise Problem(403, "content-type-not-allowed", f"key {name} does not sign {content_type}")
        return self._sign(key, content_type, content)

    def batch_sign(
        self, name: str, kind: SignKind, items: Sequence[BatchItem], *, version: int | None = None
    ) -> BatchAnswer:
        """Certificate status, judged as the real service judges it."""
        assert (kind, version) == ("ocsp", None), "only status is signed in batches here"
        key = self._use(name, Operation.OCSP)
        info, private = key.info, key.private
        pair = SigningKey(name, 1, built_in()[info.template], private.public_key(), tuple(key.chain))
        results = []
        for item in items:
            try:
                order = check_ocsp(item.content, pair, now=self.clock())
            except Problem as problem:
                results.append(BatchResult(ref=item.ref, problem=problem.document()))
            else:
                signed = assemble_ocsp(order, raw_signature(private, order.tbs), pair)
                results.append(BatchResult(ref=item.ref, version=1, log_index=0, signed=signed))
        return BatchAnswer(key=name, algorithm=None, items=results)

    def attest_key(self, name: str) -> bytes:
        info = self._key(name, Operation.ATTEST).info
        attestation = KeyAttestation(
            key_name=name,
            key_version=info.version,
            spki_sha256=spki_sha256(self._keys[name].private.public_key()),
            token=built_in()[info.template].token,
            local=info.attributes["local"],
            sensitive=info.attributes["sensitive"],
            always_sensitive=info.attributes["always_sensitive"],
            never_extractable=info.attributes["never_extractable"],
            extractable=info.attributes["extractable"],
            at=self.clock(),
        )
        return self._sign(self._keys["attestation"], CT_KEY_ATTESTATION.dotted_string, attestation.to_der())

    def _sign(self, key: _Key, content_type: str, content: bytes) -> bytes:
        if not key.chain:
            raise Problem(409, "key-has-no-certificate", f"key {key.info.name} has no certificate yet")
        return sign(
            x509.ObjectIdentifier(content_type),
            content,
            key=key.private,
            signer=key.chain[0],
            chain=key.chain[1:],
            signing_time=self.clock(),
        )

    def _key(self, name: str, operation: Operation) -> _Key:
        key = self._keys.get(name)
        if key is None:
            raise Problem(404, "key-not-found", f"there is no key {name}")
        template = built_in()[key.info.template]
        if not template.offers(operation):
            raise Problem(409, "key-misused", f"{name} does not do {operation}")
        if not template.permits(self.caller, operation, key.info.owner):
            raise Problem(403, "caller-not-allowed", f"{self.caller} may not ask {operation} of {name}")
        return key

    def _use(self, name: str, operation: Operation) -> _Key:
        key = self._key(name, operation)
        if key.info.state != "ENABLED":
            raise Problem(409, "key-not-enabled", f"key {name} is {key.info.state}, not ENABLED")
        with self._lock:
            key.info = msgspec.structs.replace(key.info, uses=key.info.uses + 1)
        return key


def raw_signature(key: PrivateKey, data: bytes) -> bytes:
    """As certificates and CRLs are signed: RSA PKCS#1 v1.5 with SHA-256, ECDSA with SHA-256 or SHA-384."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(data, ec.ECDSA(hashes.SHA384() if key.curve.key_size > 256 else hashes.SHA256()))
