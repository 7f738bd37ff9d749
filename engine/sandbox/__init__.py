"""One hostile Python function per forked, locked-in child of a zygote that has torch preloaded.

Imports nothing here: the zygote must be single-threaded when it enters its namespaces, and importing
torch starts threads.
"""
