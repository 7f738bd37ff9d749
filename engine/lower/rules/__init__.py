"""How each traced operation becomes kernel operations: one family of operations a module."""
