"""Pictures of what the pipeline made."""
