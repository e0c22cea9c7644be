"""Readers of frames and messages of the bank network, of logs, wallets, bundles, forms, EST bodies and YAML."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.serialization import Encoding

from audit.checkpoint import Checkpoint, Progress
from audit.checkpoint_files import SignedCheckpoint
from audit.entry import decode as decode_entry
from audit.entry import encode as encode_entry
from audit.entry import line
from audit.errors import NoteError
from audit.note import Note, Signature, VerifierKey
from audit.proof import Extra, Proof
from audit.tiles import decode_bundle, encode_bundle
from audit.verify import BrokenJournalError, HeadRecord, TreeHead, check_line, parse_checkpoint
from ca.ceremony.acts import load_ceremony, ready_made
from ca.ceremony.transcript import Transcript, read_transcript
from ca.errors import CeremonyError
from cps import strict_yaml as cps_yaml
from cps.decision import Choice
from cps.dossier import Dossier as Case
from cps.errors import DossierError, PackError
from cps.model import load_pack
from cps.packs import published, published_file
from gateway.acquirer.bank_answer import BankAnswerError, read_answer
from hsm_service.key_approval import KeyApproval, build_approval, parse_approval
from hsm_service.operation_request import RequestError, parse_request
from kwbp.structure import decode
from kwbp.wrapper import KwbpMessage
from ra.checks.connector import NoAnswerError, Question
from ra.checks.wire import read_accepted, read_facts
from ra.errors import InvalidSubmissionError, RequestSignatureError
from ra.est_encoding import from_base64
from ra.est_requests import read_request as read_est_request
from ra.evidence_files import media_type
from ra.evidence_images import jpeg_fault, png_fault, tiff_fault
from ra.evidence_pdf import pdf_fault
from ra.request_signature import Head, content_digest, parse, require_digest, sign
from runtime.secrets import Secret
from shetab import explain
from shetab.dialect import Dialect, Direction
from shetab.errors import DialectError, FramingError, PinBlockError, ValueFormatError
from shetab.framing import Framing
from shetab.json_form import JsonForm
from shetab.message import Message
from shetab.pin_block import PinBlockFormat, parse_pin_field
from shetab.pin_block import parse as parse_pin_block
from shetab.pin_block import seal as seal_pin_block
from shetab.pin_block import unseal as unseal_pin_block
from shetab.settlement_list import ListedMovement, SettlementList, SettlementListError, read_list, write_list
from shetab.subfields import AdditionalData, OriginalDataElements, SecurityControl
from shetab.types import Pan, Pin
from shetab.zone_keys import parse_component, unwrap, unwrap_pair, wrap, wrap_pair
from storefront import strict_yaml as shop_yaml
from storefront.errors import BundleRefused, WalletLocked
from storefront.evidence.bundle import write_bundle
from storefront.evidence.folder import read_folder
from storefront.evidence.judgement import judge
from storefront.evidence.movements import read_pair
from storefront.wallet import container
from storefront.wallet.records import check_record
from tests.fuzz.decoder import Decoder
from tests.fuzz.reading_protocol import catalogue
from tests.hsm_service.test_operation_request import make as make_request
from tests.support import bank_messages, documents
from tests.support.cps_cases import Office
from tests.support.iso8583_messages import request_fields, response_fields
from tests.support.pki_factory import DAY, NOW, p256

_PASSPHRASE: Final = Secret(b"a passphrase for a wallet of the fuzzer")
_ZONE_MASTER: Final = bytes(range(0x10, 0x20))
_XID: Final = "2a" * 20
_PURCHASE: Final = {
    "state": "PAID",
    "origin": "https://bookshop.example",
    "rrpid": "2b" * 20,
    "xid": _XID,
    "chall_c": "2c" * 32,
    "h_oi_data": "2d" * 32,
    "h_dual_sig": "2e" * 32,
    "amount": 6_400_000,
    "merchant_id": "M-1",
    "mer_cert_hash": "2f" * 32,
    "gw_id": "GW-1",
    "acquirer_bin": "581672",
    "ordered_at": "2026-11-23T10:00:00Z",
}
_WITHIN_JSON: Final = 2 * 1024 * 1024
"""An empty list in JSON has three bytes and becomes an object of 56, and Python's numbers are no smaller: a reader of
JSON or YAML bounds its input (64 KiB at most, but for the files of officers) and takes some forty times that."""
_WITHIN_YAML: Final = 192 * 1024 * 1024
"""A node of YAML is an object with two places in the text. What is YAML here are files of officers and shopkeepers on
their own machines; nobody else's bytes get there."""
_CALLS_OF_YAML: Final = 20_000_000
_HEAD: Final = Head(
    "POST", "https", "ra.example:8443", "/applications/1", "", {"content-digest": content_digest(b"{}")}
)
_QUESTION: Final = Question("iban_owner", "key-1", {"iban": "IR570560123456789012345678", "name": "Bookshop"})
_PAN: Final = Pan("6037991234567893")
_DIRECTIONS: Final = tuple(Direction)


