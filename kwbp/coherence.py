"""Rules about answers that both their signer and their reader apply."""

from __future__ import annotations

from kwbp.codes import AuthCode, CompletionCode, PurchaseStatus
from kwbp.messages import AuthResTBS, ReceiptTBS

_PERFORMED = (CompletionCode.AUTHORIZATION_PERFORMED, CompletionCode.CAPTURE_PERFORMED)


def carries_references(answer: AuthResTBS) -> bool:
    """A5: an approval names what the bank network calls it, or nobody could ever find it there again."""
    references = (answer.rc, answer.stan, answer.rrn, answer.masked_pan)
    return answer.auth_code is not AuthCode.APPROVED or None not in references


def leaves_open(answer: AuthResTBS) -> bool:
    """The answer does not say where the money is: the network did not tell, or another AuthReq has the order."""
    return answer.auth_code in (AuthCode.NO_REPLY, AuthCode.PI_PREVIOUSLY_USED)


def is_performed(receipt: ReceiptTBS) -> bool:
    """The receipt says that the purchase is done."""
    return receipt.completion_code in _PERFORMED


def claims_no_more(receipt: ReceiptTBS, answer: AuthResTBS) -> bool:
    """R6: the merchant may say less than the gateway (and give the money back), never more.

    To call an order rejected whose outcome is open would be more, too: the money may have moved.
    """
    performed = is_performed(receipt)
    if leaves_open(answer) and receipt.completion_code is not CompletionCode.ORDER_RECEIVED:
        return False
    return performed == receipt.particulars_ok and (not performed or answer.auth_code is AuthCode.APPROVED)


def tells_one_story(status: PurchaseStatus, *, has_result: bool, auth_res: AuthResTBS | None) -> bool:
    """U3: what a gateway says of a purchase now agrees with what it answered to the order then.

    Only what was approved, or open, is given back; it may have been open so long that nobody was answered at all.

    :param has_result: an answer was given. :param auth_res: that answer, unless it was an Error.
    """
    if status is PurchaseStatus.IN_PROGRESS:
        return not has_result
    if status is PurchaseStatus.CONCLUDED:
        return has_result and (auth_res is None or not leaves_open(auth_res))
    if auth_res is None:
        return not has_result
    return auth_res.auth_code is AuthCode.APPROVED or leaves_open(auth_res)
