"""Measuring it: corpus, model, training, records, claims."""
