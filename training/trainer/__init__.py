"""The training loop that every `train_*.py` shares. Imports the package; the package never imports this."""
