"""Pipelines that fill hidden parts and backgrounds with colour."""
