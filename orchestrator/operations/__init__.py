"""What keeps an experiment in a person's sight while nobody watches it: alerts."""
