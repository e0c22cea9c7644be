"""The Certification Practice Statement as data, and the one pure function that judges a case by it.

`load_pack` reads a policy pack, a `Dossier` carries everything about one application, `decide` says whether it may be
certified. RA, CA and HSM service call the same function on the same bytes; none of them trusts another's status column.
"""
