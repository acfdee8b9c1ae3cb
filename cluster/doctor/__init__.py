"""`python -m cluster doctor`: finds what would keep this machine from serving, with remedies.

May import the other files of `cluster`, `deployments.core`, `deployments.config` and
`deployments.weights`.
"""
