"""Spoken numbers of a Chinese text in digits: which words are numbers, and the words written."""
