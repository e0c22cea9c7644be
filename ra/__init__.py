"""The registration authority: applications, evidence, officers' decisions, and the way to the CA.

Every way in (REST today) ends at one choke point, `ra.workflow`; nothing else changes the state of an application.
"""
