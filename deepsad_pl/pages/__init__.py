"""HTML pages: the self-contained page of a run, and the frame, tables and charts that all pages share."""
