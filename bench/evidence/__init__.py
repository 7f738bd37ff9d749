"""The evidence of docs/results.md: runs of the loop with control arms over several zoos, and their analysis."""
