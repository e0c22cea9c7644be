"""`kwbp evidence`: bundles that prove a purchase to anybody who has OpenSSL."""

from __future__ import annotations

import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from cli import output
from cli.state import Installation, existing
from runtime.client import raise_problem
from storefront.evidence.bundle import write_bundle
from storefront.evidence.records import Records, from_merchant, from_wallet

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
    verdict = write_bundle(records, root, out)
    output.emit(
        {**verdict, "bundle": str(out)},
        [
            f"Bundle in {out}: {verdict['outcome']}, {output.rial(verdict['amount']['rial'])}.",
            f"Judge it: {out}/verify.sh",
        ],
    )


@app.command()
def judge(bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.", exists=True, file_okay=False)]) -> None:
    """Run the bundle's own judge, which uses OpenSSL and nothing of ours; never a script that somebody changed."""
    own = (files("storefront.evidence") / "verify.sh").read_bytes()
    script = bundle / "verify.sh"
    if not script.is_file() or script.read_bytes() != own:
        output.fail(
            f"{script} is not the judge of this release, and a bundle's script runs as you do",
            hint="read it, then run it yourself",
        )
    result = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False)
    report = result.stdout.splitlines()
    output.emit({"holds": result.returncode == 0, "report": report}, [output.plain(line) for line in report])
    if result.returncode != 0:
        raise typer.Exit(1)


def _from_merchants(found: Installation, xid: str) -> Records:
    for merchant in found.settings.merchants.values():
        with found.client(merchant.url) as client:
            response = client.get(f"/orders/{xid}/evidence")
        if response.status_code != 404:
            break
    else:
        output.fail(f"no merchant of this installation has an order {xid}")
    return from_merchant(raise_problem(response).json())
