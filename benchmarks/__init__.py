"""`python -m benchmarks NAME`: what is measured, and how.

May import every package of the repository; only tests import this one.
"""
