"""Two rules about answers that both their signer and their reader apply."""

from __future__ import annotations

from kwbp.codes import AuthCode, CompletionCode
from kwbp.messages import AuthResTBS, ReceiptTBS

_PERFORMED = (CompletionCode.AUTHORIZATION_PERFORMED, CompletionCode.CAPTURE_PERFORMED)


def carries_references(answer: AuthResTBS) -> bool:
    """A5: an approval names what the bank network calls it, or nobody could ever find it there again."""
    references = (answer.rc, answer.stan, answer.rrn, answer.masked_pan)
    return answer.auth_code is not AuthCode.APPROVED or None not in references


def is_performed(receipt: ReceiptTBS) -> bool:
    """The receipt says that the purchase is done."""
    return receipt.completion_code in _PERFORMED


def claims_no_more(receipt: ReceiptTBS, answer: AuthResTBS) -> bool:
    """R6: the merchant may say less than the gateway (and give the money back), never more."""
    performed = is_performed(receipt)
    return performed == receipt.particulars_ok and (not performed or answer.auth_code is AuthCode.APPROVED)
