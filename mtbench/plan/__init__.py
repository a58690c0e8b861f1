"""From a study to what is trained: cells, settings, trials, and the rules that select among results."""
