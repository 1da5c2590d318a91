"""The published flow of SDAmodal, and components of the size of Stable Diffusion with random weights."""
