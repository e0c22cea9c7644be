"""`kwbp ceremony verify|export`: what ceremonies left behind, judged offline, here or by somebody else."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.hashes import SHA256

from ca.ceremony import verify
from ca.ceremony.archive import export, unpacked
from ca.ceremony.seal_check import verify_seals
from ca.hierarchy import load_hierarchy
from cli import ceremony_seal, output
from cli.ceremony_rooms import now
from cli.state import existing


def verify_ceremony(
    archive: Annotated[
        Path | None, typer.Option(help="Verify this archive instead of the installation.", exists=True, dir_okay=False)
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Verify this published folder instead.", exists=True, file_okay=False)
    ] = None,
    root: Annotated[str | None, typer.Option(help="SHA-256 of the root that you know, in hexadecimal.")] = None,
    tip: Annotated[
        list[str] | None, typer.Option(help="Tip that was written down, in hexadecimal; one option a ceremony.")
    ] = None,
) -> None:
    """Verify the hierarchy against the transcripts of all its ceremonies and their seals, offline.

    Give the tip that was read aloud last (--tip), or compare it: without it nobody notices that later ceremonies were
    left out. Give the root that you know (--root), or compare its fingerprint. What is not sealed is no failure.
    """
    if archive is not None and folder is not None:
        output.fail("either an archive or a folder is verified, not both")
    with ExitStack() as opened:
        if archive is not None:
            folder = opened.enter_context(unpacked(archive))
        found = folder or existing().home.pki
        verified = verify(found, now=now())
        sealed = verify_seals(found, root_sha256=root)
        roots = load_hierarchy(found).anchors
    for each in tip or ():
        if each.strip().lower() not in verified.ceremonies.values():
            output.fail(f"no ceremony here ended with {each}", hint="one was left out, or this is another hierarchy")
    fingerprints = [each.fingerprint(SHA256()).hex() for each in roots]
    output.emit(
        {
            "transcript": verified.tip,
            "roots": fingerprints,
            "keys": verified.keys,
            "certificates": verified.certificates,
            "crls": verified.crls,
            "ceremonies": verified.ceremonies,
            "sealed": ceremony_seal.document(sealed),
        },
        [
            f"Root {fingerprints[0]}{', as you know it' if root else ': compare it with the one that you know'}.",
            *ceremony_seal.aloud(fingerprints[0]),
            *(f"Root {each}, which the one before it names (RFC 8649)." for each in fingerprints[1:]),
            f"{verified.keys} keys, {verified.certificates} certificates, {verified.crls} CRLs are as recorded.",
            *(f"{output.plain(name)}  {tip}" for name, tip in verified.ceremonies.items()),
            *ceremony_seal.aloud(verified.tip),
            *ceremony_seal.describe(sealed),
        ],
    )


def export_archive(
    out: Annotated[Path, typer.Argument(help="Where to write the archive (.tar.gz).", dir_okay=False)],
) -> None:
    """Write the published hierarchy with all transcripts as one archive, which 'verify --archive' reads."""
    count = export(existing().home.pki, out)
    output.emit({"archive": str(out), "files": count}, [f"{count} files in {out}."])


def register(app: typer.Typer) -> None:
    """Add the commands to `kwbp ceremony`."""
    app.command("verify")(verify_ceremony)
    app.command("export")(export_archive)
