"""Time and memory of the package, compared with the obvious alternative; see benchmarks/README.md."""
