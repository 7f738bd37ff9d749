"""Writes a merged model to disk, as a Hugging Face folder."""
