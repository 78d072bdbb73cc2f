"""Helpers that every subpackage may use: errors, files, the console, names looked up in source files."""
