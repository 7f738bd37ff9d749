"""Runs hostile Python functions, each in a locked child that a zygote with torch preloaded forks.

This file imports nothing: the zygote must have one thread when it enters its namespaces, and
importing torch starts others.
"""
