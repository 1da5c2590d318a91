"""What one visitor has on the page, as immutable values: photo, marks, scene, history. No page, no networks."""
