"""Connectors that are no lines of a switch, and how all of them come out of the settings.

authoriser    an HTTP service that speaks JSON (`shetab.json_form`)
answers       what came back of it, judged
building      settings to connectors and routes
"""
