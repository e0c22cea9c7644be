"""`kwbp ra`: the officers' daily work: the queue, cases, evidence, signed decisions, orders about certificates."""

from __future__ import annotations

import typer

from cli import (
    ra_case,
    ra_certificates,
    ra_checks,
    ra_deciding,
    ra_est,
    ra_evidence,
    ra_export,
    ra_left,
    ra_notices,
    ra_queue,
)

app = typer.Typer(
    no_args_is_help=True,
    help="""The registration authority: applications, decisions, orders about certificates.

  list, stats      what waits, for whom, how long; '--mine PERSON' is what waits for one officer
  show             one case on one screen, and the command that comes next
  evidence, checks documents, and what registers answered
  vet, approve, reject        signed decisions
  return, hold, release       back to the applicant; stop a case, let it go on
  revoke, suspend, reinstate  signed orders about certificates
  renew, accept, withdraw, issue
  est-code                    a one-time code for a machine that enrols by itself
  export                      a case as a bundle that OpenSSL alone judges
  left-behind, accept-database    after a replica or the database was lost

An application is named by its id or the first digits of it. KWBP_OFFICER and KWBP_OFFICER_PASSPHRASE_FILE stand for
'--as' and '--passphrase-file'. The guide: docs/officers.md.
""",
)
for _module in (ra_queue, ra_case):
    _module.register(app)
app.add_typer(ra_evidence.app, name="evidence")
app.add_typer(ra_checks.app, name="checks")
for _module in (ra_deciding, ra_certificates, ra_est, ra_export):
    _module.register(app)
app.add_typer(ra_notices.app, name="notices")
app.add_typer(ra_left.app, name="left-behind")
app.command("accept-database")(ra_left.accept_database)
