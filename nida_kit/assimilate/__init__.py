"""Assimilation: where priors and observations meet. `incremental` holds the loop, `method` its labelled face."""
