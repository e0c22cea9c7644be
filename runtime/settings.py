"""Settings: one TOML file in the installation's home, overridden by `KWBP_…` variables; secrets only by path.

The home folder of an installation:

    kwbp.toml       these settings
    secrets/        token PINs, key passphrases, zone-key components, each a file of mode 0600
    tokens/         SoftHSM2 object stores, the root's apart from the services'
    tls/            keys and certificates of the services' own TLS
    pki/            root.pem, cas/*.pem: what every party pins and builds paths from
    cps/            published versions of the Certification Practice Statement after the first
    db/  audit/  log/
    notices/        mail of the registration authority, if it has no mail server: a Maildir
    witness/        of the witness alone, if it runs here
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, field_validator

from runtime.client import TlsFiles
from runtime.flood_settings import FloodSettings
from runtime.line_settings import Address, ConnectorName, ConnectorSettings, LineLimits, LineTls, RouteSettings
from runtime.notice_settings import NoticesSettings
from runtime.token_bucket import Rate
from runtime.zone_settings import ZoneSettings

ENV_PREFIX: Final = "KWBP_"
HOME_VARIABLE: Final = "KWBP_HOME"


class SettingsError(Exception):
    """The settings file or an environment variable is not as expected."""


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of one installation."""

    path: Path

    @classmethod
    def find(cls, given: Path | None = None) -> Home:
        """The home given, else `KWBP_HOME`, else `var/kwbp` below the working directory."""
        return cls((given or Path(os.environ.get(HOME_VARIABLE, "var/kwbp"))).absolute())

    @property
    def config(self) -> Path:
        return self.path / "kwbp.toml"

    def dialect(self, named: str) -> str:
        """A dialect of the settings as `shetab.dialect` takes it: the path of a file is below the installation."""
        return str(self.path / named) if named.endswith(".yaml") else named

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def tokens(self) -> Path:
        return self.path / "tokens"

    @property
    def tls(self) -> Path:
        return self.path / "tls"

    @property
    def pki(self) -> Path:
        return self.path / "pki"

    @property
    def db(self) -> Path:
        return self.path / "db"

    @property
    def audit(self) -> Path:
        return self.path / "audit"

    @property
    def notices(self) -> Path:
        """Mail of the registration authority, where there is no mail server."""
        return self.path / "notices"

    @property
    def cps(self) -> Path:
        """The published versions of the Certification Practice Statement after the first (`statements`)."""
        return self.path / "cps"

    @property
    def witness(self) -> Path:
        """The folder of a witness that runs on this machine; in production another user's."""
        return self.path / "witness"

    @property
    def log(self) -> Path:
        return self.path / "log"

    def create(self) -> None:
        """Make the folders, for this user alone."""
        for folder in (self.path, self.secrets, self.tokens, self.tls, self.pki, self.db, self.audit, self.log):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def trust_anchors(self) -> Path:
        """The root certificate that every party of this installation pins."""
        return self.pki / "root.pem"

    def tls_files(self, name: str) -> TlsFiles:
        """The TLS certificate chain and key of the service or person `name`, and what it trusts."""
        return TlsFiles(self.tls / f"{name}.pem", self.tls / f"{name}.key", self.trust_anchors)


Port = Annotated[int, Field(ge=1, le=65535)]
_PortOrAny = Annotated[int, Field(ge=0, le=65535)]  # 0: any free port


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Endpoint(_Section):
    """Where a service listens and how others reach it."""

    host: str = "127.0.0.1"
    port: Port
    tls: bool = True

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"


class HsmSettings(Endpoint):
    """The HSM service: its clocks and deadlines, in seconds."""

    port: Port = 7100
    key_check_interval: float = Field(default=60.0, gt=0, description="between two looks at every key in its token")
    self_test_interval: float = Field(default=5.0, gt=0, description="between two signatures of each probe key")
    self_test_patience: float = Field(default=2.0, gt=0, description="a token that has not signed by then is not well")
    call_deadline: float = Field(default=3.0, gt=0, description="longer, and the token's process hangs: it is killed")
    slow_call_deadline: float = Field(default=120.0, gt=0, description="the same for making a key")
    start_deadline: float = Field(default=30.0, gt=0, description="for starting a token's process and logging in")
    notice: float = Field(default=0.5, ge=0, description="between 'not ready' and the end of listening")
    drain: float = Field(default=8.0, gt=0, description="for the answers of what was begun before the end")
    last_calls: float = Field(default=3.0, gt=0, description="call_deadline, once the service was told to end")


