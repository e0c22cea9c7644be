"""The vault: the one door to the keys. It asks who calls, what for and about what, records it, and calls the token.

The API server and a ceremony use the same vault: the caller comes from a client certificate in the one, and is
`ceremony` in the other. Every operation goes the same way:

    refuse unless   the key exists, its template lets this caller do this, it serves, and the structure is one that the
                    key may sign (hsm_service.typed); a refusal is recorded
    intend          the intent is on the disk before the token is called (hsm_service.record)
    call            the token signs
    conclude        the outcome is on the disk before the answer leaves

All methods block; they are safe for threads. They raise `Problem`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from audit import Journal
from audit.entry import JsonValue
from hsm_service import typed
from hsm_service.attestation import attestation_of
from hsm_service.bound import BoundVault
from hsm_service.chain import check_chain
from hsm_service.custody import Custody, Key
from hsm_service.keys import KeyRef
from hsm_service.ledger import Claim, CrlClaim, Ledger, SerialClaim
from hsm_service.provision import open_token
from hsm_service.record import Outcome, Recorder
from hsm_service.registry import Registry
from hsm_service.request import assemble_request
from hsm_service.service import KeyInfo, Signed
from hsm_service.templates import OWNER, Operation, Purpose, Template, built_in
from hsm_service.tokens import Token
from hsm_service.typed import ContentValidator, SigningKey, built_in_content_types
from pki import oids
from pki.algorithms import SignatureSuite
from pki.builder import assemble_certificate, assemble_crl
from runtime.database import open_database
from runtime.problems import Problem
from runtime.secrets import Secret
from runtime.settings import Home

SERVICE: Final = "service:hsm"
"""As whom the service uses its own attestation key."""

SERVICE_TOKENS: Final = ("ca", "gateway", "merchants")
ROOT_TOKENS: Final = ("root",)
ANONYMOUS: Final = "anonymous"
_ATTESTATION: Final = "attestation"

Sign = Callable[[Token, KeyRef, bytes], bytes]


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Job:
    """A structure that was judged: the bytes to sign, how, what the signature makes of them, and what is recorded."""

    to_sign: bytes
    sign: Sign
    algorithm: str
    finish: Callable[[bytes], bytes]
    claim: Claim | None = None
    fields: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InUse:
    """A key lent to a plug-in for one recorded operation."""

    token: Token
    ref: KeyRef
    key: Key


@dataclass(frozen=True, slots=True)
class Running:
    """A recorded operation of a plug-in: its keys by name, and the outcome to which it adds its output's digest."""

    keys: Mapping[str, InUse]
    outcome: Outcome


