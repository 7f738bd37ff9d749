"""One module a row; each has `measure(zoo, update) -> Row`."""
