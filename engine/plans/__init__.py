"""Plans say what is done to each tensor: they are made, priced, surveyed and run here."""
