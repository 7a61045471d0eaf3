"""What users start by hand."""
