"""PKCS#11 URIs (RFC 7512): which token, in which module, and where its PIN is; read strictly, written canonically.

    pkcs11:token=ca?pin-source=file:/run/secrets/ca.pin&module-path=/usr/lib/softhsm/libsofthsm2.so

`pin-value` is refused: a PIN inside a URI ends in logs, process lists and shell histories (RFC 7512 7). No error
repeats a value of the URI, because what was mistyped may be that PIN. Vendor attributes are refused as well: what we do
not understand might have narrowed the choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final, Self
from urllib.parse import quote_from_bytes, unquote_to_bytes

SCHEME: Final = "pkcs11:"
TYPES: Final = frozenset({"public", "private", "cert", "secret-key", "data"})

# RFC 7512 2.3: what may stand in a value without percent-encoding.
_AVAILABLE: Final = ":[]@!$'()*+,="
_PATH_SAFE: Final = _AVAILABLE + "&"
_QUERY_SAFE: Final = _AVAILABLE + "/?|"
_PATH_VALUE: Final = re.compile(rf"(?:[A-Za-z0-9._~{re.escape(_PATH_SAFE)}-]|%[0-9A-Fa-f]{{2}})*")
_QUERY_VALUE: Final = re.compile(rf"(?:[A-Za-z0-9._~{re.escape(_QUERY_SAFE)}-]|%[0-9A-Fa-f]{{2}})*")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_VERSION: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_NUMBER: Final = re.compile(r"[0-9]+")

_PIN_VALUE: Final = "pin-value"
_QUERY: Final = frozenset({"pin_source", "module_path", "module_name"})
_LONGEST: Final = {"token": 32, "manufacturer": 32, "serial": 16, "model": 16, "library_manufacturer": 32}
"""Bytes of the fixed fields of CK_TOKEN_INFO and CK_INFO (PKCS#11 v2.40 3.2, 3.1): a longer value matches nothing."""


class TokenUriError(ValueError):
    """Not a PKCS#11 URI that we accept; says which attribute and which rule, never a value."""


@dataclass(frozen=True, slots=True)
class TokenUri:
    """A PKCS#11 URI; an attribute that is absent is None. Text is decoded, `id` is bytes, `slot_id` a number."""

    token: str | None = None
    manufacturer: str | None = None
    serial: str | None = None
    model: str | None = None
    library_manufacturer: str | None = None
    library_description: str | None = None
    library_version: str | None = None
    object: str | None = None
    type: str | None = None
    id: bytes | None = None
    slot_description: str | None = None
    slot_manufacturer: str | None = None
    slot_id: int | None = None
    pin_source: str | None = None
    module_path: str | None = None
    module_name: str | None = None

    def __post_init__(self) -> None:
        for field, value in self._present():
            name = _attribute(field)
            if isinstance(value, str) and "\0" in value:
                raise TokenUriError(f"{name} holds a NUL character")
            if field in _LONGEST and len(value.encode()) > _LONGEST[field]:
                raise TokenUriError(f"{name} is longer than the {_LONGEST[field]} bytes that PKCS#11 has for it")
        if self.type is not None and self.type not in TYPES:
            raise TokenUriError(f"type is none of {', '.join(sorted(TYPES))} (RFC 7512 2.3)")
        if self.library_version is not None and not _VERSION.fullmatch(self.library_version):
            raise TokenUriError("library-version is not a number or two numbers with a dot (RFC 7512 2.3)")
        if self.slot_id is not None and not 0 <= self.slot_id < 1 << 64:
            raise TokenUriError("slot-id is not a CK_ULONG")
        if self.module_path is not None and not self.module_path.startswith("/"):
            # A relative path would let the working directory decide which library reads the PIN.
            raise TokenUriError("module-path is not absolute")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URI; raises TokenUriError for everything that RFC 7512 does not allow, and for `pin-value`."""
        if text[: len(SCHEME)].lower() != SCHEME:
            raise TokenUriError(f"a PKCS#11 URI begins with {SCHEME}")
        path, question, query = text[len(SCHEME) :].partition("?")
        if question and not query:
            raise TokenUriError("the query after '?' is empty")
        values: dict[str, Any] = {}
        for part, separator, in_query in ((path, ";", False), (query, "&", True)):
            for name, value in _attributes(part, separator, in_query):
                field = name.replace("-", "_")
                if field in values:
                    raise TokenUriError(f"{name} is given twice (RFC 7512 2.3)")
                values[field] = _decode(name, value, _QUERY_VALUE if in_query else _PATH_VALUE)
        return cls(**values)

    def __str__(self) -> str:
        """The canonical form: attributes in the order of the fields, everything encoded that has to be."""
        path, query = [], []
        for field, value in self._present():
            raw = value if isinstance(value, bytes) else str(value).encode()
            if field in _QUERY:
                query.append(f"{_attribute(field)}={quote_from_bytes(raw, _QUERY_SAFE)}")
            elif field == "id":  # RFC 7512 2.3: each byte of id should be encoded
                path.append("id=" + "".join(f"%{byte:02X}" for byte in raw))
            else:
                path.append(f"{_attribute(field)}={quote_from_bytes(raw, _PATH_SAFE)}")
        return SCHEME + ";".join(path) + ("?" + "&".join(query) if query else "")

    def _present(self) -> Iterator[tuple[str, Any]]:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None:
                yield each.name, value


_FIELDS: Final = frozenset(each.name for each in fields(TokenUri))


def _attribute(field: str) -> str:
    return field.replace("_", "-")


def _attributes(part: str, separator: str, in_query: bool) -> Iterator[tuple[str, str]]:
    """Names and raw values of the path or the query; the name is known and stands in the right part."""
    for each in part.split(separator) if part else ():
        name, equals, value = each.partition("=")
        if name == _PIN_VALUE:
            raise TokenUriError(
                f"{_PIN_VALUE} is refused, because a PIN in a URI ends in logs; name a pin-source instead"
            )
        if not equals or not _NAME.fullmatch(name):
            raise TokenUriError(f"an attribute is not name=value, separated by {separator!r} (RFC 7512 2.3)")
        field = name.replace("-", "_")
        if field not in _FIELDS or name != _attribute(field):
            raise TokenUriError(f"{name!r} is no attribute that we know")
        if (field in _QUERY) is not in_query:
            raise TokenUriError(f"{name} belongs {'before' if in_query else 'after'} the '?'")
        yield name, value


def _decode(name: str, value: str, allowed: re.Pattern[str]) -> str | bytes | int:
    if not allowed.fullmatch(value):
        raise TokenUriError(f"{name} holds a character that must be percent-encoded (RFC 7512 2.3)")
    raw = unquote_to_bytes(value)
    if name == "id":
        return raw
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        # The exception of the decoder would hold the bytes.
        raise TokenUriError(f"{name} is not UTF-8") from None
    if name != "slot-id":
        return text
    if not _NUMBER.fullmatch(text) or len(text) > 20:
        raise TokenUriError("slot-id is not a number")
    return int(text)
