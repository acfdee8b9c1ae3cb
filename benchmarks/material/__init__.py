"""What benchmarks and tests work on: recordings, synthetic audio, models with random weights.

May import `deployments`, `benchmarks.results` and nothing else of the benchmarks.
"""
