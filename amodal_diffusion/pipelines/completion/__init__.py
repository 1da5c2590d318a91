"""Pipelines that complete masks, and the contract that they share."""
