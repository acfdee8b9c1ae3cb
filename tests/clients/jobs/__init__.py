"""Tests of jobs over every transport."""
