"""What every room may use: errors, files, the console, names looked up in source files."""
