"""An operation request for people, in English or Persian: every field that its digest covers, and the digest itself.

Made from the request's canonical form, on the machine of the officer who signs it. Parameters of lists and objects are
shown as the JSON that they are; texts are as the requester wrote them, so whoever prints the lines must see to it that
they cannot steer a terminal (`cli.output.plain`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from cps.canonical import canonical_json
from cps.decision import Choice
from hsm_service.key_approval import KeyApproval
from hsm_service.operation_request import KeyOperation, OperationRequest

Language = Literal["en", "fa"]

_OPERATIONS: Final[Mapping[KeyOperation, tuple[str, str]]] = {
    KeyOperation.GENERATE: ("make a new key", "ساختن کلید تازه"),
    KeyOperation.IMPORT: ("load a key from its components", "بارگذاری کلید از اجزای آن"),
    KeyOperation.ROTATE: ("make the next version of a key", "ساختن نسخهٔ بعدی کلید"),
    KeyOperation.ENABLE: ("put a key back into use", "بازگرداندن کلید به کار"),
    KeyOperation.DISABLE: ("take a key out of use", "بیرون‌بردن کلید از کار"),
    KeyOperation.DESTROY: ("destroy a key", "نابودکردن کلید"),
    KeyOperation.KEEP: ("take back the destruction of a key", "لغو نابودی کلید"),
    KeyOperation.BACKUP: ("wrap a key for another token", "پشتیبان‌گیری رمزشده از کلید برای توکن دیگر"),
    KeyOperation.RESTORE: ("restore a key from its backup", "بازیابی کلید از پشتیبان"),
    KeyOperation.LIMITS: ("change the limits of a key", "تغییر محدودیت‌های کلید"),
    KeyOperation.USE: ("sign one structure with a key", "یک امضا با کلید"),
}
_CHOICES: Final[Mapping[Choice, tuple[str, str]]] = {
    Choice.APPROVE: ("APPROVE", "موافقت"),
    Choice.REJECT: ("REJECT", "رد"),
}
_LABELS: Final[Mapping[str, tuple[str, str]]] = {
    "requester": ("asked by", "درخواست‌کننده"),
    "reason": ("because", "دلیل"),
    "requested": ("asked at", "زمان درخواست"),
    "expires": ("void after", "اعتبار درخواست تا"),
    "policy": ("under policy", "سیاست"),
    "digest": ("signed digest", "چکیدهٔ امضاشده"),
    "verdict reason": ("your reason", "دلیل شما"),
    "counts until": ("counts until", "اعتبار امضا تا"),
}
_WIDTH: Final = 16


def request_lines(request: OperationRequest, language: Language = "en") -> tuple[str, ...]:
    """All of a request, a line a fact."""
    name = _OPERATIONS[request.operation][_column(language)]
    return (
        f"{request.operation.upper()}  {name}",
        *(_line(key, _value(value)) for key, value in sorted(request.parameters.items())),
        _labelled("requester", request.requester, language),
        _labelled("reason", request.reason or "-", language),
        _labelled("requested", request.requested.isoformat(), language),
        _labelled("expires", request.expires.isoformat(), language),
        _labelled("policy", request.policy, language),
        _labelled("digest", request.id, language),
    )


def approval_lines(request: OperationRequest, approval: KeyApproval, language: Language = "en") -> tuple[str, ...]:
    """What an officer's signature will stand for: the verdict, and all of the request."""
    first, *rest = request_lines(request, language)
    return (
        f"{_CHOICES[approval.choice][_column(language)]}: {first}",
        *rest,
        _labelled("verdict reason", approval.reason or "-", language),
        _labelled("counts until", approval.expires.isoformat(), language),
    )


def _column(language: Language) -> int:
    return 1 if language == "fa" else 0


def _labelled(label: str, value: str, language: Language) -> str:
    return _line(_LABELS[label][_column(language)], value)


def _line(label: str, value: str) -> str:
    return f"  {label:<{_WIDTH}} {value}"


def _value(value: object) -> str:
    if isinstance(value, str):
        return value
    return canonical_json(value).decode("utf-8")
