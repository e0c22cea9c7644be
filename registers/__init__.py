"""The outside world of identity checks, simulated: registers that answer questions, and a gateway of short messages.

A service of its own, over mutual TLS, with a database of its own. Its people, companies and accounts are made up: no
record is a real person's. What it speaks stands in `registers.app`; faults on demand in `registers.faults`.
"""
