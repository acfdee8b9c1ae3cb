"""Tests of jobs: their rows, leases, journal, worker and webhooks."""
