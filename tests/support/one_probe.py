"""What the tokens of one module can do is found out once in a process that runs tests, by the first that is asked.

A service opens few tokens, and tries each when it starts. Tests open new tokens by the hundred, all of one SoftHSM2,
and to make the RSA key that each is tried with takes longer than most of them. Services in processes of their own try
their tokens; so do the tests of the probe, and `Token._probe` itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pkcs11

    from hsm_service.capabilities import Capabilities
    from hsm_service.pkcs11_module import Pkcs11Module

found: Final[dict[tuple[object, ...], Capabilities]] = {}
"""By module, model and versions, and by who looked: a test may put another probe in its place."""


def probe_once() -> None:
    """From here on, in this process, if it can open tokens."""
    if "hsm_service.tokens" not in sys.modules:
        return
    from hsm_service import pkcs11_module, probe

    really = pkcs11_module.Pkcs11Module.capabilities_of

    def capabilities_of(self: Pkcs11Module, token: pkcs11.Token, look: Callable[[], Capabilities]) -> Capabilities:
        known = (self.path, token.model, str(token.firmware_version), str(token.hardware_version), probe.probe)

        def once() -> Capabilities:
            if known not in found:
                found[known] = look()
            return found[known]

        return really(self, token, once)

    pkcs11_module.Pkcs11Module.capabilities_of = capabilities_of  # type: ignore[assignment,method-assign]
