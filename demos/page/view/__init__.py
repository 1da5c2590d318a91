"""What the page shows of a visitor's work: the values of its picture and its lists, and drawings. No networks."""
