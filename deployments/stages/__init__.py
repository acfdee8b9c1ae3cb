"""The deployments that run an engine: VAD, ASR and punctuation, one file each.

May import `engines`, `weights`, `core`, `config` and `cluster.profiles`. No stage imports another.
"""
