"""What stands before the gateway's keys: how often a merchant may ask, how much is worked on at once, who is answered.

admission   HTTP: a rate for each merchant, fair turns among them, shed load, the end of a gateway
reception   the frame of every protocol message: read, handed on, refused in one place
believable  whether a message was signed by whom it says: only such a one is refused by a signed Error
settings    the limits, as data
"""