class _WithDatabase(Endpoint):
    """A service with a database that replicas may share."""

    database: str | None = Field(
        default=None,
        description="URL, postgresql: or sqlite:, without a password (`?passfile=`, `?service=`); none: a file in db/",
    )

    @field_validator("database")
    @classmethod
    def _holds_no_password(cls, url: str | None) -> str | None:
        # Here already, because settings are shown and logged.
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme.split("+")[0] not in {"postgresql", "sqlite"}:
                raise ValueError("the URL of a PostgreSQL or SQLite database is expected")
            if parts.password is not None or "password" in parse_qs(parts.query):
                raise ValueError("a password is not part of the URL: name a passfile or a service of libpq's")
        return url


class CaSettings(_WithDatabase):
    """The certificate authority: where it listens, and its database."""

    port: Port = 7110


class RaSettings(_WithDatabase):
    """The registration authority: where it listens, its database, and what stands in front of it."""

    port: Port = 7120
    proxies: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="networks of proxies in front of it, whose X-Forwarded-For is believed"
    )


class OrderAlarms(_Section):
    """Beyond these the operator is told, by an alarm in the log and a metric."""

    unknown: int = Field(default=100, gt=0, description="orders whose outcome is open")
    reversal_age: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0), description="of the oldest reversal")
    attempts: int = Field(default=20, gt=0, description="of one reversal")
    failed: int = Field(default=1, gt=0, description="reversals that a person must look at")


