"""What writes the generated parts of the pages beside it."""
