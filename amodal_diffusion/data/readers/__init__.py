"""Readers of annotation files, one file for each format, into rows of one schema."""
