"""Releases that keras-gan was tested with, by their first two numbers.

The packages that follow their own schedule and have broken code like ours before. All tested
releases are in constraints.txt of the sources; a test holds these equal to it.
"""

TESTED = {"tensorflow": "2.21", "keras": "3.15"}
