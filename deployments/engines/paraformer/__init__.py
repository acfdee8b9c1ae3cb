"""Paraformer: speech recognition, in PyTorch and on ONNX Runtime.

May import `core` and the files that all engines share.
"""
