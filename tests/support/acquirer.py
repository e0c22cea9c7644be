"""A software acquirer: what a gateway's line does, with file keys, one message at a time. For tests of the switch.

Every value of a message can be changed before it is sent, and the answer is looked at as it came.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from shetab import pin_block, zone_keys
from shetab.dialect import Dialect, Direction
from shetab.framing import Framing
from shetab.jalali import local_time_and_date, transmission_time
from shetab.mac import verify_zone_mac, zone_mac
from shetab.message import Message
from shetab.pin_block import PinBlockFormat
from shetab.subfields import AdditionalData, SecurityControl, ZoneKeyKind
from shetab.types import Rial
from shetab.zone import Zone, ZoneKeyName
from switch.records import IssuedCard
from switch.zone import MAC_KEY_COMPONENTS, MASTER_KEY_COMPONENTS, PIN_KEY_COMPONENTS

ACQUIRER: Final = "603770"
MERCHANT: Final = "M1"


def write_zone_keys(secrets: Path, agreed: Zone | None = None) -> tuple[bytes, bytes]:
    """Make the component files of the zone keys; returns (zone PIN key, zone MAC key)."""
    agreed, keys = agreed or Zone(), []
    files: dict[ZoneKeyName, tuple[str, ...]] = {
        "zone-pin": PIN_KEY_COMPONENTS,
        "zone-mac": MAC_KEY_COMPONENTS,
        "zone-master": MASTER_KEY_COMPONENTS,
    }
    for kind, names in files.items():
        components = [os.urandom(agreed.size(kind)) for _ in names]
        for name, component in zip(names, components, strict=True):
            path = secrets / name
            path.touch(mode=0o600)
            path.write_text(component.hex() + "\n", "ascii")
        keys.append(zone_keys.combine(components))
    return keys[0], keys[1]


@dataclass
class Acquirer:
    """One connection to the switch, signed on by `sign_on`."""

    host: str
    port: int
    pin_key: bytes
    mac_key: bytes
    code: str = ACQUIRER
    terminal: str = "T0000001"
    timeout: float = 10.0
    dialect: Dialect = field(default_factory=lambda: Dialect.load("shetab87_ascii"))
    framing: Framing = field(default_factory=Framing)
    clock: datetime = field(default_factory=lambda: datetime.now(UTC))
    agreed: Zone = field(default_factory=Zone)
    _stan: int = 0

    def __enter__(self) -> Self:
        self._socket = socket.create_connection((self.host, self.port), timeout=self.timeout)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    # --- messages ----------------------------------------------------------------------------------------------------

    def network(self, code: str, institution: str | None = None) -> Message:
        """A 0800 with this DE 70."""
        return Message("0800", {**self._trace(), 33: institution or self.code, 70: code})

    def sale(
        self,
        card: IssuedCard,
        amount: int,
        *,
        block_format: PinBlockFormat | None = None,
        changed: dict[int, str | None] | None = None,
    ) -> Message:
        """An honest 0200 of this card, with the fields of `changed` replaced, or left out if None."""
        trace = self._trace()
        block_format = self.agreed.pin_block_format if block_format is None else block_format
        fields: dict[int, str | None] = {
            **trace,
            2: card.pan.reveal(),
            3: "000000",
            4: Rial(amount).to_de4(),
            14: card.expiry.reveal(),
            17: trace[13],
            18: "5942",
            19: "364",
            22: "010",
            25: "59",
            26: "12",
            32: self.code,
            37: f"{self._stan:012d}",
            41: self.terminal,
            42: self.dialect.pad(42, MERCHANT),
            43: self.dialect.pad(43, "Bookshop"),
            48: AdditionalData(card.cvv2).to_de48(),
            49: "364",
            52: pin_block.seal(block_format, card.pin2, card.pan, self.pin_key, rng=os.urandom).hex().upper(),
            53: SecurityControl(int(block_format)).to_de53(),
            62: f"ORDER {self.code} {self._stan}",
            100: card.pan.bin,
        }
        fields |= changed or {}
        return Message("0200", {number: value for number, value in fields.items() if value is not None})

    def key_request(self, kind: ZoneKeyKind, held: int) -> Message:
        """A 0800 that asks for the key after the one of index `held`."""
        request = self.network("101")
        return Message("0800", {**request.fields, 53: SecurityControl.of_change(kind, held).to_de53()})

    def key_answer(self, sent: Message, rc: str = "00") -> Message:
        """The 0810 to a 0800 with a key."""
        fields = self.dialect.echoed_fields(sent)
        return Message("0810", {**fields, 7: transmission_time(self.clock), 39: rc, 100: sent[33]})

    def next_stan(self) -> str:
        """DE 11 of the next message."""
        self._stan += 1
        return f"{self._stan:06d}"

    def _trace(self) -> dict[int, str]:
        local_time, local_date = local_time_and_date(self.clock)
        return {7: transmission_time(self.clock), 11: self.next_stan(), 12: local_time, 13: local_date}

    # --- the line ----------------------------------------------------------------------------------------------------

    def sign_on(self) -> None:
        """Sign on; the switch must agree."""
        answer = self.ask(self.network("001"))
        if answer[39] != "00":
            raise AssertionError(f"sign-on refused with {answer[39]}")

    def ask(self, request: Message) -> Message:
        """Send a request and return its answer, which must be authentic and repeat the request."""
        self.send(request)
        answer = self.receive()
        self.dialect.check_echo(request, answer)
        return answer

    def sealed(self, message: Message) -> bytes:
        """Bytes of the message with its MAC."""
        raw = self.dialect.encode(message)
        return self.dialect.with_mac(
            raw, zone_mac(self.agreed.mac_algorithm, self.mac_key, self.dialect.mac_input(raw))
        )

    def send(self, message: Message) -> None:
        """Send without waiting."""
        self.send_raw(self.sealed(message))

    def send_raw(self, raw: bytes) -> None:
        """Send bytes as one frame."""
        self._socket.sendall(self.framing.frame(raw))

    def receive(self) -> Message:
        """The next message, which must be authentic."""
        raw = self.receive_raw()
        covered = self.dialect.mac_input(raw)
        if not verify_zone_mac(self.agreed.mac_algorithm, self.mac_key, covered, self.dialect.mac_of(raw)):
            raise AssertionError("wrong MAC")
        return self.dialect.decode(raw, Direction.FROM_SWITCH)

    def receive_raw(self) -> bytes:
        """The bytes of the next frame. ConnectionError if the other side closed, TimeoutError if nothing comes."""
        return self._exactly(self.framing.length(self._exactly(self.framing.prefix_size)))

    def is_silent(self, seconds: float = 0.3) -> bool:
        """True if nothing comes for a while."""
        self._socket.settimeout(seconds)
        try:
            return self._socket.recv(1) == b"never"
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(self.timeout)

    def _exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            chunk = self._socket.recv(count - len(received))
            if not chunk:
                raise ConnectionError("the switch closed the connection")
            received += chunk
        return received
