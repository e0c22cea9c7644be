"""`kwbp key requests|review|approve|reject`: operations on keys that officers must approve first (CPS 5.2.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from cli import enrolment, output
from cli.enrolment import now
from cli.key_service import DECIDE
from cli.state import Installation, existing
from cps.decision import Choice
from hsm_service.client import HsmClient
from hsm_service.operation_draft import draft_approval
from hsm_service.operation_info import ApprovalNeeded, OperationInfo
from hsm_service.operation_request import OperationRequest, RequestError, parse_request
from hsm_service.operation_text import request_lines
from pki.oids import CT_KEY_APPROVAL
from ra.officer import Draft
from runtime.client import TlsFiles

_DIGEST = 64  # hexadecimal digits of a whole id
_SHORT = 12  # of an id as it is shown
_LONGEST = 200  # characters of what came of a request


class Language(StrEnum):
    """Languages in which a request is shown."""

    FA = "fa"
    EN = "en"


RequestId = Annotated[str, typer.Argument(help="Request id, or enough of its beginning.", metavar="REQUEST")]
RequestIds = Annotated[
    list[str], typer.Argument(help="Request ids, or enough of their beginnings.", metavar="REQUEST…")
]
AsPerson = Annotated[str, typer.Option("--as", help="The officer who acts; the key must be on this machine.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        help="File of mode 0600 with the officer's passphrase, or the PIN of their token; else you are asked."
    ),
]
Shown = Annotated[Language, typer.Option("--language", envvar="KWBP_LANGUAGE", help="Persian or English.")]
Reason = Annotated[str, typer.Option(help="Why, in a sentence; part of what is signed.")]


def requests(
    person: AsPerson,
    passphrase_file: PassphraseFile = None,
    every: Annotated[bool, typer.Option("--all", help="Those that are decided too.")] = False,
) -> None:
    """Show the operations on keys that wait for officers, newest first."""
    found = existing()
    _signer, tls = enrolment.officer(found, person, passphrase_file)
    with _hsm(found, tls) as keys:
        rows = [each for each in keys.operations() if every or each.state in {"PENDING", "APPROVED"}]
    output.table(
        "Requests",
        ("Request", "Operation", "Key", "Asked by", "State", "Signed"),
        [
            (
                row.id[:_SHORT],
                row.operation,
                _key_of(row),
                row.requester,
                row.state,
                f"{len(row.approvals)} of {row.needed}",
            )
            for row in rows
        ],
        document=[msgspec.to_builtins(row) for row in rows],
    )


def review(
    request_id: RequestId,
    person: Annotated[
        str | None, typer.Option("--as", help="The officer who looks; else the operator, by the whole id.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    language: Shown = Language.EN,
) -> None:
    """Show one request: exactly what would be signed, who approved it, what came of it."""
    found = existing()
    tls = found.tls("operator") if person is None else enrolment.officer(found, person, passphrase_file)[1]
    with _hsm(found, tls) as keys:
        if person is None and len(request_id) != _DIGEST:
            output.fail("the operator sees a request by its whole id alone", hint="officers: '--as NAME'")
        info = _find(keys, request_id)
    output.emit(msgspec.to_builtins(info), _lines(info, language))


def approve(
    request_ids: RequestIds,
    person: AsPerson,
    passphrase_file: PassphraseFile = None,
    reason: Reason = "",
    language: Shown = Language.EN,
) -> None:
    """Sign that operations on keys may be done. The last approval that was missing has them done."""
    _decide(request_ids, Choice.APPROVE, person, passphrase_file, reason, language)


def reject(
    request_ids: RequestIds,
    person: AsPerson,
    reason: Reason,
    passphrase_file: PassphraseFile = None,
    language: Shown = Language.EN,
) -> None:
    """Sign that operations on keys may not be done. One rejection ends a request."""
    _decide(request_ids, Choice.REJECT, person, passphrase_file, reason, language)


def register(app: typer.Typer) -> None:
    """Add the commands to `kwbp key`."""
    for command in (requests, review, approve, reject):
        app.command(rich_help_panel=DECIDE)(command)


def have_made(keys: HsmClient, wanted: Mapping[str, tuple[str, str | None]], reason: str, again: str) -> None:
    """See to it that the keys exist: name → template and owner. Those that are not there are asked for.

    If officers must approve that first, this ends the command and says what they run, and `again` what to run then.
    """
    there = {info.name for info in keys.list_keys()}
    waiting: list[OperationInfo] = []
    for name, (template, owner) in wanted.items():
        if name not in there:
            try:
                keys.generate_key(name, template, owner=owner, reason=reason)
            except ApprovalNeeded as needed:
                waiting.append(needed.operation)
    if waiting:
        report(waiting, again)
        raise typer.Exit


def report(waiting: list[OperationInfo], again: str | None = None) -> None:
    """Tell that requests wait for officers."""
    ids = [each.id for each in waiting]
    needed, by = max(each.needed for each in waiting), " or ".join(waiting[0].by)
    lines = [f"[bold]{each.id}[/bold]  {each.operation} {output.plain(_key_of(each))}" for each in waiting]
    lines.append(f"Waits for {needed} officers ({by}): 'kwbp key approve {' '.join(i[:_SHORT] for i in ids)} --as …'")
    if again is not None:
        lines.append(f"Then once more: '{output.plain(again)}'.")
    output.emit({"requests": ids, "needed": needed, "by": list(waiting[0].by)}, lines)


def _decide(
    request_ids: list[str], choice: Choice, person: str, passphrase_file: Path | None, reason: str, language: Language
) -> None:
    found = existing()
    signer, tls = enrolment.officer(found, person, passphrase_file)
    after = []
    with _hsm(found, tls) as keys:
        for text in request_ids:
            request = _request(_find(keys, text))
            draft = draft_approval(request, choice, now=now(), reason=reason, language=language.value)
            for line in draft.lines:
                output.note(output.plain(line))
            signed = signer.sign(Draft(CT_KEY_APPROVAL, draft.content, draft.lines), now=now())
            after.append(keys.approve(request.id, signed))
    output.emit([msgspec.to_builtins(each) for each in after], [_outcome(person, choice, each) for each in after])
    if any(each.state == "FAILED" for each in after):
        raise typer.Exit(1)


@contextmanager
def _hsm(found: Installation, tls: TlsFiles) -> Iterator[HsmClient]:
    client = HsmClient.connect(found.settings.hsm.url, tls)
    try:
        yield client
    finally:
        client.close()


def _find(keys: HsmClient, text: str) -> OperationInfo:
    if len(text) == _DIGEST:
        return keys.operation(text)
    matching = [each for each in keys.operations() if text and each.id.startswith(text)]
    if len(matching) != 1:
        output.fail(f"{len(matching)} requests begin with {text!r}", hint="see 'kwbp key requests'")
    return matching[0]


def _request(info: OperationInfo) -> OperationRequest:
    """The request as its own bytes say, which is what is shown and signed."""
    try:
        return parse_request(info.request)
    except RequestError as error:
        output.fail(f"the service showed something that is no request: {error}")


def _key_of(info: OperationInfo) -> str:
    return str(_request(info).parameters.get("key", ""))


def _outcome(person: str, choice: Choice, info: OperationInfo) -> str:
    done = f"{person} {'approved' if choice is Choice.APPROVE else 'rejected'} {info.operation} {_key_of(info)}"
    missing = info.needed - len(info.approvals)
    more = f", {missing} more needed" if info.state == "PENDING" else ""
    detail = f": {info.result['detail']}" if info.state == "FAILED" and info.result else ""
    return output.plain(f"{done}; {info.state}{more}{detail}.")


_STANDING: Final = {
    Language.EN: ("approved by", "rejected by", "at", "state", "{state}, {needed} of {by} needed"),
    Language.FA: ("تأییدکننده", "ردکننده", "در", "وضعیت", "{state}، {needed} نفر از {by} لازم است"),
}


def _lines(info: OperationInfo, language: Language) -> list[str]:
    approved, rejected, at, state, standing = _STANDING[language]
    lines = [output.plain(line) for line in request_lines(_request(info), language.value)]
    for label, each in [(approved, a) for a in info.approvals] + [(rejected, r) for r in info.rejections]:
        lines.append(f"  {label:<16} {output.plain(each.person)} {at} {each.signed_at}")
    lines.append(f"  {state:<16} {standing.format(state=info.state, needed=info.needed, by=' / '.join(info.by))}")
    if info.result:
        lines += [f"  {name:<16} {_short(output.plain(value))}" for name, value in sorted(info.result.items())]
    return lines


def _short(text: str) -> str:
    """A backup is nothing to read."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
