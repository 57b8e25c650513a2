"""Keep the corpus right: bring what is new at a source's publisher into it, file by file."""
