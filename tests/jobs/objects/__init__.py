"""Tests of object storage, and of the recordings that jobs fetch."""
