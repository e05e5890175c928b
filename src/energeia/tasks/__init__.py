"""What a trained energy is used for: classification and telling foreign data from its own."""
