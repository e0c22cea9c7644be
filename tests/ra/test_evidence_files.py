"""Documents are what their bytes are; each hostile one has one thing wrong."""

from __future__ import annotations

import subprocess
import unicodedata
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cps.rules import Rule
from ra.errors import InvalidSubmissionError, TooLargeError
from ra.evidence_files import check_document, media_type
from tests.support.cps_cases import Office
from tests.support.documents import (
    CMS,
    IDAT,
    IEND,
    IHDR,
    JPEG,
    PDF,
    PNG,
    PNG_HEAD,
    TEXT,
    ZIP,
    jpeg_part,
    object_stream,
    pdf,
    png_chunk,
    stream,
    tiff,
)

SOUND = {
    "pdf": (PDF, "application/pdf"),
    "png": (PNG, "image/png"),
    "jpeg": (JPEG, "image/jpeg"),
    "tiff": (tiff(), "image/tiff"),
    "tiff, big-endian": (tiff(">"), "image/tiff"),
    "text": (TEXT, "text/plain"),
    "cms": (CMS, "application/pkcs7-mime"),
    "cms, long form": (b"\x30\x81\x8f" + CMS[2:13] + bytes([0xA0, 0x81, 0x81]) + bytes(129), "application/pkcs7-mime"),
}
SCRIPT = b"<< /Type /Action /S /JavaScript /JS (app.alert\\(1\\)) >>"
HOSTILE = {
    "nothing": (b"", "it is empty"),
    "blanks": (b" \n", "it is empty"),
    "a program": (b"\x7fELF\x02\x01\x01" + bytes(9), "a document is one of these"),
    "a Windows program": (b"MZ\x90\x00" + bytes(60), "a document is one of these"),
    "an archive": (b"PK\x03\x04" + bytes(26) + ZIP, "a document is one of these"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(8), "a document is one of these"),
    "other bytes": (b"\xfe\xff\x00a", "a document is one of these"),
    "a script": (b"#!/bin/sh\nrm -rf /\n", "it is a program or a page"),
    "a page": (b" <!DOCTYPE html><p>", "it is a program or a page"),
    "an image that is a program": (b"<svg onload='x'/>", "it is a program or a page"),
    "text with an escape": (b"approved \x1b[8m", "a document is one of these"),
    "text turned round": ("approved \u202e".encode(), "it controls the direction"),
    "text that is a PDF": (b"see below\n" + PDF[:60].replace(b"\x00", b""), "it is a PDF as well"),
    "png and something": (PNG + b"<script>", "something follows behind its end"),
    "png and an archive": (PNG + ZIP, "something follows behind its end"),
    "png with a wrong checksum": (PNG_HEAD + IHDR + IDAT[:-1] + b"\x00" + IEND, "its parts are damaged"),
    "png without a header": (PNG_HEAD + IDAT + IEND, "its parts are damaged"),
    "png with two headers": (PNG_HEAD + IHDR + IHDR + IEND, "its parts are damaged"),
    "png cut off": (PNG[:-12], "it ends in the middle"),
    "png cut in a part": (PNG_HEAD + IHDR[:-2], "its parts are damaged"),
    "png holding an archive's end": (
        PNG_HEAD + IHDR + png_chunk(b"tEXt", ZIP[:20] + (16).to_bytes(2, "little")) + IEND, "it is an archive as well",
    ),
    "png holding a PDF": (PNG_HEAD + IHDR + png_chunk(b"tEXt", b"%PDF-1.7") + IEND, "it is a PDF as well"),
    "jpeg and something": (JPEG + b"\x00", "something follows behind its end"),
    "jpeg without a picture": (b"\xff\xd8" + jpeg_part(0xE0, b"JFIF") + b"\xff\xd9", "it shows nothing"),
    "jpeg cut off": (JPEG[:-2], "it ends in the middle"),
    "jpeg of a part too long": (b"\xff\xd8\xff\xe0\xff\xff", "its parts are damaged"),
    "jpeg of a part too short": (b"\xff\xd8\xff\xe0\x00\x01", "its parts are damaged"),
    "jpeg without a marker": (b"\xff\xd8\xff\xe0\x00\x02abc", "its parts are damaged"),
    "tiff cut off": (tiff()[:-2], "it ends in the middle"),
    "tiff of nothing": (b"II*\x00" + bytes(4), "it shows nothing"),
    "tiff that goes round": (tiff(following=8), "its parts are damaged"),
    "tiff pointing into its head": (b"II*\x00\x04\x00\x00\x00" + bytes(20), "its parts are damaged"),
    "tiff pointing out": (tiff(entries=b"\x00\x01\x02\x00\xff\x00\x00\x00\xff\x00\x00\x00"), "its parts are damaged"),
    "tiff of an unknown kind": (tiff(entries=b"\x00\x01\x63\x00\x01\x00\x00\x00\x00\x00\x00\x00"), "its parts are"),
    "cms and something": (CMS + b"\x00", "it does not end where its structure ends"),
    "cms of no length": (b"\x30\x80" + CMS[2:] + b"\x00\x00", "it does not end where its structure ends"),
    "pdf with a script": (pdf(SCRIPT), "it does something when it is opened"),
    "pdf with an escaped script": (pdf(SCRIPT.replace(b"/JavaScript", b"/J#61v#61Script")), "it does something"),
    "pdf with a short script": (pdf(b"<< /JS 9 0 R >>"), "it does something"),
    "pdf with a packed script": (pdf(object_stream(SCRIPT)), "it does something"),
    "pdf with a short packed script": (pdf(object_stream(b"<< /J#53 (x) >>")), "it does something"),
    "pdf with a script in a stream that is none": (
        pdf(b"% stream\n" + SCRIPT + b"\n% endstream"), "it does something",
    ),
    "pdf with a packed script under no name": (
        pdf(stream(zlib.compress(b"9 0 " + SCRIPT), b"/Filter /FlateDecode")), "it does something",
    ),
    "pdf with an unpacked object stream": (
        pdf(stream(b"9 0 << /JS (x) >>", b"/Type /ObjStm /N 1 /First 4")), "it does something",
    ),
    "pdf that starts a program": (pdf(b"<< /S /Launch /F (cmd.exe) >>"), "it does something"),
    "pdf that carries a file": (pdf(b"<< /Names << /EmbeddedFiles 9 0 R >> >>"), "carries another file"),
    "pdf with a form of XML": (pdf(b"<< /AcroForm << /XFA 9 0 R >> >>"), "it does something"),
    "pdf that is encrypted": (pdf(b"<< /Encrypt 9 0 R >>"), "it is encrypted"),
    "pdf that hides its objects": (
        pdf(object_stream(b"<< >>", b"/Filter [/ASCIIHexDecode /FlateDecode]")), "it hides its objects",
    ),
    "pdf that hides its objects in a predictor": (
        pdf(object_stream(b"<< >>", b"/Filter /FlateDecode /DecodeParms << /Predictor 12 >>")), "it hides its objects",
    ),
    "pdf and something": (pdf(tail=b"MZ"), "something follows behind its end"),
    "pdf and an archive": (pdf(tail=ZIP), "something follows behind its end"),
    "pdf with an archive around its end": (
        pdf(tail=b"").replace(b"trailer", b"% PK\x05\x06" + bytes(16) + b"\x30\x00\ntrailer"), "",
    ),
    "pdf cut off": (PDF[:-30], "it does not end as a PDF"),
    "pdf of too many parts": (pdf(b"stream\n" * 50_001), "it has more parts than a document needs"),
    "pdf that unpacks to too much": (
        pdf(*[object_stream(bytes(33 << 20))] * 2), "it unpacks to more than a document needs",
    ),
}  # fmt: skip
HOSTILE["pdf with an archive around its end"] = (
    (lambda body, at: body[: at + 20] + (len(body) - at - 22).to_bytes(2, "little") + body[at + 22 :])(
        body := HOSTILE["pdf with an archive around its end"][0], body.index(b"PK\x05\x06")
    ),
    "it is an archive as well",
)


