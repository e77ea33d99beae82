"""Set up everything on a Prefect server: `prefect-bluesky setup --notify slack-webhook/alerts`.

Registers the blocks, creates the work pool, deploys the flows in `prefect.yaml` with their schedules and concurrency
limits, and creates the automations. Every further run undoes manual changes. `--check` changes nothing and prints the
differences. `prefect-bluesky setup` does the same.
"""

from prefect_bluesky.setup import main

if __name__ == "__main__":
    main()
