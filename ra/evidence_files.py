"""Documents that come in as evidence: what they are is read from their content, never from a name or a claim.

Few types are taken, and of each the structure is walked from the first byte to the last, so that nothing hangs behind
it and no second format reads the same bytes (a polyglot). A document that does something when it is opened (a PDF with
JavaScript, one that starts programs) is refused. This is no virus scanner: it keeps out what no document needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from cps.evidence_files import EvidenceFiles, MediaType
from cps.model import Pack
from cps.rules import Rule
from ra.errors import InvalidSubmissionError, TooLargeError
from ra.evidence_images import jpeg_fault, png_fault, tiff_fault
from ra.evidence_pdf import pdf_fault
from runtime.language import Listed, Message

# The end of an archive's directory: 22 bytes and a comment of the length that the last two of them tell.
_ZIP_END: Final = re.compile(rb"PK\x05\x06(?=.{16}(..)).{18}", re.DOTALL)
_ZIP_TAIL: Final = 22 + 65535
_LARGEST_FORM: Final = 16_384  # bytes of a signed form, which travels with the case; one with its chain is under 8 kB
_PDF_HEAD: Final = 1024  # bytes in which readers look for a PDF's header
_CMS: Final = re.compile(rb"\x30.{1,5}\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07[\x01-\x06]", re.DOTALL)
_SCRIPT: Final = re.compile(r"\s*(#!|<(!doctype|html|head|body|script|svg|\?xml|\?php))", re.IGNORECASE)
# Unicode's control characters, which are these for good, but for line ends and tabs. Looked for by an expression: one
# by one, the ten million characters of a large document took more than a second, in which nobody else was served.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_DIRECTION: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_MAGIC: Final[tuple[tuple[re.Pattern[bytes], MediaType], ...]] = (
    (re.compile(rb"%PDF-[12]\.[0-9]"), "application/pdf"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"II\*\x00|MM\x00\*"), "image/tiff"),
    (_CMS, "application/pkcs7-mime"),
)


def check_document(body: bytes, claimed: str | None, pack: Pack, *, on_file: int = 0) -> MediaType:
    """The type of a document; `claimed` is what whoever sends it says it is, `on_file` how many bytes the case has.

    Raises TooLargeError, and InvalidSubmissionError naming CPS 4.2.1 for any other fault. No text quotes the document.
    """
    rule, clause = pack.evidence_files, pack.clause(Rule.EVID_FILE)
    check_size(len(body), rule, clause, on_file=on_file)
    found = media_type(body)
    if found is None or found not in rule.types:
        raise InvalidSubmissionError(
            "a document is one of these: {types}", clause=clause, types=Listed(rule.types, "or")
        )
    if claimed is not None and claimed != found:
        raise InvalidSubmissionError("the document is {found}, and not what it was called", clause=clause, found=found)
    fault = _FAULTS[found](body) or _polyglot(body, found)
    if fault is not None:
        raise InvalidSubmissionError("the document ({found}): {fault}", clause=clause, found=found, fault=fault)
    return found


def check_size(size: int, rule: EvidenceFiles, clause: str, *, on_file: int = 0) -> None:
    """Raise TooLargeError for a document of `size` bytes beside `on_file` bytes that the case has already."""
    if size > rule.largest_bytes:
        raise TooLargeError("a document has at most {most} MiB", clause=clause, most=rule.largest)
    if size + on_file > rule.together_bytes:
        raise TooLargeError("the documents of a case have at most {most} MiB", clause=clause, most=rule.together)


def check_form(size: int) -> None:
    """Raise InvalidSubmissionError for a signed form of `size` bytes that is too large to travel with its case."""
    if size > _LARGEST_FORM:
        raise InvalidSubmissionError("a signed form has at most {most} bytes", clause="CPS 4.2.1", most=_LARGEST_FORM)


def media_type(body: bytes) -> MediaType | None:
    """The type that the content begins like; None for everything else, archives and programs among it."""
    for magic, found in _MAGIC:
        if magic.match(body):
            return found
    return "text/plain" if _decoded(body) is not None else None


def _decoded(body: bytes) -> str | None:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text


def _text_fault(body: bytes) -> Message | None:
    text = body.decode("utf-8")
    if not text.strip():
        return Message("it is empty")
    if not _DIRECTION.isdisjoint(text):
        return Message("it controls the direction of its text")
    return Message("it is a program or a page") if _SCRIPT.match(text) else None


def _cms_fault(body: bytes) -> Message | None:
    octets = body[1] & 0x7F if body[1] & 0x80 else 0  # of a length in the long form; DER has no indefinite one
    length = int.from_bytes(body[2 : 2 + octets], "big") if octets else body[1]
    return None if len(body) == 2 + octets + length else Message("it does not end where its structure ends")


def _polyglot(body: bytes, found: MediaType) -> Message | None:
    """Formats that are read from the end, or from wherever their header stands."""
    tail = body[-_ZIP_TAIL:]
    if any(len(tail) == each.end() + int.from_bytes(each[1], "little") for each in _ZIP_END.finditer(tail)):
        return Message("it is an archive as well")
    if found != "application/pdf" and b"%PDF-" in body[:_PDF_HEAD]:
        return Message("it is a PDF as well")
    return None


_FAULTS: Final[Mapping[MediaType, Callable[[bytes], Message | None]]] = {
    "application/pdf": pdf_fault,
    "image/png": png_fault,
    "image/jpeg": jpeg_fault,
    "image/tiff": tiff_fault,
    "text/plain": _text_fault,
    "application/pkcs7-mime": _cms_fault,
}
