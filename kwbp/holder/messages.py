"""The DER structures of what a holder asks about its certificate."""

from __future__ import annotations

import re
from typing import Annotated, Final

from cryptography.hazmat import asn1

from kwbp import fields
from kwbp.codes import CertificateStatus, RegistrationStatus, RevocationReason
from kwbp.fields import Der, Hash32, Id20
from kwbp.structure import Structure

_APPLICATION: Final = re.compile(r"[0-9a-f]{32,64}")


@asn1.sequence
class CertInqReqTBS(Structure):
    """id-kwbp-ct-certInqReq, signed by the holder: "how does this certificate stand?"

    `cert_hash` is SHA-256 of the certificate's DER, `chall` fresh.
    """

    version: int
    rrpid: Id20
    chall: Hash32
    serial: int
    cert_hash: Hash32
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        _check_request(self.version, self.serial, self.date)


@asn1.sequence
class RevReqTBS(Structure):
    """id-kwbp-ct-revReq, signed by the holder: "revoke this certificate", or suspend it: certificateHold.

    `order` is the order of the Certification Practice Statement (SignedData over RevocationTBS, DER) with the key of
    that certificate: it goes on to the certification authority, which judges and keeps it.
    """

    version: int
    rrpid: Id20
    chall: Hash32
    serial: int
    cert_hash: Hash32
    reason: RevocationReason
    order: Der
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        _check_request(self.version, self.serial, self.date)
        if self.reason is RevocationReason.CA_COMPROMISE:
            raise fields.refuse("reason", "a holder is no authority")


@asn1.sequence
class RenewReqTBS(Structure):
    """id-kwbp-ct-renewReq, signed by the holder: a new certificate in the place of this one, for the key of `request`.

    `request` is PKCS#10 (DER); its key was never certified before.
    """

    version: int
    rrpid: Id20
    chall: Hash32
    serial: int
    cert_hash: Hash32
    request: Der
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        _check_request(self.version, self.serial, self.date)


@asn1.sequence
class CertInqResTBS(Structure):
    """id-kwbp-ct-certInqRes, signed by the registration authority: where the certificate stands at `date`.

    `h_request` is SHA-256 of the SignedData of CertInqReq or RevReq. `since` and `reason` with SUSPENDED and REVOKED
    only.
    """

    version: int
    rrpid: Id20
    chall: Hash32
    h_request: Hash32
    serial: int
    cert_hash: Hash32
    status: CertificateStatus
    since: Annotated[asn1.GeneralizedTime | None, asn1.Implicit(0)]
    reason: Annotated[RevocationReason | None, asn1.Implicit(1)]
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        _check_request(self.version, self.serial, self.date)
        fields.check_times(("since", self.since))
        listed = self.status in (CertificateStatus.SUSPENDED, CertificateStatus.REVOKED)
        if (self.since is not None, self.reason is not None) != (listed, listed):
            raise fields.refuse("since, reason", "must be there if the certificate is on the CRL, and only then")
        if (self.reason is RevocationReason.CERTIFICATE_HOLD) != (self.status is CertificateStatus.SUSPENDED):
            raise fields.refuse("reason", "must be certificateHold if the certificate is suspended, and only then")


@asn1.sequence
class RenewResTBS(Structure):
    """id-kwbp-ct-renewRes, signed by the registration authority: how the application for the next certificate stands.

    `chain` is the new certificate and the CA certificates above it (DER), with ISSUED only.
    """

    version: int
    rrpid: Id20
    chall: Hash32
    h_request: Hash32
    application: str
    status: RegistrationStatus
    chain: Annotated[list[Der], asn1.Size(0, 8)]
    date: asn1.GeneralizedTime

    def validate(self) -> None:
        fields.check_version(self.version)
        fields.check_pattern("application", self.application, _APPLICATION)
        if bool(self.chain) != (self.status is RegistrationStatus.ISSUED):
            raise fields.refuse("chain", "must be there if the certificate is issued, and only then")
        fields.check_times(("date", self.date))


def _check_request(version: int, serial: int, date: asn1.GeneralizedTime) -> None:
    fields.check_version(version)
    if not 0 < serial < 1 << 159:  # RFC 5280 4.1.2.2: positive, at most 20 octets
        raise fields.refuse("serial", "must be positive and fit in 20 octets")
    fields.check_times(("date", date))
