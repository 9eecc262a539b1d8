"""The real-stack tests' own producer, oracle and verifier: nothing here calls Driftless code."""
