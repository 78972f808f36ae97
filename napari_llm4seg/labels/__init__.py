"""Label maps after the model or the brush: cleaned up, measured, compared, their classes named."""
