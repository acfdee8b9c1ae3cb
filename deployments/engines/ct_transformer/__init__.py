"""CT-Transformer: punctuation marks for recognised words.

May import `core` and the files that all engines share.
"""
