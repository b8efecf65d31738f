"""The page of a run: a function for each section, from the files of the run's folder."""
