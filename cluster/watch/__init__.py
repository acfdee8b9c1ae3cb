"""`python -m cluster top`: a live view of nodes, GPUs, pools and requests.

May import the other files of `cluster`, and `deployments.core`.
"""
