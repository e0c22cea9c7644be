"""A process that holds a token, to be stopped and continued while a call is under way.

    python -m tests.faults.paused_service MODULE HOME

Prints the token's process, signs when told to on standard input, and says how that went and which process serves then.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from hsm_service.errors import HsmError
from hsm_service.pin_sources import PinFile
from hsm_service.supervised import SupervisedToken
from hsm_service.token_layout import configuration_of, pin_file
from runtime.settings import Home
from tests.faults.faulty_module import PATIENCE
from tests.faults.one_token import KEY


def main(module: Path, home: Home) -> None:
    pin = PinFile(pin_file(home, "ca"))
    configuration = configuration_of(home, "service")
    with SupervisedToken("ca", module=module, configuration=configuration, pin=pin, deadline=2.0) as token:
        assert token.wait_healthy(PATIENCE), token.trouble
        ref = token.find(label=KEY)
        assert ref is not None
        print(token.process_id, flush=True)
        sys.stdin.readline()
        became: list[str] = []

        def sign() -> None:
            try:
                token.sign_ecdsa(ref, b"message")
                became.append("signed")
            except HsmError as error:
                became.append(error.slug)

        signing = threading.Thread(target=sign)
        signing.start()
        sys.stdin.readline()
        signing.join(PATIENCE)
        print(*became, token.process_id, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Home(Path(sys.argv[2])))
