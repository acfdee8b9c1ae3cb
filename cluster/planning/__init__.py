"""`python -m cluster plan`: turns a fleet and its traffic into a `serve_config.yaml`. Pure.

May import `cluster.profiles`, `deployments.core` and `deployments.config`. Only `command.py` may
import Ray.
"""
