"""The network's answer checked and the gateway's answer signed, in one request: the second only if the first holds.

For every payment the gateway has the MAC of a 0210 verified and, moments later, its own answer signed. Asked in one
request, the two stay two operations: each is permitted to the caller by its own key, each has its intent on the disk
before the token acts and its outcome after, and the first comes to its end before anything of the second is judged.
What the gateway makes its answer of is not believed by then. It need not be: under a wrong MAC nothing is signed, and
the refusal is on the record.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

from gateway_keys import wire
from gateway_keys.zones import Zones
from hsm_service.metrics import DONE, METRICS, result_of
from hsm_service.service import SignCommand
from hsm_service.steps import Steps
from hsm_service.templates import Operation
from hsm_service.vault import Vault
from pki.der import sha256
from pki.oids import CT_AUTH_RES
from runtime.problems import Problem

_KIND: Final = "cms"


def sign_answer(
    zones: Zones, vault: Vault, caller: str, request: wire.SignAnswerRequest
) -> Steps[wire.SignAnswerAnswer]:
    """SignedData of the key over the AuthRes, if the MAC of the network's answer is right.

    Raises Problem 422 `wrong-mac` if it is not, and nothing was signed; otherwise as `Zones.verify_mac` and as
    `Signing.sign`.
    """
    checked = wire.VerifyMacRequest(data=request.data, mac=request.mac, zone=request.zone)
    if not (yield from zones.verify_mac(vault, caller, checked)).valid:
        problem = Problem(422, wire.WRONG_MAC, "the MAC of the network's answer is wrong; nothing was signed")
        digest = sha256(request.content)
        yield from vault.lending.refuse(caller, Operation.CMS, [request.key], problem, input_sha256=digest)
    command = SignCommand(_KIND, request.content, CT_AUTH_RES.dotted_string)
    began, became = perf_counter(), DONE
    try:
        signed = yield from vault.signing.sign(caller, request.key, command)
    except BaseException as error:
        became = result_of(error)
        raise
    finally:
        if vault.knows(request.key):
            METRICS.took((request.key, _KIND, "sign"), perf_counter() - began, became)
    return wire.SignAnswerAnswer(signed=signed.signed)
