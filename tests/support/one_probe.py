"""What the tokens of one module can do is found out once in a process that runs tests, by the first that is asked.

A service opens few tokens, and tries each when it starts. Tests open new tokens by the hundred, all of one SoftHSM2,
and to make the RSA key that each is tried with takes longer than most of them. Services that are forked for tests
(`ready_python`) share what the first of them found out in a folder; another module than the usual one, as tests of
faults have it, each tries by itself. Programs that start from nothing try their tokens, so does the process of a token;
so do the tests of the probe, and `Token._probe` itself.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pkcs11

    from hsm_service.capabilities import Capabilities
    from hsm_service.pkcs11_module import Pkcs11Module

found: Final[dict[tuple[object, ...], Capabilities]] = {}
"""By module, model and versions, and by who looked: a test may put another probe in its place."""


def probe_once(shared: Path | None = None) -> None:
    """From here on, in this process and what it forks, if it can open tokens; with a folder, as others found there."""
    if "hsm_service.tokens" not in sys.modules:
        return
    from hsm_service import pkcs11_module, probe

    really = pkcs11_module.Pkcs11Module.capabilities_of

    def capabilities_of(self: Pkcs11Module, token: pkcs11.Token, look: Callable[[], Capabilities]) -> Capabilities:
        known = (self.path, token.model, str(token.firmware_version), str(token.hardware_version), probe.probe)

        def once() -> Capabilities:
            if known not in found:
                if shared is not None and self.path in map(Path, pkcs11_module._USUAL_PLACES):
                    found[known] = _as_others(shared, repr(known[:-1]), look)
                else:
                    found[known] = look()
            return found[known]

        return really(self, token, once)

    pkcs11_module.Pkcs11Module.capabilities_of = capabilities_of  # type: ignore[assignment,method-assign]


def _as_others(shared: Path, name: str, look: Callable[[], Capabilities]) -> Capabilities:
    kept = shared / f"capabilities-{sha256(name.encode()).hexdigest()}"
    if not kept.exists():
        mine = kept.with_name(f"{kept.name}.{os.getpid()}")
        mine.write_bytes(pickle.dumps(look()))
        mine.replace(kept)
    capabilities: Capabilities = pickle.loads(kept.read_bytes())  # noqa: S301  # our own, of a moment ago
    return capabilities
