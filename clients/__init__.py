"""The clients, with the same methods, types and errors over HTTP and over a Ray handle.

May import only `deployments.core`, so that the clients install without Ray and PyTorch.
"""
