"""Where the installed command begins: the libraries are loaded without looking for garbage, of which there is none yet.

Loading makes some hundred thousand objects that stay. A collector that walks them again and again takes a sixth of the
time in which a command could have ended; `cli.main` switches it on before anything runs.
"""

from __future__ import annotations

import gc


def main() -> None:
    """The command `kwbp`."""
    gc.disable()
    from cli.main import main as run

    run()
