"""What the package costs, beside the obvious other way to do the same; run from a checkout, see the README here."""
