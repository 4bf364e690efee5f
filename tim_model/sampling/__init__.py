"""From noise to latents: transports, schedules, the sampler, large images in stages."""
