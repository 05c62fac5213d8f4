"""Files on disk: downloads that resume, atomic writes, and sets of files replaced as a whole."""
