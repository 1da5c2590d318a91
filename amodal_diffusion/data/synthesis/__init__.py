"""Training samples made of visible masks and photos: banks, occlusion, holes, regions."""
