"""Time for one meta-step, side by side with other libraries."""
