"""What a run keeps: candidates, scores, run.db, paired comparison. Nothing here loads torch."""
