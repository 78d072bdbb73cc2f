"""Pages that one looks at: self-contained HTML of a run, and the frame, tables and charts that pages share."""
