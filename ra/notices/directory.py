"""Who is written to: officers by role, and webhooks, from the settings; applicants from their applications."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ra.notices.contacts import Contact
from ra.notices.kinds import MAIL, WEBHOOK, Channel
from ra.notices.rules import APPLICANT, WAITING
from runtime.language import Language
from runtime.notice_settings import NoticesSettings


@dataclass(frozen=True, slots=True)
class Recipient:
    """One who gets a notice: an address to mail to in a language, or the name of a webhook."""

    channel: Channel
    address: str
    language: Language


class Directory:
    """The addresses of the settings."""

    def __init__(self, settings: NoticesSettings) -> None:
        self._settings = settings
        self.language: Final = Language(settings.language)

    def of_event(
        self, event: str, to: Iterable[str], *, contact: Contact | None, waiting: Sequence[str] = ()
    ) -> list[Recipient]:
        """Who gets an event that goes `to` these; nobody gets it twice."""
        found: dict[tuple[str, str], Recipient] = {}
        roles: list[str] = []
        for each in to:
            if each == APPLICANT and contact is not None:
                found[MAIL, contact.address] = Recipient(MAIL, contact.address, contact.language)
            elif each == WAITING:
                roles.extend(waiting)
            else:
                roles.append(each)
        for person in self._settings.recipients:
            if person.role in roles:
                found.setdefault(
                    (MAIL, person.address), Recipient(MAIL, person.address, Language(person.language or self.language))
                )
        for name, hook in self._settings.webhooks.items():
            if not hook.events or event in hook.events:
                found[WEBHOOK, name] = Recipient(WEBHOOK, name, self.language)
        return list(found.values())
