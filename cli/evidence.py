"""`kwbp evidence`: bundles that prove a purchase, and two judges of them: our own, and OpenSSL alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from cryptography import x509

from cli import evidence_written, output
from cli.state import Installation, existing
from runtime.client import raise_problem
from runtime.language import Language, Message
from storefront.errors import BundleRefused
from storefront.evidence.bundle import write_bundle
from storefront.evidence.claims import MEANINGS, Claim, Verdict, decide
from storefront.evidence.folder import SCRIPT, read_folder
from storefront.evidence.judgement import Conclusion, both, decision_document
from storefront.evidence.judgement import judge as judge_files
from storefront.evidence.records import Records, from_merchant, from_wallet
from storefront.evidence.report import DISAGREE, report
from storefront.evidence.report import claims as claim_lines
from storefront.evidence.second_opinion import ask_openssl, own_script

app = typer.Typer(help="Evidence: export what proves a purchase, judge it.", no_args_is_help=True)


@app.command()
def export(
    xid: Annotated[str, typer.Argument(help="The purchase, 40 hexadecimal digits.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    wallet: Annotated[
        Path | None, typer.Option(help="Take the buyer's records from this wallet instead of the merchant's.")
    ] = None,
) -> None:
    """Write the evidence of a purchase: signed messages, certificates, CRLs, and the script that judges them."""
    found = existing()
    records = from_wallet(wallet / "purchases" / xid) if wallet is not None else _from_merchants(found, xid)
    root = x509.load_pem_x509_certificate(found.home.trust_anchors.read_bytes())
    evidence_written.tell(write_bundle(records, root, out), out)


@app.command()
def judge(
    bundle: Annotated[Path | None, typer.Argument(help="Folder of a bundle.", exists=True, file_okay=False)] = None,
    claim: Annotated[str | None, typer.Option(help="Answer this question of a dispute first; see --claims.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="PEM of the root that you trust, from where it is published.", dir_okay=False)
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another bundle to hold against this one.", exists=True, file_okay=False)
    ] = None,
    alone: Annotated[bool, typer.Option("--alone", help="Do not ask OpenSSL (verify.sh) for its opinion.")] = False,
    claims: Annotated[bool, typer.Option("--claims", help="List the claims that can be judged.")] = False,
    language: Annotated[Language | None, typer.Option(help="Language of the report.")] = None,
) -> None:
    """Say who is bound to what, with reasons and gaps, from the bundle and its root alone; offline, without a clock.

    Our own judge and `verify.sh` (OpenSSL) are both asked; nothing in the bundle is run. Exit code 0: the evidence
    holds, or the claim is decided; 3: a part of the purchase is not there, or the claim is not decidable; 1: the
    evidence does not hold, or the two judges disagree.
    """
    tongue = language or output.language()
    if claims:
        listed = {each.value: both(MEANINGS[each]) for each in Claim}
        output.emit(listed, [output.plain(line.text) for line in claim_lines(tongue)])
        return
    if bundle is None:
        output.fail(Message("which bundle is to be judged?"), hint="kwbp evidence judge DIR")
    if claim is not None and claim not in {each.value for each in Claim}:
        output.fail(Message("{claim} is no claim that can be judged", claim=claim), hint="kwbp evidence judge --claims")
    script = bundle / SCRIPT
    if not alone and not _is_own(script):
        output.fail(
            Message("{file} is not the judge of this release, and a bundle's script runs as you do", file=script),
            hint=Message("read it, then run it yourself; {option} judges without it", option="--alone"),
        )
    try:
        files = read_folder(bundle)
        anchor = None if root is None else _root(root)
        other = None if against is None else judge_files(read_folder(against), root=anchor)
        judged = judge_files(files, root=anchor, other=other)
    except BundleRefused as refused:
        output.fail(refused, document={"conclusion": "refused", "reason": both(refused)})
    second = None if alone else ask_openssl(files)
    decision = None if claim is None else decide(Claim(claim), judged.case)
    differ = () if second is None else second.disagreements(judged)
    document: dict[str, Any] = {} if decision is None else {"decision": decision_document(decision)}
    document |= judged.document()
    if second is not None:
        document["openssl"] = {
            "agrees": not differ,
            "disagreements": differ,
            "holds": second.conclusion is Conclusion.HOLDS,
            "report": second.report,
        }
    lines = report(judged, decision, second, tongue)
    output.emit(document, [f"{'  ' * line.depth}{output.plain(line.text)}" for line in lines])
    if differ:
        output.note(f"[red]✗[/red] {output.plain(Message(DISAGREE, statements=', '.join(differ)).text(tongue))}")
        raise typer.Exit(1)
    code = _CODES[judged.conclusion] if decision is None else 3 if decision.verdict is Verdict.UNDECIDED else 0
    if code:
        raise typer.Exit(code)


_CODES: Final = {Conclusion.HOLDS: 0, Conclusion.INCOMPLETE: 3, Conclusion.BROKEN: 1}


def _is_own(script: Path) -> bool:
    own = own_script()
    return script.is_file() and script.stat().st_size == len(own) and script.read_bytes() == own


def _root(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        output.fail(Message("{file} holds no certificate in PEM", file=path))


def _from_merchants(found: Installation, xid: str) -> Records:
    for merchant in found.settings.merchants.values():
        with found.client(merchant.url) as client:
            response = client.get(f"/orders/{xid}/evidence")
        if response.status_code != 404:
            break
    else:
        output.fail(Message("no merchant of this installation has an order {xid}", xid=xid))
    return from_merchant(raise_problem(response).json())
