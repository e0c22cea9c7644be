"""The DER structures of registration: one class a structure. See the package for what goes where, and why.

Encodings follow `kwbp.messages`. A value that decodes and passes `validate()` has all its fields in form; nothing is
said about who wrote them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Final

from cryptography.hazmat import asn1

from kwbp import fields
from kwbp.codes import RegistrationStatus
from kwbp.fields import Der, Hash32, Id20
from kwbp.structure import Structure

PURPOSES: Final = ("encryption", "signing", "tls")
"""What a key is certified for."""
FORM_FIELDS: Final = ("cvv2", "national_code", "phone_code", "pin2")
"""What a bank's form may ask for beside card number, expiry and CardSecret."""
SUITES: Final = ("oaep-sha1", "oaep-sha256")
LONGEST_WAIT: Final = 604_800
"""Largest `ask_again`, seconds: a week."""

_APPLICATION: Final = re.compile(r"[0-9a-f]{32,64}")
_IBAN: Final = re.compile(r"IR[0-9]{24}")
_NATIONAL_CODE: Final = re.compile(r"[0-9]{10}")
_LICENCE: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z/.-]{0,39}")
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_ORIGIN: Final = re.compile(r"https://[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?")
_STATEMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")


# ── Rows 1 and 4: CardCInitReq/Res, MerInitReq/Res ────────────────────────────────────────────────────────────────────


@asn1.sequence
class InitReq(Structure):
    """Body of CardCInitReq and MerInitReq, bare. `thumbs` are SHA-256 of the root certificates that the asker holds."""

    version: int
    rrpid: Id20
    chall_ee: Hash32
    brand_id: str
    thumbs: Annotated[list[Hash32], asn1.Size(1, 8)]

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("brandID", self.brand_id, fields.BRAND)


@asn1.sequence
class InitResTBS(Structure):
    """id-kwbp-ct-cardCInitRes, id-kwbp-ct-merInitRes, signed by the registration authority.

    `issuer_certificate` is the CA that will certify (DER); `cps_id`, `cps_version` and `cps_digest` the statement in
    force; `chall_ca` is what a MerCertReq echoes (a cardholder gets another one with the form).
    """

    version: int
    rrpid: Id20
    chall_ee: Hash32
    chall_ca: Hash32
    issuer_certificate: Der
    cps_id: str
    cps_version: str
    cps_digest: Hash32
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("cpsID", self.cps_id, _STATEMENT)
        fields.check_pattern("cpsVersion", self.cps_version, _STATEMENT)
        fields.check_times(("date", self.date))


# ── Row 2: RegFormReq/Res ─────────────────────────────────────────────────────────────────────────────────────────────


@asn1.sequence
class RegFormReq(Structure):
    """Body of RegFormReq, bare: which bank's form. The BIN, never the card number."""

    version: int
    rrpid: Id20
    chall_ee: Hash32
    bin: str

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("bin", self.bin, fields.BIN)


@asn1.sequence
class IssuerFormTBS(Structure):
    """id-kwbp-ct-issuerForm, signed by a bank: what it asks a cardholder, and the key that the answer is sealed to.

    `asks` names fields of `PANData0` (`FORM_FIELDS`) that must be there; another one must not. `sealing_key` is a DER
    SubjectPublicKeyInfo (RSA), `suite` how its keeper can open (`oaep-sha256`, or `oaep-sha1` for a token that knows no
    other).
    """

    version: int
    bin: str
    issuer: str
    asks: Annotated[list[str], asn1.Size(0, 4)]
    sealing_key: Der
    suite: str
    date: asn1.GeneralizedTime
    not_after: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("bin", self.bin, fields.BIN)
        fields.check_text("issuer", self.issuer, longest=64)
        _check_names("asks", self.asks, FORM_FIELDS)
        _check_names("suite", [self.suite], SUITES)
        fields.check_times(("date", self.date), ("notAfter", self.not_after))


