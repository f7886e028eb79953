"""Coarser values of the same type: hours instead of seconds, cells instead of points, buckets instead of numbers."""
