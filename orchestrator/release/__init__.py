"""What leaves with a model: the phone bundle with its certificate, the model card, the provenance statement."""
