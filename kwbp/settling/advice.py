"""SettleAdvice: what the acquirer pays a merchant for a business day, and how the merchant compares it with its books.

The checks (N) are about the message: who signed it, for whom, paid where, and whether it adds up. Whether it is *right*
is a comparison with the merchant's own entries, which refuses nothing: it names each difference, and people at the
merchant and the acquirer talk about those. The acquirer speaks through its gateway: the protocol knows no other key of
an acquirer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby

from kwbp import fields
from kwbp.codes import EntryKind, ErrorCode
from kwbp.common import Draft, check_date, check_not_future, instant, read_signed, require, verify_signer
from kwbp.errors import ProtocolError
from kwbp.parties import GatewayIdentity, MerchantIdentity
from kwbp.settling.coherence import advised_net, is_net
from kwbp.settling.parties import require_signed_by
from kwbp.settling.statements import AdviceLine, SettleAdviceTBS
from kwbp.wrapper import KwbpMessage, check_header
from pki.errors import CertificateError
from pki.extensions import AccountBinding
from pki.oids import CT_SETTLE_ADVICE
from pki.path import Trust
from pki.roles import Role
from shetab.jalali import IRAN_STANDARD_TIME


def build_settle_advice(
    lines: Sequence[AdviceLine],
    *,
    merchant_id: str,
    business_date: str,
    iban: str,
    gateway: GatewayIdentity,
    rrpid: bytes,
    now: datetime,
    part: int = 1,
    parts: int = 1,
) -> Draft[SettleAdviceTBS]:
    """SettleAdvice (row 23), to be signed by the gateway of the acquirer.

    :param business_date: `YYYYMMDD`, in Iran. :param iban: where it is paid to. :param rrpid: 20 fresh random bytes.
    :raises ProtocolError: a line or another field is out of form (K1).
    """
    body = SettleAdviceTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        merchant_id=merchant_id,
        business_date=business_date,
        part=part,
        parts=parts,
        lines=list(lines),
        net=advised_net(lines),
        iban=iban,
        gw_id=gateway.gateway_id,
        acquirer_id=gateway.acquirer_bin,
        date=fields.to_time(now),
    )
    return Draft.of(CT_SETTLE_ADVICE, body, rrpid=rrpid, xid=None)


@dataclass(frozen=True, slots=True)
class CheckedAdvice:
    """An advice that passed N1 to N4. `signed` is the SignedData, `digest` its SHA-256."""

    body: SettleAdviceTBS
    signed: bytes
    digest: bytes


def check_settle_advice(
    message: KwbpMessage,
    *,
    merchant: MerchantIdentity,
    gw_id: str,
    known: bytes | None,
    trust: Trust,
    now: datetime,
) -> CheckedAdvice:
    """SettleAdvice (row 23): K1, K2, K4 to K7, then N1 to N4. It may come late, and more than once, but unchanged.

    :param message: from `unwrap(…, expected=[CT_SETTLE_ADVICE])`.
    :param merchant: the reader. :param gw_id: the gateway that it works with.
    :param known: digest of the advice that it has for this business day and part already.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(SettleAdviceTBS, CT_SETTLE_ADVICE, message.body)
    body = received.body
    check_header(message, CT_SETTLE_ADVICE, rrpid=body.rrpid, xid=None)
    verify_signer(received, role=Role.GATEWAY_SIGNING, trust=trust, now=now)
    check_not_future(received, now=now)
    check_date(received, body.date, now=now)
    require_signed_by(received.signer, (body.gw_id, body.acquirer_id), (gw_id, merchant.acquirer_bin), check="N1")
    require(
        body.merchant_id == merchant.merchant_id, ErrorCode.INVOICE_MISMATCH, "N2", "advice must be for this merchant"
    )
    require(
        is_bound_to(merchant, body.iban),
        ErrorCode.ACCOUNT_BINDING_FAILURE,
        "N2",
        "account must be the one that the merchant's certificate is bound to",
    )
    require(is_net(body), ErrorCode.AMOUNT_MISMATCH, "N3", "net must be the sum of the lines, fees deducted")
    require(
        body.day <= instant(body.date).astimezone(IRAN_STANDARD_TIME).date(),
        ErrorCode.CLOCK_SKEW,
        "N4",
        "business day must have come when it is advised",
    )
    require(
        known in (None, received.digest),
        ErrorCode.HASH_MISMATCH,
        "N4",
        "a part of a business day is advised in one way",
    )
    return CheckedAdvice(body, message.body, received.digest)


