"""One request from end to end: decode, VAD, fan-out over the pools, punctuation, answer.

May import `core`. Gets handles of the other deployments as arguments and imports none of them.
"""
