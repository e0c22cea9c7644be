"""What the wallet tells a person, in Persian and English.

A refusal is said in the words of whoever must decide what to do next, not in those of the protocol; the protocol's own
code and check follow in brackets for support.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from kwbp.codes import AuthCode, ErrorCode


class Language(StrEnum):
    """Languages of the wallet, RFC 5646 tags."""

    FA = "fa"
    EN = "en"


_PERSIAN_DIGITS: Final = str.maketrans("0123456789,", "۰۱۲۳۴۵۶۷۸۹٬")

REFUSALS: Final[dict[ErrorCode, dict[str, str]]] = {
    ErrorCode.REVOKED_CERTIFICATE: {
        "fa": "گواهینامه باطل شده است؛ از این فروشنده خرید نکنید.",
        "en": "The certificate has been revoked: do not buy here.",
    },
    ErrorCode.EXPIRED_CERTIFICATE: {
        "fa": "اعتبار گواهینامه پایان یافته است.",
        "en": "The certificate has expired.",
    },
    ErrorCode.INVALID_CERTIFICATE: {
        "fa": "گواهینامه به این فروشگاه یا به ریشهٔ مورد اعتماد شما تعلق ندارد.",
        "en": "The certificate does not belong to this shop or to the root that you trust.",
    },
    ErrorCode.ROLE_NOT_ALLOWED: {
        "fa": "این گواهینامه برای این کار صادر نشده است.",
        "en": "The certificate was not issued for this purpose.",
    },
    ErrorCode.NOT_ONLINE_MERCHANT: {
        "fa": "این فروشنده مجاز به فروش برخط نیست.",
        "en": "This merchant is not allowed to sell online.",
    },
    ErrorCode.SIGNATURE_FAILURE: {
        "fa": "امضا درست نیست؛ پیام در راه تغییر کرده است.",
        "en": "The signature does not verify: the message was changed on its way.",
    },
    ErrorCode.AMOUNT_MISMATCH: {
        "fa": "مبلغ با آنچه امضا شده یکی نیست.",
        "en": "The amount is not the one that was signed.",
    },
    ErrorCode.INVOICE_MISMATCH: {
        "fa": "فاکتور با سفارش شما یکی نیست.",
        "en": "The invoice is not about your order.",
    },
    ErrorCode.HASH_MISMATCH: {
        "fa": "اجزای سفارش به هم نمی‌خورند.",
        "en": "The parts of the order do not belong together.",
    },
    ErrorCode.GATEWAY_MISMATCH: {
        "fa": "درگاه پرداخت همان درگاه فاکتور نیست.",
        "en": "The payment gateway is not the one of the invoice.",
    },
    ErrorCode.ENVELOPE_MISMATCH: {
        "fa": "اطلاعات مهرشدهٔ کارت همان نیست که شما امضا کردید.",
        "en": "The sealed card data are not those that you signed.",
    },
    ErrorCode.INVOICE_EXPIRED: {
        "fa": "مهلت فاکتور گذشته است؛ فاکتور تازه بگیرید.",
        "en": "The invoice is no longer in force: ask for a new one.",
    },
    ErrorCode.XID_ALREADY_USED: {
        "fa": "این سفارش پیش‌تر فرستاده شده است.",
        "en": "This order was placed before.",
    },
    ErrorCode.BCI_STALE: {
        "fa": "وضعیت گواهینامه‌ها به‌روز نیست؛ کمی بعد دوباره بکوشید.",
        "en": "The status of the certificates cannot be had at the moment: try again later.",
    },
    ErrorCode.UNKNOWN_OUTCOME: {
        "fa": "نتیجه هنوز روشن نیست؛ دوباره پرس‌وجو کنید. اگر برداشتی شده باشد بازگردانده می‌شود.",
        "en": "The outcome is still open: ask again. Whatever was debited is given back.",
    },
    ErrorCode.ACK_TIMEOUT: {
        "fa": "پاسخ دیر رسید؛ مبلغ بازگردانده می‌شود.",
        "en": "The answer came too late: the amount is given back.",
    },
    ErrorCode.MESSAGE_TOO_OLD: {
        "fa": "ساعت دستگاه شما با ساعت فروشگاه هم‌خوان نیست.",
        "en": "Your clock and the shop's clock do not agree.",
    },
    ErrorCode.MESSAGE_TOO_NEW: {
        "fa": "ساعت دستگاه شما با ساعت فروشگاه هم‌خوان نیست.",
        "en": "Your clock and the shop's clock do not agree.",
    },
    ErrorCode.CHALLENGE_MISMATCH: {
        "fa": "پاسخ برای سفارش دیگری است.",
        "en": "The answer is about another order.",
    },
}

_OTHER: Final[dict[str, str]] = {"fa": "پیام پذیرفته نشد.", "en": "The message was not accepted."}

OUTCOMES: Final[dict[AuthCode, dict[str, str]]] = {
    AuthCode.APPROVED: {"fa": "پرداخت انجام شد.", "en": "Paid."},
    AuthCode.DECLINED: {"fa": "بانک پرداخت را نپذیرفت.", "en": "The bank declined the payment."},
    AuthCode.NO_REPLY: {
        "fa": "بانک پاسخ نداد؛ اگر برداشتی شده باشد بازگردانده می‌شود.",
        "en": "The bank did not answer: whatever was debited is given back.",
    },
    AuthCode.CALL_ISSUER: {"fa": "با بانک خود تماس بگیرید.", "en": "Call your bank."},
    AuthCode.EXPIRED_CARD: {"fa": "تاریخ کارت گذشته است.", "en": "The card has expired."},
    AuthCode.AMOUNT_ERROR: {"fa": "بانک مبلغ را نپذیرفت.", "en": "The bank did not accept the amount."},
}

LABELS: Final[dict[str, dict[str, str]]] = {
    "invoice": {"fa": "فاکتور", "en": "Invoice"},
    "merchant": {"fa": "فروشنده", "en": "Merchant"},
    "total": {"fa": "جمع", "en": "Total"},
    "rial": {"fa": "ریال", "en": "rial"},
    "toman": {"fa": "تومان", "en": "toman"},
    "terms": {"fa": "تعهد فروشنده", "en": "The merchant's promise"},
    "consent": {"fa": "این فاکتور را امضا و پرداخت می‌کنید؟", "en": "Sign and pay this invoice?"},
    "reference": {"fa": "شمارهٔ پیگیری", "en": "Reference"},
    "card": {"fa": "کارت", "en": "Card"},
}


def refusal(code: ErrorCode, language: Language) -> str:
    """A refusal in one sentence."""
    return REFUSALS.get(code, _OTHER)[language]


def outcome(code: AuthCode, language: Language) -> str:
    """The gateway's answer in one sentence."""
    return OUTCOMES.get(code, OUTCOMES[AuthCode.DECLINED])[language]


def label(key: str, language: Language) -> str:
    return LABELS[key][language]


def digits(text: str, language: Language) -> str:
    """Persian digits for Persian readers. Never for protocol bytes, logs or files."""
    return text.translate(_PERSIAN_DIGITS) if language is Language.FA else text


def amount(rial: int, language: Language) -> str:
    """An amount in rial, and in toman in brackets: people reckon in toman, the protocol signs rial."""
    shown = f"{rial:,} {label('rial', language)}"
    if rial % 10 == 0:
        shown += f" ({rial // 10:,} {label('toman', language)})"
    return digits(shown, language)
