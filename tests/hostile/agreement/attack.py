"""The moves of the attacker, and of the world it plays with; a run is a list of them.

Each move takes numbers for its choices and does nothing if there is nothing to choose from, so that any list of moves
is a run. The story is told in `Site.trace`.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509

from pki import oids
from tests.hostile.agreement.cast import BUYERS, MAC_KEY, MERCHANTS
from tests.hostile.agreement.forging import Draw, Forger
from tests.hostile.agreement.network import (
    ACK,
    ROUTES,
    TO_MERCHANTS,
    TO_SHOPS,
    TO_WALLETS,
    Call,
    nth,
    type_of,
)
from tests.hostile.agreement.properties import Dishonest
from tests.hostile.agreement.site import GATEWAY, Bought, Plan, Site
from tests.hostile.agreement.switch_line import forged_answer

PAUSES: Final = (1.0, 10.0, 31.0, 61.0, 130.0, 700.0)
"""Seconds that may pass at once: within and beyond ackBy, the window of K7, the invoice's end."""
STEPS: Final = (
    (GATEWAY, "received"), (GATEWAY, "verified"), (GATEWAY, "sent"), (GATEWAY, "answered"), (GATEWAY, "signed"),
    (GATEWAY, "stored"), (GATEWAY, "acknowledged"), (GATEWAY, "reversal-queued"), (GATEWAY, "reversal-attempt"),
    (GATEWAY, "reversal-answered"), (GATEWAY, "reversal-finished"),
    ("M-1", "invoiced"), ("M-1", "ordered"), ("M-1", "requested"), ("M-1", "answered"), ("M-1", "authorised"),
    ("M-1", "acknowledged"), ("M-1", "acked"), ("M-1", "unknown"), ("M-1", "told"), ("M-1", "receipted"),
)  # fmt: skip
"""After which steps the power of a party may fail."""
_RESPONSE_CODES: Final = ("00", "00", "05", "51", "91", "96", "25", "94")


