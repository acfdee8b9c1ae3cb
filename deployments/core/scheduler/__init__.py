"""The scheduler: which replica recognises which segments, as a state machine without I/O.

May import `core`. Production, the simulator and the tests drive the same code.
"""
