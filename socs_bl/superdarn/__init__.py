"""SuperDARN: names, formats and stages of the files that its radars write."""
