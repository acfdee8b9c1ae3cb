"""The endpoints of transcription jobs."""
