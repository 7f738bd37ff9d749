"""Many candidates: prepare, find twins, ask, decide, race."""
