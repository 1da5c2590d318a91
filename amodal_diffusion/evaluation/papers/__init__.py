"""Tables and curves of the papers, with their published numbers."""
