"""`python -m cluster simulate`: the production scheduler on a simulated fleet. Pure.

May import `cluster.profiles`, `cluster.autoscaling`, `deployments.core` and `deployments.config`.
"""