def is_bound_to(merchant: MerchantIdentity, iban: str) -> bool:
    """The merchant's certificate commits to this account (`pki.extensions.AccountBinding`).

    :raises ProtocolError: invalidCertificate (N2) if it commits to none.
    """
    try:
        binding = AccountBinding.from_certificate(merchant.certificate)
    except CertificateError as error:
        raise ProtocolError(
            ErrorCode.INVALID_CERTIFICATE, "N2", f"account binding is not readable ({error.reason})"
        ) from None
    if binding is None:
        raise ProtocolError(ErrorCode.INVALID_CERTIFICATE, "N2", "certificate must be bound to an account")
    return binding == AccountBinding.of(iban, binding.salt)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A movement of money in the merchant's own book: by the hash of the gateway's answer, in rial.

    `fee` is what the contract with the acquirer says, None if the merchant does not reckon it.
    """

    kind: EntryKind
    xid: bytes
    h_answer: bytes
    amount: int
    fee: int | None = None


class DifferenceKind(StrEnum):
    """What is wrong with a line of an advice, or with a day."""

    PART_MISSING = "part_missing"
    """The day has more parts than came; other differences are told when all have."""
    NOT_ADVISED = "not_advised"
    """In the own book, not in the advice."""
    NOT_IN_BOOK = "not_in_book"
    """In the advice, not in the own book."""
    REPEATED = "repeated"
    """More than once in the advice."""
    OTHER_PURCHASE = "other_purchase"
    """Of another XID than in the own book."""
    OTHER_KIND = "other_kind"
    """Of another kind than in the own book."""
    OTHER_AMOUNT = "other_amount"
    OTHER_FEE = "other_fee"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: `expected` by the own book, `advised` by the acquirer. Rial for amounts and fees, otherwise None.

    `h_answer` says which movement it is about; of a missing part it is None, and `expected` its number.
    """

    kind: DifferenceKind
    h_answer: bytes | None
    expected: int | None = None
    advised: int | None = None


def differences(advice: Sequence[CheckedAdvice], ledger: Iterable[LedgerEntry]) -> tuple[Difference, ...]:
    """Every difference between a day's advice, all of its parts, and the merchant's own book; none if they agree.

    :param advice: the parts that came, of one business day. :param ledger: what the merchant reckons with for that day,
        each answer once.
    :raises ValueError: no part at all, or parts of different days.
    """
    if len({(each.body.business_date, each.body.parts) for each in advice}) != 1:
        raise ValueError("differences are those of one business day")
    missing = set(range(1, advice[0].body.parts + 1)) - {each.body.part for each in advice}
    if missing:
        return tuple(Difference(DifferenceKind.PART_MISSING, None, expected=part) for part in sorted(missing))
    lines = sorted({each.body.part: each for each in advice}.items())
    advised = sorted((line for _, each in lines for line in each.body.lines), key=lambda line: line.h_answer)
    book = {entry.h_answer: entry for entry in ledger}
    found: list[Difference] = []
    for h_answer, group in groupby(advised, key=lambda line: line.h_answer):
        found += _of_movement(list(group), book.pop(h_answer, None))
    found += (Difference(DifferenceKind.NOT_ADVISED, each.h_answer, expected=each.amount) for each in book.values())
    return tuple(found)


def _of_movement(lines: list[AdviceLine], entry: LedgerEntry | None) -> Iterable[Difference]:
    """The differences of the lines that name one answer."""
    line = lines[0]
    if len(lines) > 1:
        yield Difference(DifferenceKind.REPEATED, line.h_answer, expected=1, advised=len(lines))
    if entry is None:
        yield Difference(DifferenceKind.NOT_IN_BOOK, line.h_answer, advised=line.amount)
        return
    if line.xid != entry.xid:
        yield Difference(DifferenceKind.OTHER_PURCHASE, line.h_answer)
    if line.kind is not entry.kind:
        yield Difference(DifferenceKind.OTHER_KIND, line.h_answer, entry.kind, line.kind)
    if line.amount != entry.amount:
        yield Difference(DifferenceKind.OTHER_AMOUNT, line.h_answer, entry.amount, line.amount)
    if entry.fee is not None and line.fee != entry.fee:
        yield Difference(DifferenceKind.OTHER_FEE, line.h_answer, entry.fee, line.fee)
