"""What the token boundary offers: one interface, in this process (`Vault.as_caller`) and over the network (`client`).

This module knows neither tokens nor HTTP, so that whoever calls the service depends on neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

import msgspec

from runtime.problems import Problem

SignKind = Literal["certificate", "crl", "ocsp", "timestamp", "cms", "request", "checkpoint", "raw"]
RawAlgorithm = Literal["rsa-pkcs1v15-sha256", "rsa-pss-sha256", "ecdsa-sha256"]


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A key as its callers see it. Bytes are base64 in JSON.

    `public_key` is the DER SubjectPublicKeyInfo, empty for a secret key; `attributes` what the token says about its
    protection (PKCS#11 names in lower case); `uses` how often the token was called with it; `content_types` the dotted
    OIDs it signs; `callers` the patterns of those who use it; `certificate_chain` DER, its own first, without the root;
    `suites` the sealing suites that the token was found to open, for a key that orders are sealed to;
    `raw` whether it signs bare digests, so that nobody can say what it signed; `unusable` why it does not serve
    although it is enabled, if so. `in_use`: whether it is the version in use;
    `activates_at`, `retires_at`, `destroy_at` (RFC 3339) when it begins or began, is replaced, may be destroyed;
    `limits` what holds for it (`hsm_service.limits`); `replicas` further tokens that hold it; `backup` whether it can
    be backed up.
    """

    name: str
    version: int
    template: str
    purpose: str
    algorithm: str
    token: str
    owner: str | None
    state: str
    created: str
    public_key: bytes
    attributes: dict[str, bool]
    uses: int
    content_types: tuple[str, ...]
    callers: tuple[str, ...]
    certificate_chain: tuple[bytes, ...]
    suites: tuple[str, ...] = ()
    raw: bool = False
    unusable: str | None = None
    in_use: bool = True
    activates_at: str | None = None
    retires_at: str | None = None
    destroy_at: str | None = None
    limits: dict[str, int | float | str] = {}
    replicas: tuple[str, ...] = ()
    backup: bool = False


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: which key signed, and how; the number of the record in the audit journal; the signed object (DER)."""

    key: str
    version: int
    algorithm: str
    log_index: int
    signed: bytes


class SignedCrl(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a TBSCertList that came in pieces: `signature` is what follows it in the CertificateList.

    That is the AlgorithmIdentifier and the BIT STRING, both DER (RFC 5280 5.1.1); the list is not sent back.
    """

    key: str
    version: int
    algorithm: str
    log_index: int
    signature: bytes


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a dry run: the key would sign this, and how. Nothing was signed."""

    key: str
    version: int
    algorithm: str
    dry_run: bool = True


class Basis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a certificate rests on: the case as JSON (`cps.dossier.Dossier.to_json`), and the newest CRLs (DER) of those
    authorities that certified the officers and services who decided it, up to the root.
    """

    dossier: bytes
    crls: tuple[bytes, ...] = ()


class SignCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Sign `content`, a DER structure of the given kind: TBSCertificate (certificate), TBSCertList (crl), a message
    content of the dotted OID `content_type` (cms), CertificationRequestInfo (request), ResponseData (ocsp), TSTInfo
    (timestamp); or the text of a log's checkpoint with its consistency proof (checkpoint, see
    `audit.checkpoint.Progress`). Only keys that a ceremony made for it sign a SHA-256 digest, by `algorithm` (raw).
    """

    kind: SignKind
    content: bytes
    content_type: str | None = None
    basis: Basis | None = None
    algorithm: RawAlgorithm | None = None


class SigningService(Protocol):
    """The token boundary, for one caller. Every method raises `runtime.problems.Problem` when it refuses or cannot."""

    def generate_key(self, name: str, template: str, *, owner: str | None = None, reason: str = "") -> KeyInfo:
        """Make a key pair or an AES key in the template's token; `owner` where the template's keys have one.

        Raises `operation_info.ApprovalNeeded` with the request if officers must approve it first; they read `reason`.
        """
        ...

    def describe_key(self, name: str) -> KeyInfo:
        """The version in use of a key."""
        ...

    def list_versions(self, name: str) -> list[KeyInfo]:
        """Every version of a key, the oldest first."""
        ...

    def list_keys(self) -> list[KeyInfo]:
        """Every version of every key that this caller may use or manage."""
        ...

    def certification_request(
        self, name: str, subject: bytes, san_uris: Sequence[str] = (), version: int | None = None
    ) -> bytes:
        """PKCS#10 request (DER) of the key for `subject` (DER Name), with `san_uris` as requested subjectAltName.

        By default of the version in use; one that was made by a rotation gets its certificate before it begins.
        """
        ...

    def attach_certificate(self, name: str, chain: Sequence[bytes]) -> None:
        """Give the version that the first certificate is for its chain: DER, its own first, without the root."""
        ...

    def sign_certificate(self, name: str, tbs: bytes, basis: Basis | None = None) -> bytes:
        """TBSCertificate in, Certificate out (DER); only a ceremony has certificates signed without a `basis`."""
        ...

    def sign_certificates(
        self, name: str, items: Sequence[tuple[bytes, bytes]], crls: Sequence[bytes]
    ) -> list[bytes | Problem]:
        """Many TBSCertificates, each with its dossier, in; for each the Certificate (DER) or why there is none, out.

        `crls` are those by which all of them are judged (`Basis.crls`); each item is judged by itself, as one that
        comes singly. Raises Problem for what concerns all of them.
        """
        ...

    def sign_crl(self, name: str, tbs: bytes, version: int | None = None) -> bytes:
        """TBSCertList in, CertificateList out (DER); a retired version still lists what it certified."""
        ...

    def sign_crl_parts(self, name: str, parts: Callable[[], Iterable[bytes]], version: int | None = None) -> bytes:
        """As `sign_crl` for a list of any size that is not held in memory: what follows the TBSCertList (DER) out.

        `parts` begins the list anew each time it is called: it may be sent again. Its serials ascend.
        """
        ...

    def sign_cms(self, name: str, content_type: str, content: bytes) -> bytes:
        """Content (DER) of the dotted OID `content_type` in, ContentInfo with SignedData and chain out (DER)."""
        ...

    def attest_key(self, name: str) -> bytes:
        """SignedData (DER) of the attestation key over what the token says about the key."""
        ...
