"""A pool of workers, each a process of its own: idle ones pull jobs, dead ones are replaced."""
