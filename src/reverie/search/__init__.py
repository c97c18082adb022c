"""Finding the rows most like a vector: exactly, or approximately where there are very many."""
