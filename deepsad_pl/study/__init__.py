"""The paper's studies: which experiments they are made of, what became of them, and running what is missing."""
