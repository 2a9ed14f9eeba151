"""Chat: scenes of questions and answers, and the one template that writes them out."""
