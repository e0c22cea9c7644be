"""Mail into a folder of this machine, where no mail server is configured: a Maildir, for any reader of such.

notices/tmp/    being written
notices/new/    one file a message, named after its notice: a repeat replaces what nobody has read yet
notices/cur/    what a reader has seen
"""

from __future__ import annotations

import os
from email.message import EmailMessage
from pathlib import Path

from ra.notices.outcome import Delivered, Failed, Outcome


class Spool:
    """The folder; made when it is first needed, for this user alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, mail: EmailMessage, *, sender: str, recipient: str) -> Outcome:
        """Write a message for one recipient: on disk when this returns, whole or not at all."""
        name = str(mail["X-KWBP-Notice-Id"])
        try:
            for part in ("tmp", "new", "cur"):
                (self._folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)
            written = self._folder / "tmp" / name
            descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(b"Return-Path: <%b>\r\nDelivered-To: %b\r\n" % (sender.encode(), recipient.encode()))
                file.write(mail.as_bytes())
                file.flush()
                os.fsync(file.fileno())
            written.replace(self._folder / "new" / name)
            folder = os.open(self._folder / "new", os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            return Failed(f"the folder for mail cannot be written: {os.strerror(error.errno or 0)}", away=True)
        return Delivered()
