"""One list: its pages, read in turn or ahead, its cursors, and many lists merged."""
