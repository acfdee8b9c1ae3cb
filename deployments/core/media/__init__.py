"""Uploads of every kind become samples: what the bytes are, and the sound in them decoded.

PyAV is imported in `decode.py`, `guards.py` and `mixing.py` alone.
"""
