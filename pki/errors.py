"""Everything `pki` can refuse, in one tree.

    PkiError
    ├── DerError          bytes are not the one DER encoding of the structure asked for
    ├── CertificateError  a certificate, CRL or key is outside the profile
    ├── CsrError          a PKCS#10 request is malformed, unproven or asks with an unfit key
    ├── PathError         no certification path from the certificate to a pinned root holds now
    ├── RolloverError     a root certificate is not the one that follows a pinned root
    ├── OcspError         an OCSP answer may not be believed about this certificate, now
    ├── TimestampError    a time-stamp may not be believed about these bytes, or none was given
    ├── NoticeError       a notice is not in its one form, or a field holds what its kind does not admit
    └── CmsError          a SignedData or AuthEnvelopedData is outside the profile, or its signature is wrong

Each error carries `reason`, a stable machine slug, and `clause`, the rule that refused. The text never contains the
bytes that were refused.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the parsers of `cryptography` raise over bytes that they cannot read, some of it long after loading.

Every single-bit flip of certificates, CRLs, requests and messages was tried to find the members of this list.
"""


class PkiError(Exception):
    """Base of every refusal of this package."""

    def __init__(self, reason: str, detail: str = "", *, clause: str = "") -> None:
        """Take the machine slug, a sentence for people (no secrets, no input bytes) and the clause that refused."""
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.clause = clause


class DerError(PkiError):
    """Not the one DER encoding of the structure (X.690; KWBP global rule 1)."""


class CertificateError(PkiError):
    """A certificate, CRL or public key outside the profile (RFC 5280 and the CPS)."""


class CsrError(PkiError):
    """A PKCS#10 request that may not enter enrolment (RFC 2986)."""


class PathError(PkiError):
    """No valid certification path (RFC 5280 6.1); `reason` says which check failed first, seen from the root."""


class OcspError(PkiError):
    """An answer about a certificate's status that may not be believed (RFC 6960 3.2), or that is none."""


class RolloverError(PkiError):
    """A root certificate that may not follow the pinned one (RFC 8649)."""


class TimestampError(PkiError):
    """A time-stamp that may not be believed, or that was not given (RFC 3161 2.4.2)."""


class NoticeError(PkiError):
    """Not a notice in its one form, or a field of one with what its kind does not admit (CPS 4.2.1)."""


class CmsError(PkiError):
    """A CMS object outside the closed profile (KWBP global rules 2 and 3) or with a wrong signature (RFC 5652)."""
