"""Acting at the gateway as an officer: over the officer's own TLS, or, with a key in a token, by signed statements.

A key in a token does not speak TLS here: the operator's console makes the connection, and for each act the officer
signs in the token what is asked, of which gateway, and until when (`cps.gateway_act`). What is signed is shown first.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Generator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

import httpx

from cli import enrolment, output
from cli.officers import token_place
from cli.state import Installation
from cps.gateway_act import LASTS, NONCE, GatewayAct, build_gateway_act
from pki.oids import CT_GATEWAY_ACT
from ra.officer import Draft, Officer
from runtime.client import http_client

HEADER: Final = "kwbp-officer-statement"
_SHOWN: Final = 2000  # bytes of a body


class StatementSigner(httpx.Auth):
    """Signs each request that does something, as `officer`, for the gateway of this id."""

    requires_request_body = True

    def __init__(self, officer: Officer, gateway_id: str) -> None:
        self._officer = officer
        self._gateway_id = gateway_id

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign the request anew as it is sent. Raises what the token raises."""
        if request.method != "GET":
            now = enrolment.now()
            draft = draft_act(self._gateway_id, request.method, _target(request), request.content, now=now)
            for line in draft.lines:
                output.note(output.plain(line))
            request.headers[HEADER] = base64.b64encode(self._officer.sign(draft, now=now)).decode("ascii")
        yield request


def draft_act(gateway_id: str, method: str, target: str, body: bytes, *, now: datetime) -> Draft:
    """The statement about one act, made at `now` (aware), and all of it in lines for a person."""
    date = now.replace(microsecond=0)
    digest = sha256(body).digest()
    act = GatewayAct(gateway_id, method, target, digest, os.urandom(NONCE), date, date + LASTS)
    readable = 0 < len(body) <= _SHOWN
    lines = (
        f"ACT          at gateway {gateway_id}",
        f"  what       {method} {target}",
        *((f"  asked      {body.decode('utf-8', 'replace')}",) if readable else ()),
        f"  digest     {digest.hex()}",
        f"  until      {act.expires.isoformat()}",
    )
    return Draft(CT_GATEWAY_ACT, build_gateway_act(act), lines)


def gateway_as(found: Installation, person: str | None, passphrase_file: Path | None) -> httpx.Client:
    """A client of the gateway, as the officer `person`, or as the operator."""
    own = found.settings.gateway
    if person is None:
        return found.client(own.url)
    signer, tls = enrolment.officer(found, person, passphrase_file)
    client = http_client(tls, own.url, language=output.language())
    if token_place(found, person) is not None:
        client.auth = StatementSigner(signer, own.gateway_id)
    return client


def _target(request: httpx.Request) -> str:
    return request.url.raw_path.decode("ascii")
