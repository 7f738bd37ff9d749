"""Rules that turn traced operations into kernel operations, one family of operations a module.

A rule is a function of the scope, the traced node and its lowered arguments. It returns a Value, or
what gives several of them, and raises NotFusable (by scope.fail) for what kernels cannot run.
"""
