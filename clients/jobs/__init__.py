"""Transcription jobs: submitted, followed and fetched, over HTTP and over a Ray handle."""
