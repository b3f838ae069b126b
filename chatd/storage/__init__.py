"""What is kept: the journal, the main database and reads from it. Layer: drivers and chatd.errors only."""
