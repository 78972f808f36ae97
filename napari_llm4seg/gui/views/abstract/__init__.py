"""What the docks show and what a person can do in them, without saying how it is drawn: one module per part."""
