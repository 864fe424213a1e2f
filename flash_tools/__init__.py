"""A person at a bench: mint identities, build the images for a node's flash."""
