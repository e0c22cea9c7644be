"""One SignedData with two signers, for a contract that both sides sign (KWBP "Order with two signatures").

General CMS lets signers be added and taken away by anybody, and leaves open which of them a reader asks for. Here there
are exactly two, they are different certificates, and the second is told from the first by a signed attribute that the
first does not have. Each of them, taken alone, is a SignedData of the profile: that is how they are read and how they
are written, so that no rule of `pki.cms_signed` is said twice. `openssl cms -verify` wants both signatures good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1

from pki import cms_structures as structures
from pki.cms_signed import SignedData, parse_signed_data
from pki.der import decode, encode, sha256
from pki.errors import CmsError, DerError

_CLAUSE: Final = "KWBP, Order with two signatures"


@dataclass(frozen=True)
class Joined:
    """Two signers of one content. `second.further` is the DER of the attribute that only the second has signed.

    In both halves `der` and `digest` are those of the whole. No signature is verified yet.
    """

    first: SignedData
    second: SignedData


def parse_joined(der: bytes, *, content_type: x509.ObjectIdentifier, mark: x509.ObjectIdentifier) -> Joined:
    """Read a ContentInfo with two signers over `content_type`; structure and allow-lists only, no cryptography.

    :param mark: the signed attribute of the second signer.
    :raises CmsError: `signer_count` (not two, or two of the same kind, or one certificate twice), and as
        `pki.cms_signed.parse_signed_data` for each half.
    """
    whole = _read(der)
    infos = whole.content.signer_infos.as_list()
    marked = [info for info in infos if _has(info, mark)]
    plain = [info for info in infos if not _has(info, mark)]
    if (len(plain), len(marked)) != (1, 1):
        raise _miscounted(f"{len(plain)} signers without the mark and {len(marked)} with it, not one of each")
    first = parse_signed_data(_half(whole, plain), content_type=content_type)
    second = parse_signed_data(_half(whole, marked), content_type=content_type, further=mark)
    if first.signer == second.signer:
        raise _miscounted("one certificate signed twice")
    digest = sha256(der)
    return Joined(replace(first, der=der, digest=digest), replace(second, der=der, digest=digest))


def join(first: bytes, second: bytes) -> bytes:
    """One ContentInfo (DER) out of two SignedData over the same content. Nothing is verified here.

    :raises ValueError: they are over different contents. :raises CmsError: one of them cannot be read.
    """
    one, other = _read(first), _read(second)
    if encode(one.content.encap_content_info) != encode(other.content.encap_content_info):
        raise ValueError("two signers sign one content")
    certificates = {encode(each): each for whole in (one, other) for each in whole.content.certificates.as_list()}
    infos = [*one.content.signer_infos.as_list(), *other.content.signer_infos.as_list()]
    return _write(one, list(certificates.values()), infos)


def _read(der: bytes) -> structures.ContentInfo:
    try:
        return decode(structures.ContentInfo, der, members=structures.MEMBERS)
    except DerError as error:
        raise CmsError(error.reason, "not a SignedData of the profile", clause=_CLAUSE) from None


def _has(info: structures.SignerInfo, mark: x509.ObjectIdentifier) -> bool:
    return any(each.type == mark for each in info.signed_attrs.as_list())


def _half(whole: structures.ContentInfo, infos: list[structures.SignerInfo]) -> bytes:
    return _write(whole, whole.content.certificates.as_list(), infos)


def _write(whole: structures.ContentInfo, certificates: list[asn1.TLV], infos: list[structures.SignerInfo]) -> bytes:
    signed = whole.content
    return encode(
        structures.ContentInfo(
            content_type=whole.content_type,
            content=structures.SignedData(
                version=signed.version,
                digest_algorithms=signed.digest_algorithms,
                encap_content_info=signed.encap_content_info,
                certificates=asn1.SetOf(certificates),
                signer_infos=asn1.SetOf(infos),
            ),
        )
    )


def _miscounted(detail: str) -> CmsError:
    return CmsError("signer_count", detail, clause=_CLAUSE)
