"""Notice: what a registration authority tells another system of, signed as id-kwbp-ct-notice.

    {"at":"2027-01-01T09:00:00Z","attempt":1,"event":"returned","fields":{"application":"5f…"},"id":"9c…",
     "sent_at":"2027-01-01T09:00:02Z","version":1}

The content is JSON, for receivers that have no DER, in one form only: keys sorted, no blanks, ASCII. Every field has a
kind, and a kind admits no free text: whoever signs can say what it signs, and no card number, national code or account
can ride along in a sentence that a person wrote.

A receiver keeps the `id` of what it has taken (a repeat has the same one, and a higher `attempt`) and refuses what was
signed longer ago than its window: `sent_at` is the time of this attempt, `at` that of the event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from pki.errors import NoticeError

VERSION: Final = 1
SIGNER: Final = "urn:kwbp:service:ra"
"""Identity of the key that signs it."""
_LIMIT: Final = 4096  # bytes
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_ID: Final = re.compile(r"[0-9a-f]{32}")
_EVENT: Final = re.compile(r"[a-z][a-z_]{0,39}")
_INSTANT: Final = r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]Z"
_WORD: Final = r"[A-Za-z][A-Za-z_-]{0,39}"
_CLAUSE: Final = r"CPS [1-9](\.[0-9]{1,2}){0,3}"

FIELDS: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "application": r"[0-9a-f]{32}",
        "member_class": _WORD,
        "state": _WORD,
        "reason": _WORD,  # a code, such as a reason of RFC 5280 5.3.1
        "role": _WORD,
        "check": rf"{_WORD}(, {_WORD}){{0,7}}",
        "clauses": rf"{_CLAUSE}(, {_CLAUSE}){{0,15}}",
        "serials": r"[0-9a-f]{1,40}(, [0-9a-f]{1,40}){0,3}",
        "due": _INSTANT,
        "since": _INSTANT,
        "not_after": _INSTANT,
        "count": r"[0-9]{1,7}",
        "days": r"[0-9]{1,5}",
        "percent": r"[0-9]{1,3}",
        "statement": r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}",
    }.items()
}
"""The fields that a notice may have, and what each may hold."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice on its way; times are aware, in whole seconds, `attempt` counts from 1."""

    id: str
    event: str
    at: datetime
    sent_at: datetime
    attempt: int
    fields: Mapping[str, str]

    def to_json(self) -> bytes:
        """The content to sign."""
        document = {
            "version": VERSION,
            "id": self.id,
            "event": self.event,
            "at": written(self.at),
            "sent_at": written(self.sent_at),
            "attempt": self.attempt,
            "fields": dict(self.fields),
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read the content; NoticeError unless it is one, in its one form."""
        if len(content) > _LIMIT:
            raise NoticeError("too_long", f"a notice has at most {_LIMIT} bytes")
        try:
            document = json.loads(content)
            notice = cls._of(document)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise NoticeError("malformed", "a notice is a JSON object with seven members") from None
        check_fields(notice.fields)
        if _ID.fullmatch(notice.id) is None or _EVENT.fullmatch(notice.event) is None or notice.attempt < 1:
            raise NoticeError("bad_member", "a notice has an identifier, an event and a count of attempts")
        if document["version"] != VERSION or notice.to_json() != content:
            raise NoticeError("not_canonical", f"a notice of version {VERSION} has one form")
        return notice

    @classmethod
    def _of(cls, document: Any) -> Self:
        members = {name: document[name] for name in ("id", "event", "attempt", "fields")}
        if [type(value) for value in members.values()] != [str, str, int, dict]:
            raise TypeError("a member of another type")
        return cls(at=_read(document["at"]), sent_at=_read(document["sent_at"]), **members)


def check_fields(fields: Mapping[str, object]) -> None:
    """Raises NoticeError unless each field is known and holds what its kind admits."""
    for name, value in fields.items():
        kind = FIELDS.get(name)
        if kind is None or not isinstance(value, str) or kind.fullmatch(value) is None:
            raise NoticeError("bad_field", "a field of a notice is a known one and holds what its kind admits")


def written(moment: datetime) -> str:
    """A moment as the fields of a notice have it."""
    return moment.astimezone(UTC).strftime(_TIME)


def _read(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