@cache
def _log_key() -> VerifierKey:
    return VerifierKey.log("kwbp/1/log-hsm", ec.derive_private_key(7, ec.SECP256R1()).public_key())


_LIST_KEY: Final = ec.derive_private_key(7, ec.SECP256R1())
_LISTED: Final = ListedMovement(
    merchant="M-1", terminal="T1", rrn="607912000017", stan="000017", movement="debit", amount=150_000
)
_LIST: Final = SettlementList("603770", date(2026, 3, 20), True, datetime(2026, 3, 21, tzinfo=UTC), (_LISTED,))


def _wallet() -> bytes:
    """A wallet at the least cost that its reader takes: it is opened thousands of times here."""
    header = {
        "format": container.WALLET, "version": 1, "kdf": "argon2id", "memory_kib": 8192, "passes": 1, "lanes": 1,
        "salt": "00" * 16, "nonce": "00" * 12, "tries": True,
    }  # fmt: skip
    head = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    kdf = Argon2id(salt=bytes(16), length=32, iterations=1, lanes=1, memory_cost=8192)
    return head + b"\n" + AESGCM(kdf.derive(_PASSPHRASE.reveal())).encrypt(bytes(12), b'{"cards": []}', head)


def signature(data: bytes) -> Any:
    """The two header lines, with a line feed between them, as a server hands them on (Latin-1, as HTTP has it)."""
    text = data.decode("latin-1")
    stated, _, signed = text.partition("\n")
    found = parse(_HEAD, [stated], [signed])
    found.base(_HEAD)
    return found


def digest_of_body(data: bytes) -> None:
    """A Content-Digest line."""
    require_digest(replace(_HEAD, fields={"content-digest": data.decode("latin-1")}), b"{}")


def est_body(data: bytes) -> Any:
    """An EST body: base64, and the request in it."""
    return read_est_request(from_base64(data), "merchant", published())


def fields_of_a_message(data: bytes) -> Any:
    """A message of the bank network, and the elements with a layout of their own in it."""
    found = Dialect.load("shetab87_ascii").decode(data)
    for field, reader in (
        (48, AdditionalData.from_de48),
        (53, SecurityControl.from_de53),
        (90, OriginalDataElements.from_de90),
    ):
        if field in found:
            reader(found[field])
    return found


def explained_message(data: bytes) -> Any:
    """A message of any dialect, for people."""
    found = explain.guess(data, now=bank_messages.NOW, dialects=("shetab87_ascii", "shetab93_binary"))
    if found.problem is not None:
        raise found.problem
    return found


