"""The paper's studies: which experiments they consist of, how far they are, and running the missing ones."""
