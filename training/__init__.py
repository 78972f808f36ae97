"""Research recipes, the study and their reports: data, no model, no loop, no loss; not part of the wheel."""
