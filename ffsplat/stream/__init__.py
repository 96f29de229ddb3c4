"""Online: frames of a camera in, a bounded map of Gaussians with meaning out, for hours."""
