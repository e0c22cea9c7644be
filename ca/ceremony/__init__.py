"""The founding ceremony: plan (pure), run (in the tokens), verify (offline); and the root's later CRLs. CPS 6.1.1."""

from ca.ceremony.model import Ceremony, OfficerEntry, ServiceEntry, founding_ceremony, load_ceremony
from ca.ceremony.plan import Plan, Step, plan
from ca.ceremony.root_crl import renew_root_crl
from ca.ceremony.run import Founded, run
from ca.ceremony.transcript import Entry, Transcript, read_transcript
from ca.ceremony.verify import Verified, verify

__all__ = [
    "Ceremony",
    "Entry",
    "Founded",
    "OfficerEntry",
    "Plan",
    "ServiceEntry",
    "Step",
    "Transcript",
    "Verified",
    "founding_ceremony",
    "load_ceremony",
    "plan",
    "read_transcript",
    "renew_root_crl",
    "run",
    "verify",
]
