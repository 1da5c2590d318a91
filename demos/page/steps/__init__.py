"""The three steps of the page, each with its parts and with what happens when they are used."""