class Attack:
    """One attacker on one site."""

    def __init__(self, site: Site, dishonest: Dishonest) -> None:
        self.site = site
        self.dishonest = dishonest
        self.forger = Forger(site, dishonest)
        self.network = site.network
        self.line = site.line

    def note(self, text: str) -> None:
        self.site.note(f"attacker {text}")

    # --- buyers, and what their messages meet -------------------------------------------------------------------------

    def plan(self, merchant: str, kind: int, choice: int) -> Plan:
        """What the wallet's next messages meet: the shop, nobody, a shop whose answer is lost, or another's words."""

        def lost(message: bytes) -> bytes | None:
            return None

        def unanswered(message: bytes) -> bytes | None:
            self.site.put_to_shop(merchant, message)
            return None

        def at_another_shop(message: bytes) -> bytes | None:
            return self.site.put_to_shop(nth([each for each in MERCHANTS if each != merchant], choice), message)

        def replaced(message: bytes) -> bytes | None:
            self.site.put_to_shop(merchant, message)
            known = self.network.pieces.of_types(TO_WALLETS)
            return nth(known, choice) if known else None

        def twice(message: bytes) -> bytes | None:
            self.site.put_to_shop(merchant, message)
            return self.site.put_to_shop(merchant, message)

        def through(message: bytes) -> bytes | None:
            return self.site.put_to_shop(merchant, message)

        plans: tuple[Plan, ...] = (through, through, through, lost, unanswered, replaced, twice, at_another_shop)
        return nth(plans, kind)  # type: ignore[no-any-return]

    def buy(self, buyer: int, merchant: int, kind: int = 0, choice: int = 0) -> Bought | None:
        shop = nth(MERCHANTS, merchant)
        return self.site.buy(nth(BUYERS, buyer), shop, self.plan(shop, kind, choice))

    def order(self, number: int, kind: int = 0, choice: int = 0) -> None:
        open_ = [each for each in self.site.bought if not each.ordered]
        if open_:
            bought = nth(open_, number)
            self.site.order(bought, self.plan(bought.merchant, kind, choice))

    def resume(self, number: int, kind: int = 0, choice: int = 0) -> None:
        ordered = [each for each in self.site.bought if each.ordered]
        if ordered:
            bought = nth(ordered, number)
            self.site.resume(bought, self.plan(bought.merchant, kind, choice))

    # --- between merchants and gateway --------------------------------------------------------------------------------

    def deliver(self, number: int, *, passes: bool = True) -> None:
        """Let a merchant's message reach the gateway; the answer comes back, or stays with the attacker."""
        if self.network.calls:
            call: Call = nth(self.network.calls, number)
            self.note(f"delivers {call.path} of {call.merchant}" + ("" if passes else ", keeps the answer"))
            self.site.loop.create_task(self.network.deliver(call, passes=passes))
            self.site.settle()

    def drop(self, number: int) -> None:
        if self.network.calls:
            call: Call = nth(self.network.calls, number)
            self.note(f"breaks {call.path} of {call.merchant}")
            call.fail()
            self.site.settle()

    def answer(self, number: int, choice: int) -> None:
        """Answer a merchant with something that was seen or made, or with the bare "taken" of AuthAck."""
        if not self.network.calls:
            return
        call: Call = nth(self.network.calls, number)
        known: list[bytes | None] = [*call.answers, *self.network.pieces.of_types(TO_MERCHANTS)]
        if call.path == ACK:
            return  # HTTP's 204 is no signed word: what TLS does for it, nothing else can
        if known:
            given = nth(known, choice)
            self.note(
                f"answers {call.path} of {call.merchant} with message {self.network.pieces.messages.index(given)}"
            )
            call.give(given)
            self.site.settle()

    def replay(self, choice: int, target: int) -> None:
        """Put any message that was seen to anybody who takes such messages, in anybody's name."""
        messages = self.network.pieces.messages
        if messages:
            self.put(nth(messages, choice), target)

    def put(self, message: bytes, target: int) -> None:
        """Put a message to a shop or to the gateway, by its type."""
        kind = type_of(message)
        name: str = nth(MERCHANTS, target)
        if kind in TO_SHOPS and (kind not in ROUTES or target & 2):
            self.note(f"puts {_name(kind)} to {name}")
            self.site.put_to_shop(name, message)
        elif kind in ROUTES:
            self.note(f"puts {_name(kind)} to the gateway as {name}")
            self.site.put_to_gateway(name, ROUTES[kind], message)

    # --- the line to the switch ---------------------------------------------------------------------------------------

    def pass_request(self, number: int, *, keep: bool = False, passes: bool = True) -> None:
        """Let a frame reach the switch; keep a copy to send it again; let the answer back, or hold it."""
        if self.line.requests:
            frame = nth(self.line.requests, number)
            if not keep:
                self.line.requests.remove(frame)
            self.note(
                f"passes {frame[:4].decode()}"
                + (", keeps a copy" if keep else "")
                + ("" if passes else ", holds the answer")
            )
            self.line.to_switch(frame, passes=passes)
            self.site.settle()

    def drop_request(self, number: int) -> None:
        if self.line.requests:
            frame = nth(self.line.requests, number)
            self.line.requests.remove(frame)
            self.note(f"drops {frame[:4].decode()}")

    def pass_answer(self, number: int) -> None:
        """Let a frame that was held, or any that was seen, reach the gateway."""
        known = [*self.line.answers, *(frame for frame in self.line.seen if frame[2:3] == b"1" or frame[2:4] == b"30")]
        if known:
            frame = nth(known, number)
            self.note(f"passes {frame[:4].decode()} to the gateway")
            self.line.to_gateway(frame)
            self.site.settle()

    def replay_request(self, number: int) -> None:
        """Send any frame of the gateway to the switch again."""
        known = [frame for frame in self.line.seen if frame[:3] in (b"020", b"042")]
        if known:
            frame = nth(known, number)
            self.note(f"repeats {frame[:4].decode()}")
            self.line.to_switch(frame, passes=False)
            self.site.settle()

    def forge_on_the_line(self, number: int, rc: int) -> None:
        """Answer a frame in the issuer's name: under a good MAC if the switch is dishonest, else under a bad one."""
        if self.line.requests:
            frame = nth(self.line.requests, number)
            key = MAC_KEY if self.dishonest is Dishonest.SWITCH else bytes(16)
            code = nth(_RESPONSE_CODES, rc)
            self.note(f"answers {frame[:4].decode()} itself with {code}")
            approval = "A12345" if code == "00" and frame.startswith(b"020") else None
            self.line.to_gateway(forged_answer(frame, rc=code, key=key, approval=approval))
            self.site.settle()

    def cut_the_line(self) -> None:
        self.note("cuts the line to the switch")
        self.line.cut()
        self.site.loop.advance(1)

    # --- forging ------------------------------------------------------------------------------------------------------

    def forge(self, draw: Draw, target: int) -> None:
        """Make a message with the dishonest party's key, and put it where it goes."""
        made = self.forger.forge(draw)
        if made is not None:
            message, what = made
            self.note(f"makes {what}")
            self.network.saw(message)
            named = self.forger.merchant_of(message)
            if named is not None and draw(4):  # in the name of another, it gets no further than the door
                target = (target & 2) | MERCHANTS.index(named)
            self.put(message, target)

    def mix(self, draw: Draw, target: int) -> None:
        """Make a message of parts of others, without any key."""
        made = self.forger.mix(draw)
        if made is not None:
            message, what = made
            self.note(f"makes {what}")
            self.network.saw(message)
            self.put(message, target)

    def certify(self, on: bool) -> None:
        """A dishonest gateway answers for the honest one when merchants ask what to seal to."""
        if self.dishonest is Dishonest.GATEWAY:
            self.note("names GW-2 to merchants" if on else "names nobody to merchants")
            self.network.certificates = self.forger.certificates if on else None
            for merchant in MERCHANTS:
                self.site.restart(merchant)  # forgets the gateway it knew

    def reseal(self, draw: Draw) -> None:
        if self.dishonest is Dishonest.GATEWAY and (what := self.forger.reseal(draw)) is not None:
            self.note(f"makes {what}")

    # --- time and power -----------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        self.site.note(f"{seconds:g} seconds pass")
        self.site.loop.advance(seconds)

    def kill(self, party: int) -> None:
        self.site.restart(nth((GATEWAY, *MERCHANTS), party))

    def arm(self, step: int) -> None:
        """Let the power of a party fail right after a step; it comes back before the next move but one."""
        self.site.raise_the_dead()
        self.site.armed = nth(STEPS, step)

    def keep_from_repository(self, party: int, *, away: bool) -> None:
        """A party cannot learn the status of certificates."""
        name = nth((GATEWAY, *MERCHANTS), party)
        if away is not (name in self.site.cut_off):
            self.note(f"{'keeps' if away else 'gives'} the repository {'from' if away else 'back to'} {name}")
            (self.site.cut_off.add if away else self.site.cut_off.discard)(name)

    def let_through(self, rounds: int = 6) -> None:
        """A stretch of an honest network, so that runs come far."""
        self.site.raise_the_dead()
        self.site.note("the network lets everything through for a moment")
        for _ in range(rounds):
            if not (self.network.calls or self.line.requests):
                break
            while self.line.requests:
                self.line.to_switch(self.line.requests.pop(0), passes=True)
                self.site.settle()
            for call in list(self.network.calls):
                self.site.loop.create_task(self.network.deliver(call, passes=True))
            self.site.settle()


def _name(kind: x509.ObjectIdentifier | None) -> str:
    names = {value: name for name, value in vars(oids).items() if isinstance(value, x509.ObjectIdentifier)}
    return names.get(kind, "?").removeprefix("CT_").removeprefix("MT_") if kind is not None else "?"
