"""The models: one room for each family, the protocols they fulfil, and the code they share.

May import `core`. Knows no Ray and no HTTP. No family imports another.
"""
