"""The engines on a GPU: speed, what bounds it, number formats, memory and several replicas.

May import `benchmarks.engines`, `benchmarks.material` and `benchmarks.results`. Runs without Ray.
"""