@pytest.mark.parametrize(("body", "found"), SOUND.values(), ids=SOUND)
def test_sound_documents_are_taken_for_what_they_are(office: Office, body: bytes, found: str) -> None:
    assert check_document(body, None, office.pack) == found
    assert check_document(body, found, office.pack) == found


@pytest.mark.parametrize(("body", "told"), HOSTILE.values(), ids=HOSTILE)
def test_one_thing_wrong_is_refused_with_the_clause(office: Office, body: bytes, told: str) -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        check_document(body, None, office.pack)
    assert refused.value.clause == office.pack.clause(Rule.EVID_FILE) == "CPS 4.2.1"
    assert told in str(refused.value)


@pytest.mark.parametrize("claimed", ["image/png", "application/zip", "text/html"])
def test_a_document_under_another_name_is_refused(office: Office, claimed: str) -> None:
    with pytest.raises(InvalidSubmissionError, match="not what it was called"):
        check_document(PDF, claimed, office.pack)


def test_a_text_has_no_control_character_but_line_ends_and_tabs() -> None:
    refused = {each for each in map(chr, range(0xD800)) if media_type(f"a{each}b".encode()) is None}
    controls = {each for each in map(chr, range(0x110000)) if unicodedata.category(each) == "Cc"}
    assert refused == controls - set("\n\r\t")


def test_sizes_are_those_of_the_statement(office: Office) -> None:
    rule = office.pack.evidence_files
    assert check_document(b"x" * rule.largest_bytes, None, office.pack) == "text/plain"
    with pytest.raises(TooLargeError, match=f"at most {rule.largest} MiB") as refused:
        check_document(b"x" * (rule.largest_bytes + 1), None, office.pack)
    assert refused.value.clause == "CPS 4.2.1"
    with pytest.raises(TooLargeError, match=f"of a case have at most {rule.together} MiB"):
        check_document(b"xx", None, office.pack, on_file=rule.together_bytes - 1)


def test_a_type_that_the_statement_does_not_take_is_refused(office: Office) -> None:
    files = office.pack.evidence_files.model_copy(update={"types": ("application/pdf",)})
    pack = office.pack.model_copy(update={"evidence_files": files})
    assert check_document(PDF, None, pack) == "application/pdf"
    with pytest.raises(InvalidSubmissionError, match="one of these: application/pdf"):
        check_document(PNG, None, pack)


@given(st.sampled_from([body for body, _found in SOUND.values()]), st.data())
def test_no_damage_is_a_fault_of_ours(office: Office, body: bytes, data: st.DataObject) -> None:
    damaged = bytearray(body)
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(body)))])
    found: str | None = media_type(cut)
    clause: str | None = "CPS 4.2.1"
    try:
        found = check_document(cut, None, office.pack)
    except InvalidSubmissionError as refused:
        clause = refused.clause
    assert (found, clause) == (media_type(cut), "CPS 4.2.1")


def test_documents_of_other_programs_are_taken(office: Office, tmp_path: Path) -> None:
    signed = tmp_path / "signed.der"
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        ["openssl", "cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-signer", str(certificate),
         "-inkey", str(key), "-out", str(signed)],
        input=TEXT, check=True, capture_output=True,
    )  # fmt: skip
    assert check_document(signed.read_bytes(), "application/pkcs7-mime", office.pack) == "application/pkcs7-mime"
