"""Items of lists as rows: JSON text, Arrow columns, and what fits neither. No I/O."""
