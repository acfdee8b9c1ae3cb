"""Connections to places that users name: which of them are allowed, and the way there.

A URL that a user sends can name the machines around this service. Only `guard.py` opens sockets;
the rest are pure functions. May import `core`.
"""
