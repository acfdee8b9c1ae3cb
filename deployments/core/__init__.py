"""Pure functions and values: the standard library and NumPy only (PyAV in `media/`).

May import nothing else of the project, so each file can be tested without Ray, HTTP or a model.
"""
