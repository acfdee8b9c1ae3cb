"""Tests of the door before the endpoints."""
