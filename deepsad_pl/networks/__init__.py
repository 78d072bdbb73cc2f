"""Encoders, decoders and their layers, as plain torch modules."""
