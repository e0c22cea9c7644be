"""Orders as operators see them: how they came to be, reversals queued again by a person, outcomes that a person states.

tables        steps of orders, and what persons stated
history       writes a step in the transaction that makes it, reads the life of an order
orders        lists of orders, newest first
commands      what an operator may do to an order, and by which rule not
watching      metrics and alarms about orders
officer_acts  who acts: by their own TLS, or by a signed statement about the one act, which is kept
routes        all of it over HTTP
"""
