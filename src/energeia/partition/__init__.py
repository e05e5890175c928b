"""Partition functions: log Z, and what is known of its error."""

from energeia.partition.exact import exact_log_z

__all__ = ["exact_log_z"]
