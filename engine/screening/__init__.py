"""Screens many candidates: prepares them, finds twins, asks the engine, decides, races."""
