"""Experiments in the archive: written once, found, understood, compared, fetched and repaired."""
