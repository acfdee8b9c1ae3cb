"""Finds, downloads and verifies the weights of models, which are pinned by hash.

May import `core`. Knows no Ray, and speaks HTTP only through `httpx`.
"""
