"""The process that holds one token: it makes it, then does the checks whose names come on standard input.

    python -P -m tests.conformance.worker NAME FOLDER

One line of JSON in, one out: {"outcome": "passed" | "lacking" | "failed", "detail": …}. A PKCS#11 module is
process-wide, so each token of the suite has a process of its own.

A check that needs what the probe did not see is done all the same: it must not pass. So nothing is left out that would
have worked, and nothing is left out for another reason than the probe gives.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import traceback
from pathlib import Path

from hsm_service.pkcs11_module import Pkcs11Module, load_module
from hsm_service.tokens import Token
from runtime.secrets import Secret
from tests.conformance.checks import CHECKS, Check, Held
from tests.conformance.subjects import SUBJECTS, Subject

LABEL = "conformance"


def make_token(subject: Subject, module: Pkcs11Module) -> None:
    """Initialise the token and set its user PIN."""
    so_pin = Secret(subject.so_pin.encode())
    if subject.initialises and subject.fixed_slot is None:
        module.init_token(LABEL, so_pin, Secret(subject.pin.encode()))
        return
    if subject.initialises and subject.fixed_slot is not None:
        module._library.init_token(subject.fixed_slot, so_pin, LABEL)
    (token,) = module._library.get_tokens(token_label=LABEL)
    with token.open(rw=True, so_pin=subject.so_pin) as session:
        session.init_pin(subject.pin)


def outcome(check: Check, held: Held) -> tuple[str, str]:
    """What became of a check, and why."""
    lacking = [held.token.capabilities[each] for each in check.needs if not held.token.capabilities.can(each)]
    reasons = ", ".join(each.refusal for each in lacking)
    try:
        check.do(held)
    except Exception:
        if not lacking:
            return "failed", traceback.format_exc()
        if not all(each.reason for each in lacking):
            return "failed", f"the probe gives no reason: {reasons}"
        return "lacking", reasons
    if lacking:
        return "failed", f"the probe says that there is {reasons}, and yet the check passes"
    return "passed", ""


def main() -> None:
    subject, folder = SUBJECTS[sys.argv[1]], Path(sys.argv[2])
    assert subject.module is not None
    module = load_module(subject.module, initialisation=subject.initialisation(folder))
    make_token(subject, module)
    pin = Secret(subject.pin.encode())
    with Held(module, pin, Token.open(module, LABEL, pin, acquire_timeout=10)) as held:
        found = held.token.capabilities
        reply: dict[str, object] = {
            "findings": [dataclasses.asdict(each) for each in found.rows()],
            "purposes": [dataclasses.asdict(each) for each in found.purposes()],
        }
        while True:
            print(json.dumps(reply), flush=True)
            name = sys.stdin.readline().strip()
            if not name:
                return
            what, detail = outcome(CHECKS[name], held)
            reply = {"outcome": what, "detail": detail}


if __name__ == "__main__":
    main()