class Vault:
    """Open tokens, their key registry and the audit journal. Make one with `open` or `open_root`; close it."""

    def __init__(
        self,
        tokens: Mapping[str, Token],
        registry: Registry,
        journal_path: Path,
        *,
        content_types: Mapping[str, ContentValidator],
        anchors: Callable[[], Sequence[x509.Certificate]],
        clock: Callable[[], datetime],
    ) -> None:
        self._clock = clock
        self._anchors = anchors
        self._content_types = {**built_in_content_types(), **content_types}
        self._tokens = tokens
        self._registry = registry
        self._ledger = Ledger()
        self._journal = Journal.open(journal_path, clock=clock, replay=self._ledger.replay)
        try:
            self._custody = Custody(tokens, registry, built_in())
        except BaseException:
            self._journal.close()
            raise
        self._recorder = Recorder(self._journal, self._ledger, built_in().digest)

    @classmethod
    def open(
        cls,
        home: Home,
        tokens: Sequence[str] = SERVICE_TOKENS,
        *,
        content_types: Mapping[str, ContentValidator] | None = None,
        clock: Callable[[], datetime] = _utc_now,
        sessions: int = 8,
    ) -> Self:
        """Opens the services' tokens of an installation, with the registry `db/keys.db` and journal `audit/hsm.jsonl`.

        `content_types` are the judges of message contents by dotted OID; a content without a judge is never signed.
        `sessions` is how many token operations run at once, a token. Raises HsmError, AuditError (a journal that is not
        whole keeps the vault shut), SecretFileError.
        """
        return cls._open(home, tokens, "keys.db", "hsm.jsonl", content_types or {}, clock, sessions)

    @classmethod
    def open_root(cls, home: Home, *, clock: Callable[[], datetime] = _utc_now) -> Self:
        """Opens the root token alone, with a registry and a journal of its own. Only ceremonies do this.

        A process has the root's token open or the services', never both (ModuleBusy).
        """
        return cls._open(home, ROOT_TOKENS, "root-keys.db", "root.jsonl", {}, clock, 2)

    @classmethod
    def _open(
        cls,
        home: Home,
        labels: Sequence[str],
        database: str,
        journal: str,
        content_types: Mapping[str, ContentValidator],
        clock: Callable[[], datetime],
        sessions: int,
    ) -> Self:
        with contextlib.ExitStack() as opened:
            tokens = {label: opened.enter_context(open_token(home, label, sessions=sessions)) for label in labels}
            registry = Registry(open_database(home.db / database))
            opened.callback(registry.close)
            vault = cls(
                tokens,
                registry,
                home.audit / journal,
                content_types=content_types,
                anchors=lambda: _read_anchors(home.trust_anchors),
                clock=clock,
            )
            opened.pop_all()
        return vault

    def close(self) -> None:
        """Flushes the journal, logs out of the tokens, lets go of the registry. May be called twice."""
        self._journal.close()
        for token in self._tokens.values():
            token.close()
        self._registry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def ready(self) -> bool:
        """Whether operations can be recorded and keys are in custody; cheap."""
        return self._journal.usable

    def as_caller(self, caller: str) -> BoundVault:
        """The vault as one caller sees it: the `SigningService` interface."""
        return BoundVault(self, caller)

    # -- keys ----------------------------------------------------------------------------------------------------------

    def generate_key(self, caller: str, name: str, template: str, *, owner: str | None = None) -> KeyInfo:
        """Makes a key in the template's token; see `SigningService`."""
        with self._recorder.refusals(Operation.GENERATE, caller, [name], None):
            found = self._to_be_made(caller, name, template, owner)
            if found.imported:
                raise Problem(409, "key-is-imported", f"a {template} key is loaded from components at a ceremony")
        fields = _made(name, found, owner)
        with self._recorder.operation(Operation.GENERATE, caller, None, fields) as outcome:
            key = self._custody.generate(name, found, owner, self._clock())
            outcome.output_sha256 = _hex(key.row.public_key) if key.row.public_key else None
        return self._info(key)

    def import_zone_key(self, caller: str, name: str, template: str, components: Sequence[Secret]) -> KeyInfo:
        """Loads a zone key from its components (each 16 bytes; the key is their XOR)."""
        with self._recorder.refusals(Operation.GENERATE, caller, [name], None):
            found = self._to_be_made(caller, name, template, None)
            if not found.imported:
                raise Problem(409, "key-is-generated", f"a {template} key is made in its token, never loaded")
        with self._recorder.operation(Operation.GENERATE, caller, None, _made(name, found, None)):
            key = self._custody.import_zone_key(name, found, components, self._clock())
        return self._info(key)

    def _to_be_made(self, caller: str, name: str, template: str, owner: str | None) -> Template:
        found = self._custody.template(template)
        if owner is not None:  # before it stands in a pattern
            _check_name("owner", owner)
        _permit(found, caller, Operation.GENERATE, owner, name)
        _check_name("name", name)
        if found.owned != (owner is not None):
            needed = "needs an owner" if found.owned else "has no owner"
            raise Problem(422, "bad-owner", f"a key of template {template} {needed}")
        self._custody.check_free(name, found)
        return found

    def describe_key(self, caller: str, name: str, version: int | None = None) -> KeyInfo:
        """A key, by default the version in use."""
        with self._recorder.refusals(Operation.DESCRIBE, caller, [name], None):
            return self._info(self._permitted(caller, Operation.DESCRIBE, name, version))

    def list_keys(self, caller: str) -> list[KeyInfo]:
        """Every key that the caller may use or manage."""
        return [
            self._info(key)
            for key in self._custody.all()
            if key.template.permits(caller, Operation.DESCRIBE, key.row.owner)
        ]

    def attach_certificate(self, caller: str, name: str, chain: Sequence[bytes]) -> KeyInfo:
        """Gives the key its certificate chain (DER, its own first, without the root)."""
        digest = _hex(b"".join(chain))
        with self._recorder.refusals(Operation.ATTACH, caller, [name], digest):
            key = self._permitted(caller, Operation.ATTACH, name)
            check_chain(chain, key.pair(), key.row.owner, self._anchors())
        fields: dict[str, JsonValue] = {"key": key.label, "certificate_sha256": _hex(chain[0])}
        with self._recorder.operation(Operation.ATTACH, caller, digest, fields):
            return self._info(self._custody.attach(key, chain))

    # -- signatures ----------------------------------------------------------------------------------------------------

    def sign_certificate(self, caller: str, name: str, tbs: bytes, version: int | None = None) -> Signed:
        """TBSCertificate → Certificate, if `typed.check_certificate` finds nothing and the serial is fresh."""

        def judge(key: SigningKey, digest: str) -> _Job:
            order = typed.check_certificate(tbs, key)
            return _Job(
                order.tbs,
                *_x509_signature(key),
                lambda signature: assemble_certificate(order.tbs, signature, key.public_key),
                SerialClaim(key.name, order.serial, digest),
                {"role": order.role.value},
            )

        return self._sign(caller, Operation.CERTIFICATE, name, version, tbs, judge)

    def sign_crl(self, caller: str, name: str, tbs: bytes, version: int | None = None) -> Signed:
        """TBSCertList → CertificateList, if `typed.check_crl` finds nothing and the number grows."""

        def judge(key: SigningKey, digest: str) -> _Job:
            order = typed.check_crl(tbs, key, now=self._clock())
            return _Job(
                order.tbs,
                *_x509_signature(key),
                lambda signature: assemble_crl(order.tbs, signature, key.public_key),
                CrlClaim(key.name, order.number, digest),
                {"revoked": order.revoked},
            )

        return self._sign(caller, Operation.CRL, name, version, tbs, judge)

    def sign_cms(self, caller: str, name: str, content_type: str, content: bytes, version: int | None = None) -> Signed:
        """Content → SignedData, if the key signs this content type and the content's judge finds nothing."""
        return self._sign_cms(caller, name, version, content_type, content, {})

    def _sign_cms(
        self,
        caller: str,
        name: str,
        version: int | None,
        content_type: str,
        content: bytes,
        fields: Mapping[str, JsonValue],
    ) -> Signed:
        def judge(key: SigningKey, _digest: str) -> _Job:
            order = typed.check_cms(content_type, content, key, content_types=self._content_types, now=self._clock())
            return _Job(
                order.signed_attributes,
                *_message_signature(key),
                lambda signature: key.writer.assemble(
                    order.content_type, order.content, order.signed_attributes, signature
                ),
                fields={**fields, "content_type": content_type},
            )

        return self._sign(caller, Operation.CMS, name, version, content, judge)

    def sign_request(self, caller: str, name: str, info: bytes, version: int | None = None) -> Signed:
        """CertificationRequestInfo → PKCS#10 request, if it is about this key."""

        def judge(key: SigningKey, _digest: str) -> _Job:
            order = typed.check_request(info, key)
            sign, algorithm = _x509_signature(key)
            return _Job(
                order.info,
                Token.prove_possession if key.template.purpose is Purpose.OPEN_ORDER else sign,
                algorithm,
                lambda signature: assemble_request(order.info, signature, key.public_key),
            )

        return self._sign(caller, Operation.REQUEST, name, version, info, judge)

    def attest_key(self, caller: str, name: str) -> Signed:
        """KeyAttestation of the key, signed by the attestation key of this installation."""
        with self._recorder.refusals(Operation.ATTEST, caller, [name], None):
            key = self._permitted(caller, Operation.ATTEST, name)
            signer = next((each for each in self._custody.all() if each.template.name == _ATTESTATION), None)
            if signer is None:
                raise Problem(409, "no-attestation-key", "this installation has no attestation key yet")
            content = attestation_of(key, self._clock())
        fields: dict[str, JsonValue] = {"attested": key.label, "asked_by": caller}
        return self._sign_cms(SERVICE, signer.row.name, None, oids.CT_KEY_ATTESTATION.dotted_string, content, fields)

    def _sign(
        self,
        caller: str,
        operation: Operation,
        name: str,
        version: int | None,
        structure: bytes,
        judge: Callable[[SigningKey, str], _Job],
    ) -> Signed:
        digest = _hex(structure)
        with self._recorder.refusals(operation, caller, [name], digest):
            key = self._permitted(caller, operation, name, version)
            token, ref = key.use()
            job = judge(key.pair(), digest)
            if job.claim is not None:
                self._ledger.claim(job.claim)
        fields: dict[str, JsonValue] = {**job.fields, "keys": [key.label], "algorithm": job.algorithm}
        with self._recorder.operation(operation, caller, digest, fields, job.claim) as outcome:
            signed = job.finish(job.sign(token, ref, job.to_sign))
            outcome.output_sha256 = _hex(signed)
        return Signed(
            key=key.row.name,
            version=key.row.version,
            algorithm=job.algorithm,
            log_index=outcome.index,
            signed=signed,
        )

    # -- plug-ins ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def operation(
        self,
        caller: str,
        what: str,
        keys: Mapping[str, Operation],
        *,
        input_sha256: bytes | None,
        fields: Mapping[str, JsonValue] | None = None,
    ) -> Iterator[Running]:
        """A recorded operation of a plug-in, called `what`, that does with each of `keys` (by name) what it names.

        Every key must exist, serve, and permit its operation to this caller; otherwise the refusal is recorded and
        nothing runs. Inside, the tokens may be called; an exception is recorded as failure, an HsmError leaves as a
        Problem. `input_sha256` is the digest of what came in, `fields` more to be recorded: neither may hold secrets.
        """
        digest = input_sha256.hex() if input_sha256 is not None else None
        with self._recorder.refusals(what, caller, list(keys), digest):
            lent = {}
            for name, operation in keys.items():
                key = self._permitted(caller, operation, name)
                lent[name] = InUse(*key.use(), key)
        labels: list[JsonValue] = [each.key.label for each in lent.values()]
        recorded: dict[str, JsonValue] = {**(fields or {}), "keys": labels}
        with self._recorder.operation(what, caller, digest, recorded) as outcome:
            yield Running(lent, outcome)

    def refusals(
        self, caller: str, what: str, keys: Sequence[str], *, input_sha256: bytes | None
    ) -> AbstractContextManager[None]:
        """Records a Problem raised inside as a plug-in's refusal of `what`, before anything was done."""
        digest = input_sha256.hex() if input_sha256 is not None else None
        return self._recorder.refusals(what, caller, keys, digest)

    def key(self, name: str) -> Key:
        """A key with its certificates, whoever asks: for plug-ins, which check input against it. Problem 404."""
        return self._custody.find(name)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _permitted(self, caller: str, operation: Operation, name: str, version: int | None = None) -> Key:
        """The key, if it offers the operation and the caller may ask for it."""
        key = self._custody.find(name, version)
        _permit(key.template, caller, operation, key.row.owner, name)
        if not key.template.offers(operation):
            raise Problem(
                409, "key-misused", f"key {name} is for {key.template.purpose}; it does not do {operation.value}"
            )
        return key

    def _info(self, key: Key) -> KeyInfo:
        row = key.row
        uses = self._ledger.uses(row.name, row.version)
        if key.token is not None and key.ref is not None:
            uses += key.token.uses(key.ref)
        return KeyInfo(
            name=row.name,
            version=row.version,
            template=row.template,
            purpose=key.template.purpose.value,
            algorithm=key.template.algorithm,
            token=row.token,
            owner=row.owner,
            state=row.state.value,
            created=row.created.isoformat(),
            public_key=row.public_key or b"",
            attributes=dict(key.attributes),
            uses=uses,
            content_types=key.template.content_type_oids,
            callers=key.template.users(row.owner),
            certificate_chain=row.chain,
            suites=_suites(key),
            unusable=key.unusable,
        )