def text_of(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A reader of text, of bytes that are it."""

    def decode(data: bytes) -> Any:
        return read(data.decode("utf-8"))

    return decode


@cache
def bundle() -> Mapping[str, bytes]:
    """The files of an honest bundle."""
    from tests.storefront.test_evidence import acknowledged_too

    c = catalogue()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bundle"
        write_bundle(acknowledged_too(c.world, c.purchase), c.world.pki.root.certificate, out)
        return read_folder(out)


def with_file(name: str, data: bytes) -> dict[str, bytes]:
    """The honest bundle with one file replaced and named by its new digest."""
    from pki.der import sha256

    files = {**bundle(), name: data}
    if name != "digests.txt":
        lines = (f"{sha256(content).hex()} {each}\n" for each, content in sorted(files.items()) if each not in _UNNAMED)
        files["digests.txt"] = "".join(lines).encode()
    return files


_UNNAMED: Final = ("digests.txt", "verify.sh")


def file_of_a_bundle(name: str) -> Callable[[bytes], Any]:
    """A bundle is read and judged with this as one of its files."""

    def decode(data: bytes) -> Any:
        return judge(with_file(name, data), root=catalogue().world.pki.root.certificate)

    return decode


def decoders() -> Iterator[Decoder]:
    """All of them."""
    yield from _network()
    yield from _logs()
    yield from _registration()
    yield from _shop()


_OTHER_DIALECTS: Final = ("shetab87_binary", "shetab93_ascii", "shetab93_binary")


def _bank_messages(name: str) -> list[bytes]:
    spoken = bank_messages.loaded(name)
    told = bank_messages.catalogue(spoken)
    kinds = ("purchase", "reversal of a part", "reversal done", "totals", "key sent")
    return [bank_messages.sealed(spoken, told[kind]) for kind in kinds]


def _whole_message(found: Message) -> Any:
    return found.mti, dict(found.fields), found.mac, dict(found.kept)


def _network() -> Iterator[Decoder]:
    dialect = Dialect.load("shetab87_ascii")
    for direction in (None, *_DIRECTIONS):
        yield Decoder(
            f"iso8583.{direction or 'any'}",
            partial(dialect.decode, direction=direction),
            (DialectError,),
            ("shetab.dialect:Dialect.decode",),
            lambda found: dialect.encode(found),
            statement=lambda found: (found.mti, dict(found.fields), found.mac),
            kind="text",
        )
    for name in _OTHER_DIALECTS:
        spoken = bank_messages.loaded(name)
        yield Decoder(
            f"iso8583.{name}",
            spoken.decode,
            (DialectError,),
            encode=spoken.encode,
            statement=_whole_message,
            kind="text" if name.endswith("ascii") else "frames",
        )
    yield Decoder(
        "iso8583.explained",
        explained_message,
        (DialectError,),
        ("shetab.dialect:Dialect.take_apart", "shetab.octets:Octets.take_apart"),
        kind="text",
    )
    yield Decoder(
        "iso8583.elements",
        fields_of_a_message,
        (DialectError, ValueFormatError),
        statement=lambda f: f.mti,
        kind="text",
    )
    form = JsonForm(dialect)
    yield Decoder(
        "iso8583.json",
        form.decode,
        (DialectError,),
        ("shetab.json_form:JsonForm.decode",),
        statement=lambda found: (found.mti, dict(found.fields)),
        kind="text",
    )
    yield Decoder(
        "settlement.list",
        partial(read_list, key=_LIST_KEY.public_key()),
        (SettlementListError,),
        ("shetab.settlement_list:read_list",),
        kind="text",
        live=lambda: [write_list(_LIST, _LIST_KEY)],
    )
    yield Decoder("settlement.bank_answer", read_answer, (BankAnswerError,), kind="text")
    for size in (2, 4):
        framing = Framing(size)
        yield Decoder(
            f"frames.{size}",
            framing.split,
            (FramingError,),
            ("shetab.framing:Framing.split", "shetab.framing:Framing.length"),
            lambda found, framing=framing: b"".join(map(framing.frame, found[0])) + found[1],
            kind="frames",
        )
    yield Decoder(
        "pin_block",
        lambda data: parse_pin_block(data, _PAN),
        (PinBlockError,),
        ("shetab.pin_block:parse",),
        statement=lambda found: found.reveal(),
        kind="frames",
    )
    yield Decoder(
        "pin_block_4",
        lambda data: unseal_pin_block(data, _PAN, _ZONE_MASTER, block_format=PinBlockFormat.FORMAT_4),
        (PinBlockError,),
        ("shetab.pin_block:unseal",),
        statement=lambda found: found.reveal(),
        kind="frames",
    )
    yield Decoder(
        "pin_field",
        parse_pin_field,
        (PinBlockError,),
        ("shetab.pin_block:parse_pin_field",),
        statement=lambda found: found.reveal(),
        kind="frames",
    )
    yield Decoder(
        "zone_key_component", parse_component, (ValueFormatError,), ("shetab.zone_keys:parse_component",), kind="text"
    )
    yield Decoder(
        "zone_key_wrapped",
        partial(unwrap, _ZONE_MASTER),
        (ValueFormatError,),
        ("shetab.zone_keys:unwrap",),
        partial(wrap, _ZONE_MASTER),
        kind="frames",
    )
    yield Decoder(
        "zone_key_pair_wrapped",
        partial(unwrap_pair, _ZONE_MASTER),
        (ValueFormatError,),
        ("shetab.zone_keys:unwrap_pair",),
        partial(wrap_pair, _ZONE_MASTER),
        kind="frames",
    )


def _logs() -> Iterator[Decoder]:
    yield Decoder(
        "log.entry",
        lambda data: decode_entry(data, 7),
        (BrokenJournalError,),
        ("audit.entry:decode",),
        lambda found: line(found.index, found.at, encode_entry(found.entry)),
        kind="text",
        memory=_WITHIN_JSON,
    )
    yield Decoder(
        "log.line",
        lambda data: check_line(data, 7),
        (BrokenJournalError,),
        ("audit.verify:check_line",),
        kind="text",
        memory=_WITHIN_JSON,
    )
    yield Decoder(
        "log.head",
        HeadRecord.decode,
        (BrokenJournalError,),
        ("audit.verify:HeadRecord.decode",),
        HeadRecord.encode,
        kind="text",
    )
    yield Decoder(
        "log.tree_head", parse_checkpoint, (BrokenJournalError,), ("audit.verify:parse_checkpoint",), kind="text"
    )
    yield Decoder("log.note", Note.parse, (NoteError,), ("audit.note:Note.parse",), Note.encode, kind="text")
    yield Decoder(
        "log.signed_checkpoint",
        lambda data: SignedCheckpoint.read(data, _log_key()),
        (NoteError,),
        ("audit.checkpoint_files:SignedCheckpoint.read",),
        kind="text",
    )
    yield Decoder(
        "log.checkpoint",
        text_of(Checkpoint.parse),
        (NoteError, UnicodeDecodeError),
        encode=lambda found: found.text.encode(),
        kind="text",
    )
    yield Decoder(
        "log.progress",
        Progress.parse,
        (NoteError,),
        ("audit.checkpoint:Progress.parse", "audit.checkpoint:split_request"),
        Progress.encode,
        kind="text",
    )
    yield Decoder(
        "log.vkey",
        text_of(VerifierKey.parse),
        (NoteError, UnicodeDecodeError),
        encode=lambda found: found.encode().encode(),
        kind="text",
    )
    yield Decoder("log.proof", Proof.parse, (NoteError,), ("audit.proof:Proof.parse",), Proof.encode, kind="text")
    yield Decoder(
        "log.bundle", decode_bundle, (ValueError,), ("audit.tiles:decode_bundle",), encode_bundle, kind="frames"
    )


def _registration() -> Iterator[Decoder]:
    yield Decoder("est.base64", from_base64, (ValueError,), ("ra.est_encoding:from_base64",), kind="text")
    yield Decoder(
        "est.body",
        est_body,
        (ValueError, InvalidSubmissionError),
        ("ra.est_requests:read_request",),
        statement=lambda found: found.public_bytes(Encoding.DER),
        kind="text",
    )
    yield Decoder("http.signature", signature, (RequestSignatureError,), kind="text")
    yield Decoder("http.digest", digest_of_body, (RequestSignatureError,), kind="text")
    yield Decoder(
        "register.facts",
        lambda data: read_facts(data, _QUESTION),
        (NoAnswerError,),
        ("ra.checks.wire:read_facts",),
        kind="text",
        memory=_WITHIN_JSON,
    )
    yield Decoder(
        "register.accepted",
        lambda data: read_accepted(data, "key-1"),
        (NoAnswerError,),
        ("ra.checks.wire:read_accepted",),
        kind="text",
        memory=_WITHIN_JSON,
    )
    for fault in (png_fault, jpeg_fault, tiff_fault, pdf_fault):
        yield Decoder(
            f"document.{fault.__name__.removesuffix('_fault')}",
            fault,
            (),
            (f"{fault.__module__}:{fault.__name__}",),
            statement=str,
            kind="frames",
            calls=4_000_000,  # a directory of a TIFF has up to 100,000 entries
        )
    yield Decoder("document.kind", media_type, (), ("ra.evidence_files:media_type",), statement=str, kind="frames")
    yield Decoder(
        "case.dossier",
        Case.from_json,
        (DossierError,),
        ("cps.dossier:Dossier.from_json",),
        statement=lambda found: found.to_json(),
        kind="text",
        memory=_WITHIN_JSON,
    )
    yield Decoder(
        "key.request",
        parse_request,
        (RequestError,),
        (),
        lambda found: found.canonical,
        kind="text",
        memory=_WITHIN_JSON,
    )
    yield Decoder("key.approval", parse_approval, (RequestError,), ())
    yield Decoder(
        "yaml.cps",
        cps_yaml.load,
        (ValueError,),
        ("cps.strict_yaml:load",),
        kind="text",
        memory=_WITHIN_YAML,
        calls=_CALLS_OF_YAML,
    )
    yield Decoder(
        "yaml.pack",
        load_pack,
        (PackError,),
        ("cps.model:load_pack",),
        kind="text",
        memory=_WITHIN_YAML,
        calls=_CALLS_OF_YAML,
        statement=lambda found: found.digest,
    )
    yield Decoder(
        "yaml.ceremony",
        load_ceremony,
        (CeremonyError,),
        ("ca.ceremony.acts:load_act", "ca.ceremony.acts:load_ceremony"),
        kind="text",
        memory=_WITHIN_YAML,
        calls=_CALLS_OF_YAML,
    )
    yield Decoder(
        "ceremony.transcript",
        read_transcript,
        (CeremonyError,),
        ("ca.ceremony.transcript:read_transcript",),
        kind="text",
        memory=_WITHIN_JSON,
        statement=Transcript.to_json,
    )


def _shop() -> Iterator[Decoder]:
    yield Decoder(
        "wallet.file",
        lambda data: container.unseal(data, _PASSPHRASE, container.WALLET),
        (WalletLocked,),
        ("storefront.wallet.container:unseal",),
        kind="text",
    )
    yield Decoder(
        "wallet.purchase",
        lambda data: check_record(data, _XID),
        (ValueError,),
        ("storefront.wallet.records:check_record",),
        kind="text",
        memory=_WITHIN_JSON,
    )
    yield Decoder(
        "yaml.shop",
        text_of(shop_yaml.load),
        (yaml.YAMLError, UnicodeDecodeError),
        kind="text",
        memory=_WITHIN_YAML,
        calls=_CALLS_OF_YAML,
    )
    for name in ("digests.txt", "purchase.txt", "oi-data.der", "invoice.p7s", "pi-envelope.p7m", "signers/buyer.pem"):
        yield Decoder(
            f"bundle.{name.replace('/', '.')}",
            file_of_a_bundle(name),
            (BundleRefused,),
            ("storefront.evidence.dossier:Dossier.of", "storefront.evidence.judgement:judge"),
            statement=_nothing,
            kind="text" if name.endswith(("txt", "pem")) else "der",
            live=lambda name=name: [bundle()[name]],  # type: ignore[misc]
            calls=400_000,  # the whole bundle is judged, whichever file is changed
            memory=4 * 1024 * 1024,
        )

    pair = [_signed_inside(f"cap_{each}") for each in ("req", "res")]
    yield Decoder(
        "bundle.movement",
        lambda data: read_pair(data, pair[1]),
        (),
        ("storefront.evidence.movements:read_pair",),
        statement=lambda found: found is None,
        live=lambda: [pair[0]],
    )


def _signed_inside(name: str) -> bytes:
    """The SignedData in a message of the catalogue."""
    return decode(KwbpMessage, catalogue().exchanges[name].message).body


def _nothing(_value: Any) -> None:
    """A verdict holds objects of one run."""


def honest() -> dict[str, list[bytes]]:
    """Honest inputs to be kept, by the name of the reader."""
    dialect, office = Dialect.load("shetab87_ascii"), Office()
    request = dialect.encode(Message("0200", request_fields(), bytes(8)))
    response = dialect.encode(Message("0210", response_fields(), bytes(8)))
    entry = line(7, "2026-05-01T08:30:00.123456Z", encode_entry({"who": "ra", "what": ["issue", 7, None, True]}))
    key = p256()
    signed = sign(_HEAD, key, key_id="ab" * 32, created=1_795_413_600, nonce="A" * 22)
    body = office.signing_csr
    facts = {"version": 1, "key": "key-1", "found": True, "names": ["Bookshop"], "status": "active"}
    checkpoint = Checkpoint("kwbp/1/log-hsm", 42, bytes(32))
    note = Note(checkpoint.text, (Signature("kwbp/1/log-hsm", b"abcd", bytes(64)),))
    progress = Progress(20, (bytes(32), b"\x01" * 32), checkpoint.text)
    transcript = Transcript()
    transcript.append("begin", {"title": "Founding", "persons": ["anna"]}, NOW)
    transcript.append("end", {"n": 2}, NOW)
    return {
        "iso8583.any": [request, response],
        **{f"iso8583.{name}": _bank_messages(name) for name in _OTHER_DIALECTS},
        "iso8583.explained": [request, *_bank_messages("shetab93_binary")[1:2]],
        "iso8583.to_switch": [request],
        "iso8583.from_switch": [response],
        "iso8583.elements": [request, response],
        "iso8583.json": [
            JsonForm(dialect).encode(Message("0200", request_fields())),
            JsonForm(dialect).encode(Message("0210", response_fields())),
        ],
        "frames.2": [Framing(2).frame(b"0800abc") + Framing(2).frame(b"x") + b"\x00"],
        "frames.4": [Framing(4).frame(b"0800abc") + Framing(4).frame(b"x") + b"\x00"],
        "pin_block": [bytes.fromhex("05124DCEDCBA9876")],
        "pin_block_4": [seal_pin_block(PinBlockFormat.FORMAT_4, Pin("12345"), _PAN, _ZONE_MASTER, rng=bytes)],
        "pin_field": [bytes.fromhex("4512345AAAAAAAAA") + bytes(8)],
        "zone_key_component": [b"0123456789ABCDEFFEDCBA9876543210\n"],
        "log.entry": [entry],
        "log.line": [entry],
        "log.head": [HeadRecord(TreeHead(42, bytes(32)), 40).encode()],
        "log.tree_head": [note.encode()],
        "log.note": [note.encode()],
        "log.signed_checkpoint": [note.encode()],
        "log.checkpoint": [checkpoint.text.encode()],
        "log.progress": [progress.encode()],
        "log.vkey": [_log_key().encode().encode()],
        "log.proof": [Proof(Extra("log-hsm", entry.decode(), (b"\x30\x00",)), 7, (bytes(32),), note).encode()],
        "log.bundle": [encode_bundle([entry, b"", b"x"])],
        "est.base64": [_lines(body)],
        "est.body": [_lines(body)],
        "http.signature": [f"{signed['signature-input']}\n{signed['signature']}".encode()],
        "http.digest": [content_digest(b"{}").encode()],
        "register.facts": [json.dumps(facts).encode(), b'{"version": 1, "key": "key-1", "found": false}'],
        "register.accepted": [b'{"version": 1, "key": "key-1", "accepted": true}'],
        "document.png": [documents.PNG],
        "document.jpeg": [documents.JPEG],
        "document.tiff": [documents.tiff()],
        "document.pdf": [documents.pdf()],
        "document.kind": [documents.PNG, documents.JPEG, documents.tiff(), documents.pdf()],
        "case.dossier": [_as_bytes(office.merchant_case().to_json())],
        "key.request": [make_request().canonical],
        "key.approval": [
            build_approval(KeyApproval(bytes(32), "generate", Choice.APPROVE, "", NOW, NOW + DAY)),
        ],
        "yaml.cps": [b"a: [1, two, {b: c}]\nd: |\n  text\n  more\ne: 010\n"],
        "yaml.shop": [b"a: [1, two, {b: c}]\nd: |\n  text\n  more\ne: 10_000\n"],
        "yaml.pack": [published_file()],
        "yaml.ceremony": [ready_made()["kwbp"].read_bytes()],
        "ceremony.transcript": [transcript.to_json()],
        "wallet.file": [_wallet()],
        "wallet.purchase": [json.dumps(_PURCHASE).encode()],
        "zone_key_wrapped": [wrap(_ZONE_MASTER, bytes(range(16)))],
        "zone_key_pair_wrapped": [wrap_pair(_ZONE_MASTER, bytes(range(16)))],
    }


def _lines(body: bytes) -> bytes:
    from ra.est_encoding import to_base64

    return to_base64(body)


def _as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
