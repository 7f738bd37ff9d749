"""The rows of `bench`, one module for each, with a function `measure(zoo, update) -> Row`."""
