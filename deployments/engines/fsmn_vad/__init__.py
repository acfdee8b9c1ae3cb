"""FSMN-VAD: where speech is in a recording.

May import `core` and the files that all engines share.
"""
