"""Whisper: speech recognition where no Paraformer weights can be had.

May import `core` and the files that all engines share.
"""
