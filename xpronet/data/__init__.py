"""Studies and their reports, the pack of their images, and batches of both."""
