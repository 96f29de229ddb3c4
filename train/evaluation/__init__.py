"""What the cards of models report: a checkpoint on clips, beside what needs no network."""