@asn1.sequence
class RegFormResTBS(Structure):
    """id-kwbp-ct-regFormRes, signed by the registration authority around the bank's own SignedData.

    `chall_ca` is what the CertReq echoes.
    """

    version: int
    rrpid: Id20
    chall_ee: Hash32
    chall_ca: Hash32
    bin: str
    issuer_form: Der
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("bin", self.bin, fields.BIN)
        fields.check_times(("date", self.date))


# ── Row 3: CertReq ────────────────────────────────────────────────────────────────────────────────────────────────────


@asn1.sequence
class PANData0(Structure):
    """The card, in clear: exists only inside the wallet and the card's bank. Its repr shows no field.

    `h_spki` is the hash of the key to be certified, so that nobody on the way can put another one beside it; `ex_nonce`
    32 random bytes, so that equal card data never look equal to whoever holds the content key of one of them.
    """

    version: int
    rrpid: Id20
    h_spki: Hash32
    pan: str
    expiry: str
    card_secret: Hash32
    national_code: Annotated[str | None, asn1.Implicit(0)]
    phone_code: Annotated[str | None, asn1.Implicit(1)]
    cvv2: Annotated[str | None, asn1.Implicit(2)]
    pin2: Annotated[str | None, asn1.Implicit(3)]
    ex_nonce: Hash32

    def validate(self) -> None:
        """The version alone: `shetab.types` judges the digits, without telling them (F5)."""
        fields.check_version(self.version)


@asn1.sequence
class CertReqTBS(Structure):
    """id-kwbp-ct-certReq, signed with the key to be certified.

    `request` is the PKCS#10 (DER), whose names mean nothing; `answer_key` the one-time key (DER SubjectPublicKeyInfo,
    RSA) that the answer is sealed to; `pan_envelope` the AuthEnvelopedData of `PANData0` to the card's bank.
    """

    version: int
    rrpid: Id20
    chall_ee: Hash32
    chall_ca: Hash32
    bin: str
    request: Der
    answer_key: Der
    pan_envelope: Der
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("bin", self.bin, fields.BIN)
        fields.check_times(("date", self.date))


@asn1.sequence
class CardConfirmReqTBS(Structure):
    """id-kwbp-ct-cardConfirmReq, signed by the registration authority, to the card's bank.

    `cert_req` is the cardholder's SignedData as it came; `nonce_cca` and `ca_key_id` (subjectKeyIdentifier of the
    cardholder CA) are what the bank derives PANSecret with.
    """

    version: int
    rrpid: Id20
    cert_req: Der
    nonce_cca: Hash32
    ca_key_id: Annotated[bytes, asn1.Size(1, 64)]
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_times(("date", self.date))


# ── Rows 4 and 5: MerCertReq, GwCertReq ───────────────────────────────────────────────────────────────────────────────


@asn1.sequence
class KeyRequest(Structure):
    """A PKCS#10 (DER) and what its key is to be certified for."""

    purpose: str
    request: Der

    def validate(self) -> None:
        _check_names("purpose", [self.purpose], PURPOSES)


@asn1.sequence
class MerCertReqTBS(Structure):
    """id-kwbp-ct-merCertReq, signed with one of the keys to be certified.

    `iban` is the settlement account, `licence` the number of the trade licence, `national_code` that of the person who
    applies; `hosts` are names for the TLS certificate.
    """

    version: int
    rrpid: Id20
    chall_ee: Hash32
    chall_ca: Hash32
    merchant_id: str
    name: str
    organisation: str
    acquirer_bin: str
    online: bool
    origin: Annotated[str | None, asn1.Implicit(0)]
    iban: str
    licence: str
    national_code: Annotated[str | None, asn1.Implicit(1)]
    hosts: Annotated[list[str], asn1.Size(0, 16)]
    requests: Annotated[list[KeyRequest], asn1.Size(1, 3)]
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("merchantID", self.merchant_id, fields.NAME)
        fields.check_text("name", self.name, longest=50)
        fields.check_text("organisation", self.organisation, longest=64)
        fields.check_pattern("acquirerBIN", self.acquirer_bin, fields.ACQUIRER)
        fields.check_optional("origin", self.origin, _ORIGIN)
        fields.check_pattern("iban", self.iban, _IBAN)
        fields.check_pattern("licence", self.licence, _LICENCE)
        fields.check_optional("nationalCode", self.national_code, _NATIONAL_CODE)
        for host in self.hosts:
            fields.check_pattern("hosts", host, _HOST)
        _check_requests(self.requests)
        fields.check_times(("date", self.date))


