"""How raw files come here: one module for each way a publisher hands them out."""
