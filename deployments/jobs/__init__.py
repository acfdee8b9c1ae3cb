"""Transcription jobs: long recordings whose work survives every process that does it."""
