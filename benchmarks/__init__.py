"""Time and memory of the package, compared with the obvious alternative; run from a checkout, see README.md here."""
