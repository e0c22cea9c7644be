"""What a PKCS#10 request asks for beside its key (RFC 2986 4.1): what is ignored, what is refused.

A certificate says what the revision says and nothing of what stands in the request, so most of it may be ignored. But
whoever asks for more than they will get is told so now, instead of finding out by the certificate, and a request
that was made for somebody else is not taken for this subject's:

| in the request                     | is                                                                              |
| ---------------------------------- | ------------------------------------------------------------------------------- |
| subject                            | ignored, unless it is the identifier of another member (CPS 3.1.1)              |
| subjectAltName                     | refused, if any of its names is not one of the certificate                      |
| basicConstraints                   | refused, if it asks for a CA                                                    |
| keyUsage                           | refused, if it asks for keyCertSign or cRLSign; the rest is ignored             |
| extKeyUsage                        | refused, if the certificate has not every purpose                               |
| extensions of KWBP                 | refused, if they are not the certificate's                                      |
| other extensions                   | refused if critical (RFC 5280 4.2: nobody may overlook them), else ignored      |
| challengePassword (RFC 2985 5.4.1) | refused: it would be kept and handed on with the request in clear               |
| other attributes                   | ignored                                                                         |
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.x509.oid import AttributeOID

from cps.dossier import Subject
from cps.entitlement import KINDS, PublicKey, holder_of
from cps.errors import EntitlementError
from cps.model import Pack, Purpose
from cps.rules import Rule
from pki.oids import ID_KWBP
from ra.errors import InvalidSubmissionError
from runtime.language import Message, Term

_IGNORED: Final = frozenset({x509.SubjectKeyIdentifier.oid, x509.KeyUsage.oid, x509.BasicConstraints.oid})
"""Known, and critical or not: looked at above, or of no consequence."""


def check_contents(request: x509.CertificateSigningRequest, subject: Subject, purpose: Purpose, pack: Pack) -> None:
    """Raise InvalidSubmissionError if a request asks for what its certificate will not have; see the module."""
    kind = KINDS.get((subject.member_class, purpose))
    if kind is None:
        return  # the case is refused for it (APP-CSR)
    key = request.public_key()
    assert isinstance(key, PublicKey)  # no other kind gets through `pki.csr`
    try:
        holder = holder_of(subject, pack, purpose, key)
    except (ValueError, EntitlementError):
        return  # the subject fits no certificate, which is another finding
    fault = _attribute_fault(request)
    granted = {each.to_extension().oid: each.to_extension() for each in holder.extensions}
    for extension in request.extensions:
        fault = fault or _fault(extension, holder.alternative_names, kind.extended_key_usage, granted)
    if fault is not None:
        raise InvalidSubmissionError(
            "the {purpose} request: {fault}",
            clause=pack.clause(Rule.APP_REQUEST),
            purpose=Term("purpose", purpose),
            fault=fault,
        )


def names_in(request: x509.CertificateSigningRequest) -> frozenset[str]:
    """All texts in the subject of a request: none of them may be the identifier of another member."""
    return frozenset(str(attribute.value) for attribute in request.subject)


def another_member_named(pack: Pack) -> InvalidSubmissionError:
    """The refusal of a request whose subject is the identifier of another member."""
    return InvalidSubmissionError("a request names another member", clause=pack.clause(Rule.APP_REQUEST))


def _attribute_fault(request: x509.CertificateSigningRequest) -> Message | None:
    if any(attribute.oid == AttributeOID.CHALLENGE_PASSWORD for attribute in request.attributes):
        return Message("a challengePassword is a secret, and a request is none: leave it away")
    return None


def _fault(
    extension: x509.Extension[x509.ExtensionType],
    names: tuple[x509.GeneralName, ...],
    usages: frozenset[x509.ObjectIdentifier],
    granted: dict[x509.ObjectIdentifier, x509.UnrecognizedExtension],
) -> Message | None:
    value = extension.value
    if isinstance(value, x509.SubjectAlternativeName):
        asked = frozenset(value)
        return None if asked <= frozenset(names) else Message("it asks for a name that the certificate does not have")
    if isinstance(value, x509.ExtendedKeyUsage):
        return None if usages.issuperset(value) else Message("it asks for a usage that the certificate does not have")
    if isinstance(value, x509.BasicConstraints) and value.ca:
        return Message("it asks for a certificate of a CA")
    if isinstance(value, x509.KeyUsage) and (value.key_cert_sign or value.crl_sign):
        return Message("it asks for the key usages of a CA")
    if extension.oid.dotted_string.startswith(f"{ID_KWBP.dotted_string}."):
        same = extension.value == granted.get(extension.oid)
        return None if same else Message("it asks for an extension of KWBP that is not the certificate's")
    if extension.critical and extension.oid not in _IGNORED:
        return Message(
            "it asks for the critical extension {oid}, which is not granted", oid=extension.oid.dotted_string
        )
    return None
