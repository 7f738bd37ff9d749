"""What is done to each tensor: made, answered, priced, carried out."""