class GatewaySettings(_WithDatabase):
    """The payment gateway: its identity in the protocol, its database, and the clocks of an order (seconds)."""

    port: Port = 7140
    public_port: Port | None = Field(
        default=None, description="where cards ask about their purchases, without a certificate; none: they cannot"
    )
    gateway_id: str = "GW-1"
    acquirer_bin: str = "603770"
    connectors: dict[ConnectorName, ConnectorSettings] = Field(
        default_factory=dict, description="hosts that authorise, beside the switch"
    )
    routes: RouteSettings = Field(default=RouteSettings(), description="which cards go to which of them")
    floods: FloodSettings = Field(default=FloodSettings(), description="how much merchants and cards may ask at once")
    notice: float = Field(default=0.5, ge=0, description="between 'not ready' and the end of listening")
    dialect: str = Field(
        default="shetab87_ascii",
        description="dialect of ISO 8583 towards the switch: the name of one, or its .yaml file below the installation",
    )
    answer_timeout: float = Field(default=25.0, gt=0, description="T1: no 0210 after this long is outcome unknown")
    ack_timeout: float = Field(default=900.0, gt=0, description="T_ack: no AuthAck after this long reverses the order")
    lease: float = Field(
        default=30.0,
        gt=0,
        description="how long what another replica works on is left to it, though it is not heard of",
    )
    reversal_interval: float = Field(default=5.0, gt=0, description="first pause between repeats of a reversal")
    reversal_longest_pause: float = Field(default=300.0, gt=0, description="longest pause between repeats")
    reversal_attempts: int = Field(default=1000, gt=0, description="after so many attempts a person must look")
    reversal_age: timedelta = Field(
        default=timedelta(days=1), gt=timedelta(0), description="at this age an attempt that fails is the last one"
    )
    hold_kept: timedelta = Field(
        default=timedelta(days=28),
        gt=timedelta(0),
        description="how long after its acknowledgement what nobody captures of a hold is given back; at the latest,"
        " when nine tenths of card_kept are over",
    )
    limits: Path | None = Field(default=None, description="file of limits (YAML); none: orders are not limited")
    alarms: OrderAlarms = Field(default=OrderAlarms(), description="when the operator is told of orders")
    settlement_fee: int = Field(
        default=0, ge=0, description="rial that the acquirer keeps of each sale and capture (settlement advice)"
    )
    fees: Path | None = Field(
        default=None,
        description="file of fees by merchant, category and date (gateway.acquirer.fees), in place of settlement_fee",
    )
    list_keys: dict[str, Path] = Field(
        default={},
        description="by route: PEM of the public key that its network signs settlement lists with; without one for"
        " 'switch' it is the simulator's own, pki/switch-lists.pem",
    )
    list_folders: dict[str, Path] = Field(
        default={}, description="by route: folder that its network's settlement lists appear in; they are imported"
    )
    list_due: timedelta = Field(
        default=timedelta(hours=12),
        gt=timedelta(0),
        description="how long after a day is over for a network its list is missed, where there is a folder",
    )
    payer_iban: str | None = Field(
        default=None, max_length=26, description="the acquirer's account that merchants are paid from"
    )
    payer_name: str = Field(default="KWBP acquirer", max_length=70, description="its holder")
    payer_bic: str | None = Field(default=None, pattern=r"^[A-Z0-9]{8}([A-Z0-9]{3})?$", description="its bank")
    dual_control: Literal["officers", "console", "off"] = Field(
        default="officers",
        description="whose halves count where two persons are needed: of officers alone, or the console's too; off: one"
        " person may make and send a payment file",
    )
    card_kept: timedelta = Field(
        default=timedelta(days=90),
        gt=timedelta(0),
        description="how long after its acknowledgement an order can be captured, credited or reversed: until then its"
        " PAN is kept, sealed",
    )
    status_max_age: float = Field(default=0.0, ge=0, description="how old a look at the CA's status may be")
    key_change_at_sign_on: bool = Field(
        default=True, description="whether the first sign-on of a run asks the switch for new zone keys"
    )
    key_lifetime: timedelta = Field(
        default=timedelta(days=1), gt=timedelta(0), description="age at which a zone key is changed"
    )
    key_overlap: timedelta = Field(
        default=timedelta(seconds=60),
        gt=timedelta(0),
        description="how long the zone MAC key before is believed; then the old keys are destroyed (key service)",
    )
    key_tick: float = Field(default=15.0, gt=0, description="how often the age of the zone keys is looked at")

    @property
    def public_url(self) -> str | None:
        """Where cards ask; None if they cannot."""
        return None if self.public_port is None else f"https://{self.host}:{self.public_port}"


class PasswordSettings(_Section):
    """One-time passwords that the banks behind the simulator send (رمز پویا)."""

    digits: int = Field(default=7, ge=5, le=8)
    lifetime: timedelta = Field(default=timedelta(minutes=2), gt=timedelta(0), le=timedelta(minutes=10))
    rate: Rate = Field(default=Rate(burst=5, every=timedelta(minutes=1)), description="passwords for one card")
    static_pin2: bool = Field(default=True, description="whether PIN2 pays with cards that have no rule of their own")


class SwitchSettings(_Section):
    """The switch: ISO 8583 over TCP, and the loopback port of the simulator's controls."""

    host: str = "127.0.0.1"
    port: _PortOrAny = 7150
    admin_port: _PortOrAny = 7151
    length_prefix: int = Field(default=2, description="bytes of the length prefix, 2 or 4")
    connections: int = Field(default=1, ge=1, le=32, description="lines of the gateway to each address")
    also: tuple[Address, ...] = Field(default=(), description="further addresses of the same switch, host:port")
    lines: LineLimits = LineLimits()
    tls: LineTls | None = Field(default=None, description="mutual TLS around the lines; none: there is none")
    authoriser_port: _PortOrAny | None = Field(
        default=None, description="where the simulator's banks answer JSON over HTTPS; none: they do not"
    )
    authoriser_mac: bool = Field(default=False, description="whether that JSON must carry a MAC by the zone key")
    dialect: str = Field(
        default="shetab87_ascii",
        description="dialect of ISO 8583 of the simulator: the name of one, or its .yaml file below the installation",
    )
    registrations: Rate = Field(
        default=Rate(burst=5, every=timedelta(hours=4)), description="attempts to register one card"
    )
    zone: ZoneSettings = ZoneSettings()
    passwords: PasswordSettings = PasswordSettings()
    key_overlap: timedelta = Field(
        default=timedelta(seconds=60), gt=timedelta(0), description="how long a zone key is good after it was replaced"
    )


