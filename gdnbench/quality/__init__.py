"""Whether models still compute what they computed: fingerprints in float64, and short trainings, by stored values."""
