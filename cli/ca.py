"""`kwbp ca`: the certificate authority's daily work: issue, revoke, publish, search, export, audit itself."""

from __future__ import annotations

import typer

from cli import ca_audit, ca_crl, ca_denylist, ca_export, ca_issue, ca_search, ca_status

app = typer.Typer(
    help="The certificate authority: issue, revoke and suspend, lists, search, export, self-audit.\n\n"
    "Looking needs the operator's certificate. What changes the status of a certificate is an order that an officer "
    "signs here with their own key; the CA judges it by the statement (CPS 4.9), whoever brings it. A certificate is "
    "named by its serial number, its identity (urn:kwbp:merchant:M-1) or its file.\n\n"
    "\b\n"
    "  operator   kwbp ca search --status good --expiring 30     who must renew soon\n"
    "             kwbp ca show SERIAL                            everything about one certificate\n"
    "  officers   kwbp ca suspend SERIAL --as vetting-officer-1  at once, and it can be taken back\n"
    "             kwbp ca revoke SERIAL --reason keyCompromise --as vetting-officer-1\n"
    "  operator   kwbp ca deadlines                              what is not published yet, by when it must\n"
    "             kwbp ca self-audit                             a random sample, looked at again\n\n"
    "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 done, but with findings or with cases that failed.",
    no_args_is_help=True,
)
for part in (ca_issue, ca_status, ca_search, ca_crl, ca_export, ca_audit):
    part.register(app)
app.add_typer(ca_denylist.app, name="denylist", rich_help_panel="Change")