@asn1.sequence
class GwCertReqTBS(Structure):
    """id-kwbp-ct-gwCertReq, signed with the gateway's service certificate.

    `attestations` are the token service's statements about the keys (SignedData, DER), `suites` how the token can open.
    """

    version: int
    rrpid: Id20
    chall_ee: Hash32
    gateway_id: str
    name: str
    organisation: str
    acquirer_bin: str
    hosts: Annotated[list[str], asn1.Size(0, 16)]
    suites: Annotated[list[str], asn1.Size(1, 2)]
    requests: Annotated[list[KeyRequest], asn1.Size(1, 3)]
    attestations: Annotated[list[Der], asn1.Size(1, 3)]
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("gwID", self.gateway_id, fields.NAME)
        fields.check_text("name", self.name, longest=64)
        fields.check_text("organisation", self.organisation, longest=64)
        fields.check_pattern("acquirerBIN", self.acquirer_bin, fields.ACQUIRER)
        for host in self.hosts:
            fields.check_pattern("hosts", host, _HOST)
        _check_names("suites", self.suites, SUITES)
        _check_requests(self.requests)
        fields.check_times(("date", self.date))


# ── Rows 3 to 5: CertRes, MerCertRes, GwCertRes ───────────────────────────────────────────────────────────────────────


@asn1.sequence
class IssuedChain(Structure):
    """A certificate for one purpose and those above it without the root, nearest first; each DER."""

    purpose: str
    chain: Annotated[list[Der], asn1.Size(1, 8)]

    def validate(self) -> None:
        _check_names("purpose", [self.purpose], PURPOSES)


@asn1.sequence
class CertResTBS(Structure):
    """id-kwbp-ct-certRes, -merCertRes, -gwCertRes, signed by the registration authority.

    `h_request` is SHA-256 of the request's SignedData. `ask_again` in seconds, with PENDING only; `nonce_cca` with a
    cardholder's ISSUED only; `certificates` with ISSUED only.
    """

    version: int
    rrpid: Id20
    chall_ee: Hash32
    h_request: Hash32
    application: str
    status: RegistrationStatus
    ask_again: Annotated[int | None, asn1.Implicit(0)]
    nonce_cca: Annotated[bytes | None, asn1.Implicit(1)]
    certificates: Annotated[list[IssuedChain], asn1.Size(0, 3)]
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("application", self.application, _APPLICATION)
        fields.check_size("nonceCCA", self.nonce_cca, smallest=32, largest=32)
        issued = self.status is RegistrationStatus.ISSUED
        if (self.ask_again is not None) != (self.status is RegistrationStatus.PENDING):
            raise fields.refuse("askAgain", "must be there if the application is pending, and only then")
        if self.ask_again is not None and not 1 <= self.ask_again <= LONGEST_WAIT:
            raise fields.refuse("askAgain", f"must be 1 to {LONGEST_WAIT} seconds")
        if bool(self.certificates) != issued or (self.nonce_cca is not None and not issued):
            raise fields.refuse("certificates", "must be there if the application is issued, and only then")
        for each in self.certificates:
            each.validate()
        _check_distinct("certificates", [each.purpose for each in self.certificates])
        fields.check_times(("date", self.date))


def _check_requests(requests: list[KeyRequest]) -> None:
    for each in requests:
        each.validate()
    _check_distinct("requests", [each.purpose for each in requests])


def _check_names(field: str, names: list[str], known: Collection[str]) -> None:
    if not set(names) <= set(known):
        raise fields.refuse(field, f"must be of {', '.join(known)}")
    _check_distinct(field, names)


def _check_distinct(field: str, names: list[str]) -> None:
    if names != sorted(set(names)):
        raise fields.refuse(field, "must be in alphabetical order, each once")
