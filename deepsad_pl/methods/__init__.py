"""What is trained and scored; nothing here knows where data come from."""
