"""`kwbp audit`: the logs in which every service records what it did."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509

from audit.errors import AuditError
from audit.export import export as export_log
from audit.keeper import log_path, pinned_witness
from audit.log_key import LOGS, LogKey, key_name, load
from audit.note import VerifierKey
from audit.overview import Overview, overview
from audit.proof import Proof, check
from audit.proving import find, prove
from cli import output
from cli.state import Installation, existing, installation

app = typer.Typer(
    no_args_is_help=True,
    help="""The audit logs: what every service records before and after it acts.

A log is a file of JSON lines and, over them, a Merkle tree (RFC 6962). At least every second the tree is signed by a
token key of the log, and co-signed by a witness that remembers how far the log had come. So nothing in it can be
altered, removed, inserted or reordered without being found, nor can it be cut or replaced by an older copy.

  verify   are the logs whole, and who vouches for them?       offline
  prove    a proof that one entry was recorded, as a file       offline
  check    is such a file good?                                 needs the root certificate alone
  export   a log for an auditor, with a verifier to read        offline
  tail     what is recorded now

'jq' reads the logs, too: jq -c 'select(.entry.event == "refused")' var/kwbp/audit/hsm.jsonl
""",
)

LogOption = Annotated[str, typer.Option("--log", help=f"Which log: {', '.join(LOGS)}.")]


@app.command("verify")
def verify_logs(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Logs (NAME.jsonl) to verify.", show_default="all of this installation", dir_okay=False),
    ] = None,
) -> None:
    """Verify logs offline: every entry, tile, checkpoint and signature, up to the pinned root.

    Says for each how many entries it has, how many of them a signed and a witnessed checkpoint cover, and how many came
    after (the unsigned tail: at most a second's worth while all is well). Exit code 1 if a log is broken.
    """
    found = existing()
    witness = pinned_witness(found.home)
    # A log that was removed is known by what is left of it: its head, its tiles.
    left = {
        each.with_suffix(".jsonl") for end in ("jsonl", "head", "log") for each in found.home.audit.glob(f"*.{end}")
    }
    known = paths or sorted(left)
    processes = len(os.sched_getaffinity(0))
    results = [_overview(found, path, witness, processes) for path in known]
    output.table(
        "Logs",
        ("Log", "Entries", "State", "Signed", "Witnessed", "Unsigned", "Key"),
        [
            (
                each.log,
                None if each.head is None else each.head.size,
                each.fault or "whole",
                each.signed,
                each.witnessed,
                each.tail,
                each.key,
            )
            for each in results
        ],
        document=[_document(each) for each in results],
    )
    if any(each.fault for each in results):
        raise typer.Exit(1)


@app.command("prove")
def prove_entry(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF", help="Number of the entry, or SHA-256 of what was signed or made (it is in its records)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write, by custom NAME.tlog-proof.", dir_okay=False)],
    log: LogOption = "hsm",
) -> None:
    """Write a proof that an entry was recorded (c2sp.org/tlog-proof): entry, path in the tree, signed checkpoint.

    Whoever has the root certificate checks it with 'kwbp audit check', years later and without us. The number of an
    entry is the log_index of every answer of the signing API.
    """
    found = existing()
    path = _path(found, log)
    try:
        places = find(path, reference)
    except ValueError as error:
        output.fail(str(error))
    if len(places) != 1:
        what = "no entry has" if not places else f"entries {', '.join(map(str, places[:20]))} have"
        output.fail(f"{what} this digest", hint=None if not places else "name one of them by its number")
    proof = prove(path, places[0], _key(found, log))
    out.write_bytes(proof.encode())
    output.emit(
        {"log": log, "index": proof.index, "file": str(out), "entry": json.loads(proof.extra.entry)},
        [
            f"Entry {proof.index} of the log {log} is proven by {output.plain(out)}.",
            f"Whoever has the root: 'kwbp audit check {output.plain(out.name)} --root root.pem'.",
        ],
    )


@app.command("check")
def check_proof(
    file: Annotated[Path, typer.Argument(help="A .tlog-proof file.", exists=True, dir_okay=False)],
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Root certificate in PEM.", show_default="the installation's", dir_okay=False),
    ] = None,
    witness: Annotated[
        str | None, typer.Option("--witness", help="vkey of a witness.", show_default="the one that is pinned here")
    ] = None,
) -> None:
    """Check a proof offline: the entry is in the tree that the log's key signed, and the key leads to the root.

    With the witness's key it also says since when the entry cannot have been taken back.
    """
    found = installation()
    trusted = VerifierKey.parse(witness) if witness is not None else pinned_witness(found.home)
    try:
        anchors = x509.load_pem_x509_certificates((root or found.home.trust_anchors).read_bytes())
    except (OSError, ValueError):
        output.fail("there is no root certificate", hint="name it with --root")
    try:
        proof = Proof.parse(file.read_bytes())
    except AuditError as error:
        output.fail(f"{file} is no proof: {error}", hint="'kwbp audit prove' writes one")
    proven = check(proof, anchors, now=_now(), witnesses=[] if trusted is None else [trusted])
    seen = None if proven.witnessed is None else proven.witnessed.isoformat()
    output.emit(
        {
            "log": proven.checkpoint.origin,
            "index": proven.index,
            "checkpoint": proven.checkpoint.size,
            "witnessed": seen,
            "entry": json.loads(proven.entry),
        },
        [
            f"[green]✓[/green] entry {proven.index} of {output.plain(proven.checkpoint.origin)}, signed by the log",
            f"  {f'seen by the witness at {seen}' if seen else 'no trusted witness has seen it'}",
            f"  {output.plain(proven.entry)}",
        ],
    )


@app.command("export")
def export_logs(
    out: Annotated[Path, typer.Option("--out", help="New folder.", file_okay=False)],
    log: LogOption = "hsm",
) -> None:
    """Export a log for an auditor: entries, tiles, checkpoint, certificates, a README, and the verifier, one file."""
    found = existing()
    try:
        count = export_log(
            _path(found, log), out, _key(found, log), found.home.trust_anchors, pinned_witness(found.home)
        )
    except FileExistsError as error:
        output.fail(str(error))
    output.emit({"folder": str(out), "entries": count}, [f"{count} entries in {output.plain(out)}; start with README."])


@app.command("tail")
def tail(
    log: LogOption = "hsm",
    count: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last entries.")] = 10,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as entries are recorded; Ctrl-C ends.")] = False,
) -> None:
    """Show the last entries of a log; with --json one JSON object a line, as recorded."""
    path = _path(existing(), log)
    try:
        for line in _last(path, count, follow):
            if output.json_wanted():
                typer.echo(line)
            else:
                record = json.loads(line)
                output.emit({}, [output.plain(f"{record['index']:>8}  {record['at']}  {_short(record['entry'])}")])
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _last(path: Path, count: int, follow: bool) -> Iterator[str]:
    """The last `count` whole lines, then, with `follow`, each as it comes."""
    with path.open("rb") as file:
        start = _start_of_last(path, count)
        file.seek(start)
        rest = b""
        while True:
            data = file.read(1 << 16)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace")
            if not data:
                if not follow:
                    return
                time.sleep(0.2)


def _start_of_last(path: Path, count: int) -> int:
    """Where the last `count` lines begin, read from the end."""
    with path.open("rb") as file:
        at = file.seek(0, os.SEEK_END)
        breaks = 0
        while at > 0:
            step = min(1 << 16, at)
            at -= step
            file.seek(at)
            block = file.read(step)
            place = len(block)
            while (place := block.rfind(b"\n", 0, place)) >= 0:
                breaks += 1
                if breaks > count:
                    return at + place + 1
    return 0


def _short(entry: dict[str, Any]) -> str:
    """An entry for people: its event first, then what it says, digests by their beginning."""
    said = {key: value for key, value in entry.items() if key not in {"event", "policy"} and value is not None}
    parts = [f"{key}={value[:16] if key.endswith('sha256') else value}" for key, value in said.items()]
    return " ".join([str(entry.get("event", "")), *parts])


def _overview(found: Installation, path: Path, witness: VerifierKey | None, processes: int) -> Overview:
    key = None
    if path.stem in LOGS and (found.home.pki / "keys" / f"{key_name(path.stem)}.pem").exists():
        try:
            key = load(key_name(path.stem), found.home.pki, now=_now())
        except AuditError as error:
            return Overview(path.stem, fault=str(error))
    return overview(path, key, witness, processes=processes)


def _document(each: Overview) -> dict[str, Any]:
    return {
        "log": each.log,
        "whole": each.fault is None,
        "fault": each.fault,
        "entries": None if each.head is None else each.head.size,
        "root": None if each.head is None else each.head.root.hex(),
        "signed": each.signed,
        "key": each.key,
        "witnessed": each.witnessed,
        "witnessed_at": None if each.witnessed_at is None else each.witnessed_at.isoformat(),
        "unsigned": each.tail,
    }


def _path(found: Installation, log: str) -> Path:
    path = log_path(found.home, log)
    if log not in LOGS or not path.exists():
        output.fail(f"there is no log {log!r}", hint=f"logs: {', '.join(LOGS)}")
    return path


def _key(found: Installation, log: str) -> LogKey:
    return load(key_name(log), found.home.pki, now=_now())


def _now() -> datetime:
    return datetime.now(UTC)