class RegistersSettings(Endpoint):
    """The simulated registers of the outside world: where they listen."""

    port: Port = 7152


class IdentitySettings(_Section):
    """Where the RA asks about applicants, by the kinds of the CPS's checks: https addresses.

    A register without an address never answers, and a case shows after a while that it stayed silent.
    """

    national_code: str | None = None
    company_register: str | None = None
    iban_owner: str | None = None
    messages: str | None = Field(default=None, description="the gateway of short messages, for codes to phones")

    @field_validator("national_code", "company_register", "iban_owner", "messages")
    @classmethod
    def _over_tls(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith("https://"):
            raise ValueError("what identifies people goes over TLS alone: an https address is expected")
        return url


class MerchantSettings(Endpoint):
    """A merchant server run by this installation."""

    port: Port = 7160
    merchant_id: str
    name: str
    terminal_id: str
    key: str | None = Field(
        default=None, description="name of the token key; none for a merchant with its own key file"
    )
    catalogue: Path | None = None


class TokenSettings(_Section):
    """A token that is not where the default layout has it; what the URI means is hsm_service.token_source's part."""

    uri: str = Field(description="PKCS#11 URI (RFC 7512): token, pin-source, module-path")
    configuration: Path | None = Field(default=None, description="configuration file of SoftHSM2")

    @field_validator("uri")
    @classmethod
    def _holds_no_pin(cls, uri: str) -> str:
        # Here already, because settings are shown and logged.
        if not uri.lower().startswith("pkcs11:") or "pin-value" in uri.lower():
            raise ValueError("a pkcs11: URI without pin-value is expected; name a pin-source instead of a PIN")
        return uri


class Settings(_Section):
    """Everything a service needs to know that is not a secret."""

    hsm: HsmSettings = HsmSettings()
    ca: CaSettings = CaSettings()
    repository: Endpoint = Endpoint(port=7111, tls=False)
    ra: RaSettings = RaSettings()
    notices: NoticesSettings = NoticesSettings()
    witness: Endpoint = Endpoint(port=7130, tls=False)
    gateway: GatewaySettings = GatewaySettings()
    switch: SwitchSettings = SwitchSettings()
    registers: RegistersSettings = RegistersSettings()
    identity: IdentitySettings = IdentitySettings()
    merchants: dict[str, MerchantSettings] = Field(default_factory=dict)
    tokens: dict[str, TokenSettings] = Field(default_factory=dict)

    @classmethod
    def load(cls, home: Home, environment: dict[str, str] | None = None) -> Self:
        """Read `kwbp.toml` of `home`; `KWBP_<SECTION>__<FIELD>` overrides a field. Raises SettingsError."""
        document: dict[str, Any] = {}
        if home.config.exists():
            try:
                document = tomllib.loads(home.config.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise SettingsError(f"{home.config} is not TOML: {error}") from None
        for variable, value in (os.environ if environment is None else environment).items():
            if variable.startswith(ENV_PREFIX) and "__" in variable:
                _put(document, variable.removeprefix(ENV_PREFIX).lower().split("__"), value)
        try:
            return cls.model_validate(document)
        except ValueError as error:
            raise SettingsError(f"{home.config} or a KWBP_ variable is not as expected:\n{error}") from None


def _put(document: dict[str, Any], path: list[str], value: str) -> None:
    for part in path[:-1]:
        document = document.setdefault(part, {})
        if not isinstance(document, dict):
            raise SettingsError(f"a KWBP_ variable names a field below {part}, which is none of its own")
    document[path[-1]] = value
