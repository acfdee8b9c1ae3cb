"""What `make demo` runs: the service on loopback and one recording through it.

May import everything below; nothing imports it.
"""
