"""`kwbp init`: a new installation: folders, tokens with random PINs, the services' TLS keys, a witness, settings."""

from __future__ import annotations

from typing import Annotated

import typer

from audit.keeper import pin_witness
from audit.witness_service import WitnessFolder
from ca.ceremony import founding_ceremony
from cli import output
from cli.state import installation
from cli.tls_request import request_tls
from hsm_service.provision import provision_tokens

_CONFIG = """\
# Settings of this KWBP installation. Every value can be overridden by a variable: KWBP_GATEWAY__ACK_TIMEOUT=60.
# Secrets are never in here: they are files in secrets/, each readable by this user alone.

[hsm]
port = {hsm}

[ca]
port = {ca}

[repository]        # CRLs and CA certificates, anonymous
port = {repository}
tls = false

[ra]
port = {ra}

[notices]           # mail to applicants and officers: into notices/ of this folder, until [notices.smtp] names a server
sender = "ra@localhost"
recipients = [
    {{role = "vetting_officer", address = "vetting@localhost"}},
    {{role = "approving_officer", address = "approving@localhost"}},
    {{role = "security_officer", address = "security@localhost"}},
]

[witness]           # co-signs the audit logs; in production another user's or another machine's
port = {witness}
tls = false

[gateway]
port = {gateway}
public_port = {public}         # where cards ask about their purchases: TLS without a client certificate
gateway_id = "GW-1"
acquirer_bin = "603770"
answer_timeout = 25.0       # T1: seconds until a missing 0210 means outcome unknown
ack_timeout = 900.0         # T_ack: seconds until a missing AuthAck reverses the order

[switch]
port = {switch}
admin_port = {admin}

[registers]         # the registers of the outside world, simulated
port = {registers}

[identity]          # where the RA asks about applicants; without an address a register never answers
national_code = "https://127.0.0.1:{registers}"
company_register = "https://127.0.0.1:{registers}"
iban_owner = "https://127.0.0.1:{registers}"
messages = "https://127.0.0.1:{registers}"
"""


def init(
    base_port: Annotated[
        int, typer.Option(min=1024, max=65400, help="First of the ports that the services listen on (loopback).")
    ] = 7100,
) -> None:
    """Make a new installation: tokens with random PINs, the services' TLS keys, settings.

    Run it again after an interruption: what is there stays as it is.
    """
    home = installation().home
    home.create()
    made = provision_tokens(home)
    for label in made:
        output.done(f"token [bold]{label}[/bold] with a random PIN in {home.secrets}")
    pin_witness(home, WitnessFolder(home.witness).create())
    for entry in founding_ceremony().services:
        request_tls(home, entry.name, entry.hosts)
    if not home.config.exists():
        ports = {
            "hsm": base_port,
            "ca": base_port + 10,
            "repository": base_port + 11,
            "ra": base_port + 20,
            "witness": base_port + 30,
            "gateway": base_port + 40,
            "public": base_port + 41,
            "switch": base_port + 50,
            "admin": base_port + 51,
            "registers": base_port + 52,
        }
        home.config.write_text(_CONFIG.format(**ports), encoding="utf-8")
    output.emit(
        {"home": str(home.path), "tokens_made": list(made)},
        [f"Installation in {home.path}. Next: officers' keys ('kwbp officer new-key'), then 'kwbp ceremony run'."],
    )
