"""The pictures of the report, by subject."""
