"""Networks of diffusion pipelines as backbones."""
