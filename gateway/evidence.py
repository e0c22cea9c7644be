"""The gateway's part of a purchase as evidence, out of its own records: what was signed, and what it was judged by.

Merchant's invoice, buyer's dual signature, the gateway's own AuthRes, the merchant's AuthAck, the last InqRes that
somebody was given, what moved the money later; the certificate that the card data were sealed to, the authorities, and
the status lists in force at each of these moments. Sealed card data are not here: nobody keeps them after the
authorisation, and the order's hash of them is what binds. No card number, not even masked, is added to what the signed
objects say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from gateway.disclosures import CERTIFICATE, CRL, Disclosures
from gateway.order import Order
from gateway.settling.row import Settling
from kwbp.common import instant, read_signed
from kwbp.inquiry import InqResTBS
from kwbp.messages import AuthResTBS, DualSigTBS
from kwbp.settling import ANSWERS
from kwbp.wrapper import unwrap
from pki.der import sha256
from pki.oids import CT_AUTH_RES, CT_DUAL_SIGNATURE, CT_INQ_RES
from pki.roles import role_of


@dataclass(frozen=True, slots=True)
class Evidence:
    """`documents` by their names in a bundle; all DER."""

    documents: Mapping[str, bytes]
    movements: tuple[tuple[bytes, bytes], ...]
    """Requests and final answers of rows 19 to 21, in their order."""
    authorities: tuple[bytes, ...]
    crls: tuple[bytes, ...]


def evidence_of(order: Order, disclosures: Disclosures, settled: Sequence[Settling]) -> Evidence:
    """What the gateway holds of an order; what did not happen is not there, nor AuthRes where an Error was given.

    :param settled: what was asked for about it since, oldest first.
    """
    documents = {"invoice": order.invoice, "dual_signature": order.dual_signature}
    chosen = read_signed(DualSigTBS, CT_DUAL_SIGNATURE, order.dual_signature).body.gw_cert_hash
    certificates = list(disclosures.of_kind(CERTIFICATE))
    for der in certificates:
        if sha256(der) == chosen:
            documents["gateway_certificate"] = der
    moments = []
    if order.answer is not None and order.auth_code is not None:
        answer = unwrap(order.answer, expected=(CT_AUTH_RES,)).body
        documents["auth_res"] = answer
        moments.append(instant(read_signed(AuthResTBS, CT_AUTH_RES, answer).body.date))
    if order.auth_ack is not None:
        documents["auth_ack"] = order.auth_ack
    said = disclosures.statements(order.key)
    if said:
        documents["gateway_status"] = said[-1]
        moments.append(instant(read_signed(InqResTBS, CT_INQ_RES, said[-1]).body.date))
    movements = []
    for each in settled:
        if each.request is not None and each.answer is not None and each.date is not None:
            movements.append((each.request, unwrap(each.answer, expected=tuple(ANSWERS.values())).body))
            moments.append(each.date.replace(microsecond=0))
    authorities = tuple(der for der in certificates if _is_authority(der))
    return Evidence(documents, tuple(movements), authorities, _in_force(disclosures.of_kind(CRL), moments))


def _in_force(ders: Iterable[bytes], moments: Sequence[datetime]) -> tuple[bytes, ...]:
    """Of each issuer the newest list that was out at each of these moments."""
    newest: dict[tuple[datetime, bytes], tuple[datetime, bytes]] = {}
    for der in ders:
        crl = x509.load_der_x509_crl(der)
        issuer, out = crl.issuer.public_bytes(), crl.last_update_utc
        for moment in moments:
            known = newest.get((moment, issuer))
            if out <= moment and (known is None or known[0] < out):
                newest[moment, issuer] = out, der
    return tuple(dict.fromkeys(der for _, der in newest.values()))


def _is_authority(der: bytes) -> bool:
    return role_of(x509.load_der_x509_certificate(der)).profile.is_ca
