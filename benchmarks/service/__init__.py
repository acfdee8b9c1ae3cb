"""The whole service over HTTP: against FunASR's server, on long recordings, memory, accuracy.

May import `benchmarks.material`, `benchmarks.machine` and `benchmarks.results`.
"""
