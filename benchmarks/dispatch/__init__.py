"""The scheduler on unlike GPUs: simulated, on real Ray with sleeping engines, and over a day.

May import `benchmarks.material`, `benchmarks.machine` and `benchmarks.results`. Only `on_ray.py`,
`short_on_ray.py`, `sender.py` and `sleeping_cluster.py` need Ray.
"""
