"""The published versions of the statement in an installation: as files, and as RA, CA and HSM service read them.

    files        the files of one publication; installed at once or not at all
    published    the register of those that hold, kept up to date while a service runs

The judgement is `cps.publication`, which does no I/O; this package does nothing else.
"""
