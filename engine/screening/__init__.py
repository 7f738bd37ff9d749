"""Screens many candidates: prepares them, finds duplicates, asks the engine, decides, races."""
