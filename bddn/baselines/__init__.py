"""Controls without gradients, which an encoder is compared with."""
