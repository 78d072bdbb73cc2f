"""What a configuration may say, and what is wrong with it. No torch here."""
