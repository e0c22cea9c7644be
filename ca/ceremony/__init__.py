"""Ceremonies: plan (pure), rehearse and run (in tokens), resume or undo (from the journal), verify (offline). CPS 6."""

from ca.ceremony.act_plans import plan
from ca.ceremony.acts import Act, founding_ceremony, load_act, load_ceremony, ready_made
from ca.ceremony.model import Ceremony, OfficerEntry, ServiceEntry
from ca.ceremony.plan import Plan, Step
from ca.ceremony.run import Founded, resume, run
from ca.ceremony.standing import NOTHING, Standing, read_standing
from ca.ceremony.transcript import Entry, Transcript, read_transcript
from ca.ceremony.undo import State, Undone, state, undo
from ca.ceremony.verify import Verified, verify

__all__ = [
    "NOTHING",
    "Act",
    "Ceremony",
    "Entry",
    "Founded",
    "OfficerEntry",
    "Plan",
    "ServiceEntry",
    "Standing",
    "State",
    "Step",
    "Transcript",
    "Undone",
    "Verified",
    "founding_ceremony",
    "load_act",
    "load_ceremony",
    "plan",
    "read_standing",
    "read_transcript",
    "ready_made",
    "resume",
    "run",
    "state",
    "undo",
    "verify",
]
