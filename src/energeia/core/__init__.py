"""The six ideas: spaces, energies, samplers, objectives, log Z, and what flows between them."""
