"""Where an officer's own key is: a PKCS#11 URI (RFC 7512) of a token or smart card. Opening it: `officer_token`.

pkcs11:token=Officer;object=officer-1?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/home/me/pin
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, Self

from hsm_service.token_uri import TokenUri, TokenUriError

_HONOURED: Final = frozenset({"token", "serial", "object", "id", "type", "pin_source", "module_path"})
_TYPES: Final = (None, "private")


@dataclass(frozen=True, slots=True)
class OfficerTokenPlace:
    """Where an officer's key is; `configuration` is SoftHSM2's configuration file, for tokens in software."""

    uri: TokenUri
    configuration: Path | None = None

    @classmethod
    def parse(cls, uri: str, configuration: Path | None = None) -> Self:
        """Raises TokenUriError for a URI that does not name a private key, or that narrows in a way we cannot keep."""
        parsed = TokenUri.parse(uri)
        extra = [
            each.name.replace("_", "-")
            for each in fields(parsed)
            if each.name not in _HONOURED and getattr(parsed, each.name) is not None
        ]
        if extra:
            raise TokenUriError(f"{', '.join(extra)} cannot be held to; name token, serial, object, id")
        if parsed.type not in _TYPES:
            raise TokenUriError("type is not private: it is the key that is named")
        return cls(parsed, configuration)

    def naming(self, *, token: str, label: str, cka_id: bytes) -> OfficerTokenPlace:
        """This place, naming this very key."""
        return replace(self, uri=replace(self.uri, token=token, object=label, id=cka_id))
