"""Files on disk: downloads that are resumed, and directories that change as a whole."""
