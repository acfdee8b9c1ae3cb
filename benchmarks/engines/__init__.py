"""Each engine against FunASR's own on a CPU, and the padding in a replica's batches.

May import `benchmarks.material`, `benchmarks.machine` and `benchmarks.results`.
"""
