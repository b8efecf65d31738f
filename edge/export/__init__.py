"""The model as TFLite files in builtin ops."""
