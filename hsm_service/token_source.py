"""Where a token of the installation is: its module, the module's configuration, and where its PIN comes from.

By default every token of softhsm_config/layout.toml is in SoftHSM2, with a PIN file in the home's `secrets/`. A section
of kwbp.toml puts one elsewhere:

    [tokens.ca]
    uri = "pkcs11:token=ca?pin-source=credential:ca-pin&module-path=/opt/vendor/lib/libcryptoki2_64.so"

    [tokens.gateway]
    uri = "pkcs11:token=gateway?module-path=/usr/lib/softhsm/libsofthsm2.so"
    configuration = "/srv/kwbp/gateway-softhsm2.conf"

Without `pin-source` the PIN file of the default layout is read; if it was removed after its PIN was split into shares
(`pin_shares`), custodians are asked for them. The URI's token is the label; other attributes of the path are refused,
since nothing here would hold the token to them.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Final, NamedTuple

from hsm_service.errors import TokenNotFound
from hsm_service.pin_shares import ShareError, ShareSet, record_file
from hsm_service.pin_sources import PinFile, PinShares, PinSource, pin_source
from hsm_service.pkcs11_module import find_module
from hsm_service.token_layout import configuration_of, layout, pin_file
from hsm_service.token_uri import TokenUri, TokenUriError
from runtime.settings import Home, Settings, SettingsError

_HONOURED: Final = {"token": None, "pin_source": None, "module_path": None}


class TokenSource(NamedTuple):
    """All that is needed to open a token."""

    module: Path
    """Absolute path of the PKCS#11 module."""
    configuration: Path | None
    """SoftHSM2's configuration file; none for other modules."""
    pin: PinSource


def token_source(home: Home, settings: Settings, label: str) -> TokenSource:
    """Where the token `label` is.

    Raises TokenNotFound if neither the layout nor the settings know it or its module or configuration is not there, and
    SettingsError if its section is not as expected. The PIN is not read.
    """
    section = settings.tokens.get(label)
    if section is None:
        of_group = configuration_of(home, layout().group_of(label))
        return TokenSource(find_module(), _existing(of_group), _own_pin(home, label))
    try:
        uri = TokenUri.parse(section.uri)
        _require_honoured(uri, label)
        pin = _own_pin(home, label) if uri.pin_source is None else pin_source(uri.pin_source, label)
    except ValueError as error:  # TokenUriError is one
        raise SettingsError(f"[tokens.{label}] uri: {error}") from None
    module = find_module() if uri.module_path is None else Path(uri.module_path)
    if not module.is_file():
        raise TokenNotFound(f"token {label!r}: there is no PKCS#11 module {module}")
    configuration = section.configuration
    if configuration is not None and not configuration.is_absolute():
        raise SettingsError(f"[tokens.{label}] configuration: {configuration} is not an absolute path")
    return TokenSource(module, None if configuration is None else _existing(configuration), pin)


def _own_pin(home: Home, label: str) -> PinSource:
    """The PIN file; where it is gone and the record of a split stands in its place, the shares."""
    path, record = pin_file(home, label), record_file(home, label)
    if path.exists() or not record.exists():
        return PinFile(path)
    try:
        return PinShares(label, ShareSet.load(record))
    except ShareError as error:
        raise SettingsError(str(error)) from None


def token_labels(settings: Settings) -> tuple[str, ...]:
    """Labels of all tokens of the installation: those of the layout, then those that only the settings name."""
    ours = [label for group in layout().groups.values() for label in group.tokens]
    return (*ours, *(label for label in settings.tokens if label not in ours))


def _require_honoured(uri: TokenUri, label: str) -> None:
    if uri.token != label:
        raise TokenUriError(f"token is not {label!r}, the name of the section")
    if uri.module_name is not None:
        raise TokenUriError("module-name would be looked for in a search path; give module-path")
    rest = replace(uri, **_HONOURED)
    extra = [each.name.replace("_", "-") for each in fields(rest) if getattr(rest, each.name) is not None]
    if extra:
        raise TokenUriError(f"{', '.join(extra)} cannot be held to; a token is found by its label alone")


def _existing(configuration: Path) -> Path:
    if not configuration.is_file():
        raise TokenNotFound(f"{configuration} is missing: the tokens of this installation were not made yet")
    return configuration
