"""Lines to a switch or a host that speaks ISO 8583 over TCP.

settings      where they lead, how many there are, how much may be under way on them
tls           what is around a line where the agreement asks for it
line          one connection: connect, sign on, echo, read, write, come back
in_flight     the requests of all lines that wait for their answer, by what an answer must have in common with them
intake        from bytes that came to an answer that is believed, or to a count of why not
link          the lines together, as a `gateway.ports.Connector`: `SwitchLink`
meters        numbers of each line for the metrics and for people
alarms        no line up, too few of them for too long
routes        the operator's routes

What keeps a payment from believing the wrong thing, in the order in which an incoming message meets it:

1. it has a form: it decodes under the dialect, in the direction from the switch;
2. its MAC is verified by the token over the bytes as they came; nothing that it says is believed, kept or shown
   before. Who waits for it may have this done together with the signature of what follows from it (`judge`): the key
   service signs only after the MAC, and what was drafted from a message with a wrong one is dropped with it;
3. it is no request of our own that was sent back (its MAC is right); another request is served;
4. it is the answer to a request in flight: same MTI class, STAN, local time and date, acquirer, RRN, terminal;
5. it repeats what its request said: PAN, processing code, amount, currency and the rest of the echo table.

The form is looked at before the MAC because a MAC costs a call of the token, and junk must not be able to buy those.
That is safe: decoding is pure, it uses no key (so its timing says nothing of one), it allocates by the length that the
frame had, and what it yields is dropped unless the MAC is right. Well-formed messages with wrong MACs do cost a call;
a line that has brought many in a row without a good one is closed, and comes back after a pause that grows.

Whatever fails at 1 or 2 is dropped and counted, as if it had never come: the request it may have meant to answer runs
into its deadline, and an outcome that nobody can vouch for is reversed. Whatever passes 1 and 2 but answers nothing
(late, repeated, foreign) is filed (`on_unclaimed`). An answer may come on another line than its request went out on.
"""
