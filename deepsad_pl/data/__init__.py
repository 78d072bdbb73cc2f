"""From files to batches; nothing here knows a method."""
