"""The cluster: its GPUs, its autoscaling policy, and the operator's commands.

The running service uses the files here. The rooms below hold the commands. May import
`deployments.core` and `deployments.config`.
"""