def _suites(key: Key) -> tuple[str, ...]:
    """What the token was seen to open, never what its maker says."""
    if key.template.purpose is not Purpose.OPEN_ORDER or key.token is None:
        return ()
    return tuple(key.token.capabilities.sealing_suites)


def _permit(template: Template, caller: str, operation: Operation, owner: str | None, name: str) -> None:
    if caller == ANONYMOUS:
        raise Problem(401, "client-certificate-required", f"key {name} is not for callers without a name")
    if not template.permits(caller, operation, owner):
        expected = " or ".join(template.allowed(operation, owner)) or "nobody"
        raise Problem(
            403, "caller-not-allowed", f"{caller} may not do {operation.value} with key {name}; it is for {expected}"
        )


def _check_name(what: str, text: str) -> None:
    if OWNER.fullmatch(text) is None:
        raise Problem(422, "bad-name", f"the {what} of a key is 1 to 64 letters, digits and ._-")


def _made(name: str, template: Template, owner: str | None) -> dict[str, JsonValue]:
    return {"key": name, "template": template.name, "token": template.token, "owner": owner}


def _x509_signature(key: SigningKey) -> tuple[Sign, str]:
    """How a key signs certificates, CRLs and requests (`pki.algorithms.certificate_signature_identifier`)."""
    if isinstance(key.public_key, rsa.RSAPublicKey):
        return Token.sign_pkcs1v15, "sha256WithRSAEncryption"
    if key.public_key.curve.key_size > 256:
        return _sign_ecdsa_sha384, "ecdsa-with-SHA384"
    return Token.sign_ecdsa, "ecdsa-with-SHA256"


def _sign_ecdsa_sha384(token: Token, ref: KeyRef, data: bytes) -> bytes:
    return token.sign_ecdsa(ref, data, hashes.SHA384())


def _message_signature(key: SigningKey) -> tuple[Sign, str]:
    """How a key signs messages (`pki.algorithms.SignatureSuite`)."""
    suite = SignatureSuite.for_key(key.public_key)
    sign = Token.sign_pss_sha256 if suite is SignatureSuite.RSA_PSS_SHA256 else Token.sign_ecdsa
    return sign, suite.value


def _read_anchors(path: Path) -> list[x509.Certificate]:
    """The pinned root certificates; none before the founding ceremony wrote them."""
    return x509.load_pem_x509_certificates(path.read_bytes()) if path.exists() else []


def _hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
