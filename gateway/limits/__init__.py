"""Limits and velocity: how much, and how often, by card and by merchant. The rules are data, in a file of the operator.

rules         the file's form, and which rules are about an order
watched       the file in force: read at the start, taken up again when it changes
counting      the counters: taken by the transaction that makes an order SENT, given back by the one that takes it back
card_key      the key, in a token, by which one card is told from another without its number
guard         what the path of an order asks of all this
tables        the counters, and which key it was
"""
