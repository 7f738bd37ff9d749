"""A merged Hugging Face folder on disk."""
