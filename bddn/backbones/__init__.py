"""Backbones: frozen networks that return the tokens of their layers for a batch of images."""
