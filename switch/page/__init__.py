"""The simulator's page: what the network looks like, and faults on demand, in a browser on this machine.

app     the routes: signing in, looking, setting faults
view    the HTML, from what is known; no state, no requests
texts   what it says in English and Persian
guard   who may: this machine, this page, whoever holds the token
"""
