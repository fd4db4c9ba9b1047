"""Image generation by denoising diffusion."""
